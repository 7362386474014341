"""A node of one miner in one thread: the RPC of docs/spec/rpc.md over the chain's own rules.

Every transaction that passes is committed at once, in a block of its own. There is no consensus,
no disk and no peer; what the commands of the CLI see is the same.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from aiohttp import WSMsgType, web

from chain import codec
from chain.blobs import chunk_count
from chain.blocks import (
    BLOCK_RECEIPT,
    RECEIPT,
    Block,
    BlockReceipt,
    Header,
    Receipt,
    receipt_leaves,
    render_header,
)
from chain.certificate import (
    CERTIFICATE,
    VOTE_TAG,
    SignedVote,
    VoteCertificate,
    VoteType,
    vote_bytes,
)
from chain.crypto import SigningKey, address_of, signing_key
from chain.errors import DecodeError, Rejection
from chain.federated.records import ROUND_TABLE, SHARES_TABLE
from chain.genesis import (
    Genesis,
    GenesisMiner,
    GenesisOrganisation,
    genesis_header,
    genesis_state,
    render_genesis,
)
from chain.lookback import Lookback
from chain.merkle import inclusion_proof
from chain.miners import MINERS
from chain.parameters import PARAMETERS, Parameters
from chain.records.devices import DEVICE_TABLE
from chain.records.measures import MEASURE_TABLE, MeasureRecord
from chain.records.miners import MINER_TABLE
from chain.records.models import MODEL_TABLE
from chain.records.organisations import ORGANISATION_TABLE
from chain.records.policies import POLICY_TABLE, PolicyRecord
from chain.records.proposals import PROPOSAL_TABLE
from chain.state import MemorySource, State, miner_sets_of, parameters_of
from chain.state_tree import STATE_PROOF
from chain.table import Table
from chain.transactions import PAYLOAD, Transaction, decode_transaction
from chain.transition import BlockExecution, Execution, Tip, advance
from chain.types import Address, Digest, Height, Round, TimestampMs
from node.clock import SystemClock
from node.rpc.render import federated_round, proposal, round_summary

MINER = signing_key("ed25519", b"m" * 32)
NODE = signing_key("ed25519", b"n" * 32)
REGISTRAR = signing_key("p256", b"r" * 32)


def make_genesis(**parameters: Any) -> Genesis:
    return Genesis(
        chain="test",
        time_ms=TimestampMs(SystemClock().wall_ms() - 1_000),
        miners=(
            GenesisMiner(
                name="m0", key=MINER.public, node_key=NODE.public, host="127.0.0.1", port=26756
            ),
        ),
        organisations=(
            GenesisOrganisation(name="acme", registrar_key=REGISTRAR.public, limits=()),
        ),
        parameters=Parameters(**parameters),
        model=None,
    )


class Chain:
    """The committed chain of the fake node."""

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self._source = MemorySource(genesis_state(genesis))
        state = State(self._source)
        self.tip = Tip(header=genesis_header(genesis, state.root), state=state, recent=Lookback())
        self.blocks = [Block(header=self.tip.header, transactions=())]
        self.receipts: list[tuple[Receipt, ...]] = [()]
        self.block_receipts = [BlockReceipt(events=())]
        self.places: dict[str, tuple[int, int]] = {}

    def commit(self, transactions: list[Transaction]) -> None:
        now = max(SystemClock().wall_ms(), self.tip.header.time_ms + 1)
        execution = BlockExecution(
            self.tip,
            proposer=address_of(MINER.public),
            proposal_round=Round(0),
            time_ms=TimestampMs(now),
            verify=lambda transaction, key: transaction.is_signed_by(key),
        )
        for transaction in transactions:
            execution.apply(transaction)
        self._append(execution.finish(), transactions)

    def _append(self, execution: Execution, transactions: list[Transaction]) -> None:
        self._source.apply(execution.delta)
        self.tip = advance(self.tip, execution)
        height = self.tip.header.height
        self.blocks.append(Block(header=self.tip.header, transactions=tuple(transactions)))
        self.receipts.append(execution.receipts)
        self.block_receipts.append(execution.block_receipt)
        for index, transaction in enumerate(transactions):
            self.places[transaction.id.hex()] = (height, index)

    def quarantine(self, device: str) -> None:
        """Put a device under quarantine for an hour, as verdicts would."""
        id = Address(bytes.fromhex(device))
        record = self.tip.state.get(DEVICE_TABLE, id)
        assert record is not None, "the device is registered"
        until_ms = SystemClock().wall_ms() + 3_600_000
        measure = MeasureRecord(
            action="quarantine",
            height=Height(self.tip.header.height),
            until_ms=until_ms,
            judged_height=Height(1),
            model=Digest(bytes(32)),
            judged=Digest(bytes(32)),
            anomalous=30,
            window=100,
            accusers=(),
            appeal=None,
            answer="none",
            answered_height=None,
        )
        stopped = replace(record, status="quarantined", quarantined_until_ms=until_ms)
        delta = {
            DEVICE_TABLE.key(id): DEVICE_TABLE.encode(stopped),
            MEASURE_TABLE.key(id): MEASURE_TABLE.encode(measure),
        }
        self._source.apply(delta)
        self.tip.state.advance(delta, self.tip.state.tree.updated(delta))

    def certificate(self, height: int) -> VoteCertificate | None:
        header = self.blocks[height].header
        if height == 0:
            return None
        message = vote_bytes(
            genesis_hash=header.genesis_hash,
            type=VoteType.COMMIT,
            height=header.height,
            round=Round(0),
            digest=header.hash,
        )
        vote = SignedVote(index=0, signature=MINER.sign(VOTE_TAG, message))
        return VoteCertificate(
            height=header.height, round=Round(0), digest=header.hash, votes=(vote,)
        )


class FakeNode:
    """The routes; `overrides` answers some paths in another way, for the tests of errors."""

    def __init__(self, genesis: Genesis) -> None:
        self.chain = Chain(genesis)
        self.url = ""
        self.overrides: dict[str, list[web.Response]] = {}
        self.requests: list[str] = []
        self.blobs: dict[str, bytes] = {}
        # What it says of each registered model, other than what is true.
        self.model: dict[str, Any] = {}
        self.refuses_large_blobs = False
        self.ready = True
        self.diagnosis = "idle"

    def register(self, key: SigningKey, name: str = "sensor-1", **fields: Any) -> str:
        """Register a device directly, without the RPC; return its id."""
        from chain.kinds.device_registry import DeviceRegister
        from cli.signing import device_sender, registrar_sender

        body = DeviceRegister(
            **{"name": name, "key": key.public, "roles": (), "gateway": None, "limits": None}
            | fields
        )
        sender = registrar_sender(self.chain.genesis, REGISTRAR, None)
        self.chain.commit([sender.sign("device.register", body)])
        return device_sender(self.chain.genesis, key, organisation="acme").address.hex()

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._middleware])
        app.add_routes(
            [
                web.get("/v1/status", self._status),
                web.get("/v1/genesis", self._genesis),
                web.get("/v1/blocks/{reference}", self._block),
                web.post("/v1/transactions", self._submit),
                web.post("/v1/transactions/batch", self._submit_batch),
                web.get("/v1/transactions/{id}", self._transaction),
                web.get("/v1/transactions/{id}/proof", self._proof),
                web.get("/v1/params", self._params),
                web.get("/v1/consensus", self._consensus),
                web.get("/v1/devices", partial(self._page, table=DEVICE_TABLE)),
                web.get("/v1/devices/{id}", self._device),
                web.get("/v1/devices/{id}/proof", self._device_proof),
                web.get("/v1/devices/{id}/budget", self._budget),
                web.get("/v1/devices/{id}/transactions", self._sent),
                web.get("/v1/organisations", partial(self._page, table=ORGANISATION_TABLE)),
                web.get(
                    "/v1/miners",
                    partial(self._page, table=MINER_TABLE, index=0, evidence=None, detector=None),
                ),
                web.get("/v1/models", self._models),
                web.get("/v1/blobs/{id}", self._blob),
                web.put("/v1/blobs/{id}", self._put_blob),
                web.get("/v1/proposals", self._proposals),
                web.get("/v1/proposals/{id}", self._proposal),
                web.get("/v1/policies/{id}", self._policy),
                web.get("/v1/verdicts", self._empty),
                web.get("/v1/evidence", self._empty),
                web.get("/v1/rounds", self._rounds),
                web.get("/v1/rounds/{id}", self._round),
                web.get("/v1/rounds/{id}/shares", self._shares),
                web.get("/v1/rounds/{id}/shares/{device}/proof", self._shares_proof),
                web.get("/v1/rounds/{id}/proof", self._round_proof),
                web.get("/v1/blocks/{reference}/proof", self._block_proof),
                web.get("/v1/measures", self._measures),
                web.get("/v1/events", self._events),
                web.get("/health/ready", self._ready),
            ]
        )
        return app

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        if waiting := self.overrides.get(request.path):
            return waiting.pop(0)
        try:
            answer: web.StreamResponse = await handler(request)
        except Rejection as error:
            status = 429 if error.code == "rate_limited" else 422
            return problem(status, error.code, error.detail)
        except DecodeError as error:
            return problem(400, "malformed", str(error))
        except LookupError as error:
            return problem(404, "not_found", str(error))
        return answer

    async def _status(self, request: web.Request) -> web.Response:
        header = self.chain.tip.header
        return web.json_response(
            {
                "chain_id": self.chain.genesis.chain_id,
                "node_id": address_of(NODE.public).hex(),
                "height": header.height,
                "block_hash": header.hash.hex(),
                "state_root": header.state_root.hex(),
                "time_ms": header.time_ms,
                "round": 0,
                "syncing": False,
                "peers": 0,
                "mempool": 0,
                "version": "0",
            }
        )

    async def _blob(self, request: web.Request) -> web.Response:
        data = self.blobs[request.match_info["id"]]
        start = request.http_range.start
        if start is None:
            return web.Response(body=data)
        return web.Response(body=data[start:], status=206)

    async def _put_blob(self, request: web.Request) -> web.Response:
        id, data = request.match_info["id"], await request.read()
        if self.refuses_large_blobs and len(data) > 10_000:
            return problem(507, "blobs_full", "the blob store is full")
        self.blobs[id] = data
        return web.json_response({"id": id, "size": len(data), "chunks": chunk_count(len(data))})

    async def _genesis(self, request: web.Request) -> web.Response:
        return web.json_response(render_genesis(self.chain.genesis))

    async def _block(self, request: web.Request) -> web.Response:
        reference = request.match_info["reference"]
        blocks = self.chain.blocks
        if reference == "latest":
            block = blocks[-1]
        elif len(reference) == 64:
            found = [b for b in blocks if b.header.hash.hex() == reference]
            if not found:
                raise LookupError("no such block")
            block = found[0]
        elif int(reference) < len(blocks):
            block = blocks[int(reference)]
        else:
            raise LookupError("no such block")
        height = block.header.height
        certificate = self.chain.certificate(height)
        return web.json_response(
            {
                "header": render_header(block.header),
                "transaction_ids": [t.id.hex() for t in block.transactions],
                "certificate": certificate and CERTIFICATE.render(certificate),
                **BLOCK_RECEIPT.render(self.chain.block_receipts[height]),
            }
        )

    async def _submit(self, request: web.Request) -> web.Response:
        transaction = decode_transaction(await request.read())
        self.chain.commit([transaction])
        if request.query.get("wait") == "commit" and self.diagnosis == "idle":
            return web.json_response(self._document(transaction.id.hex()))
        return web.json_response({"id": transaction.id.hex(), "status": "pending"}, status=202)

    async def _submit_batch(self, request: web.Request) -> web.Response:
        wires = codec.decode(await request.read(), what="batch", size_max=4 << 20, items_max=1000)
        results: list[Any] = []
        for wire in wires:
            assert isinstance(wire, bytes)
            transaction = decode_transaction(wire)
            id = transaction.id.hex()
            try:
                self.chain.commit([transaction])
                results.append({"id": id, "status": "pending"})
            except Rejection as error:
                status = 429 if error.code == "rate_limited" else 422
                document = {"status": status, "code": error.code, "detail": error.detail}
                results.append({"id": id, "status": "rejected", "error": document})
        return web.json_response({"results": results})

    def _document(self, id: str) -> dict[str, Any]:
        if id not in self.chain.places:
            return {"id": id, "status": "unknown", "code": None, "detail": None}
        height, index = self.chain.places[id]
        transaction = self.chain.blocks[height].transactions[index]
        return {
            "id": id,
            "status": "committed",
            "height": height,
            "index": index,
            "transaction": PAYLOAD.render(transaction.payload),
            "receipt": RECEIPT.render(self.chain.receipts[height][index]),
            "code": None,
            "detail": None,
        }

    async def _transaction(self, request: web.Request) -> web.Response:
        return web.json_response(self._document(request.match_info["id"]))

    async def _proof(self, request: web.Request) -> web.Response:
        if request.match_info["id"] not in self.chain.places:
            raise LookupError("not committed")
        height, index = self.chain.places[request.match_info["id"]]
        block, receipts = self.chain.blocks[height], self.chain.receipts[height]
        certificate = self.chain.certificate(height)
        assert certificate is not None
        encoded = receipt_leaves(receipts, self.chain.block_receipts[height])
        digests = [t.digest for t in block.transactions]
        return web.json_response(
            {
                "header": render_header(block.header),
                "certificate": CERTIFICATE.render(certificate),
                "miners": MINERS.render(miner_sets_of(self.chain.tip.state)[0].members),
                "transaction": block.transactions[index].wire.hex(),
                "receipt": RECEIPT.render(receipts[index]),
                "receipt_bytes": encoded[index].hex(),
                "index": index,
                "leaf_count": len(digests),
                "transaction_path": [d.hex() for d in inclusion_proof(digests, index)],
                "receipt_leaf_count": len(encoded),
                "receipt_path": [d.hex() for d in inclusion_proof(encoded, index)],
            }
        )

    async def _params(self, request: web.Request) -> web.Response:
        parameters = PARAMETERS.render(parameters_of(self.chain.tip.state))
        return web.json_response({"height": self.chain.tip.header.height, "parameters": parameters})

    async def _consensus(self, request: web.Request) -> web.Response:
        miner = address_of(MINER.public).hex()
        member = {
            "miner": miner,
            "round": 0,
            "pre_prepare": False,
            "prepare": False,
            "commit": False,
            "round_change": False,
            "missing_for_ms": None,
            "height_reported": None,
            "clock_offset_ms": None,
        }
        return web.json_response(
            {
                "height": self.chain.tip.header.height + 1,
                "round": 0,
                "phase": "idle",
                "phase_for_ms": 1_000,
                "diagnosis": self.diagnosis,
                "explanation": "there is nothing to agree on",
                "miner": miner,
                "heard": 1,
                "refusal": None,
                "fault": None,
                "signing": "yes",
                "proposer": miner,
                "proposal": None,
                "prepared_round": None,
                "quorum": 1,
                "members": [member],
                "missing": [],
                "deadline_in_ms": None,
                "rounds": [],
            }
        )

    async def _page(self, request: web.Request, table: Table[Any], **more: Any) -> web.Response:
        items = [
            {"id": key.hex(), **table.record.render(record), **more}
            for key, record in self.chain.tip.state.scan(table)
        ]
        if status := request.query.get("status"):
            items = [item for item in items if item["status"] == status]
        # One item a page, so that whoever reads them has to follow the cursor.
        start = int(request.query.get("cursor", "0"))
        cursor = str(start + 1) if start + 1 < len(items) else None
        return web.json_response({"items": items[start : start + 1], "cursor": cursor})

    async def _models(self, request: web.Request) -> web.Response:
        standing = {"active": True, "active_from_height": 1, "here": None, **self.model}
        return await self._page(request, MODEL_TABLE, **standing)

    async def _device(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        state = self.chain.tip.state
        record = state.get(DEVICE_TABLE, bytes.fromhex(id))
        if record is None:
            raise LookupError(f"there is no {id}")
        measure = state.get(MEASURE_TABLE, bytes.fromhex(id))
        return web.json_response(
            {
                "id": id,
                "active": record.is_active(self.chain.tip.header.time_ms),
                **DEVICE_TABLE.record.render(record),
                "tally": None,
                "measure": None if measure is None else MEASURE_TABLE.record.render(measure),
            }
        )

    async def _budget(self, request: web.Request) -> web.Response:
        return web.json_response({"id": request.match_info["id"], "windows": []})

    async def _sent(self, request: web.Request) -> web.Response:
        sender = bytes.fromhex(request.match_info["id"])
        items = [
            {"id": t.id.hex(), "height": block.header.height, "index": index}
            for block in self.chain.blocks
            for index, t in enumerate(block.transactions)
            if t.payload.sender == sender
        ]
        return web.json_response({"items": items, "cursor": None})

    async def _proposals(self, request: web.Request) -> web.Response:
        wanted = request.query.get("status")
        items = [
            proposal(key, record)
            for key, record in self.chain.tip.state.scan(PROPOSAL_TABLE)
            if wanted in (None, record.status)
        ]
        return web.json_response({"items": items, "cursor": None})

    async def _proposal(self, request: web.Request) -> web.Response:
        id = bytes.fromhex(request.match_info["id"])
        record = self.chain.tip.state.get(PROPOSAL_TABLE, id)
        if record is None:
            raise LookupError(f"there is no proposal {id.hex()}")
        return web.json_response(proposal(id, record))

    async def _measures(self, request: web.Request) -> web.Response:
        items = [
            {"device": key.hex(), **MEASURE_TABLE.record.render(record)}
            for key, record in self.chain.tip.state.scan(MEASURE_TABLE)
            if record.is_appealed or "appealed" not in request.query
        ]
        return web.json_response({"items": items, "cursor": None})

    async def _policy(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        policy = self.chain.tip.state.get(POLICY_TABLE, bytes.fromhex(id))
        return web.json_response(
            {
                "organisation": id,
                "is_default": policy is None,
                **POLICY_TABLE.record.render(policy or PolicyRecord()),
            }
        )

    async def _rounds(self, request: web.Request) -> web.Response:
        found = self.chain.tip.state.scan(ROUND_TABLE)
        items = [round_summary(key, record) for key, record in found]
        return web.json_response({"items": items, "cursor": None})

    async def _round(self, request: web.Request) -> web.Response:
        id = bytes.fromhex(request.match_info["id"])
        record = self.chain.tip.state.get(ROUND_TABLE, id)
        if record is None:
            raise LookupError("there is no such federated round")
        return web.json_response(federated_round(id, record))

    async def _device_proof(self, request: web.Request) -> web.Response:
        return self._state_proof(DEVICE_TABLE, bytes.fromhex(request.match_info["id"]))

    async def _round_proof(self, request: web.Request) -> web.Response:
        return self._state_proof(ROUND_TABLE, bytes.fromhex(request.match_info["id"]))

    async def _shares_proof(self, request: web.Request) -> web.Response:
        key = request.match_info["id"] + request.match_info["device"]
        return self._state_proof(SHARES_TABLE, bytes.fromhex(key))

    def _state_proof(self, table: Table[Any], key: bytes) -> web.Response:
        tip = self.chain.tip
        record = tip.state.get(table, key)
        value = None if record is None else table.encode(record).hex()
        proof = STATE_PROOF.render(tip.state.prove(table, key))
        return web.json_response({**self._decided(tip.header), "value": value, "proof": proof})

    async def _block_proof(self, request: web.Request) -> web.Response:
        header = self.chain.blocks[int(request.match_info["reference"])].header
        return web.json_response(self._decided(header))

    def _decided(self, header: Header) -> dict[str, Any]:
        certificate = self.chain.certificate(header.height)
        return {
            "header": render_header(header),
            "certificate": certificate and CERTIFICATE.render(certificate),
            "miners": MINERS.render(miner_sets_of(self.chain.tip.state)[0].members),
        }

    async def _shares(self, request: web.Request) -> web.Response:
        id = bytes.fromhex(request.match_info["id"])
        items = [
            {"device": key[len(id) :].hex(), **SHARES_TABLE.record.render(record)}
            for key, record in self.chain.tip.state.scan(SHARES_TABLE)
            if key.startswith(id)
        ]
        return web.json_response({"items": items, "cursor": None})

    async def _empty(self, request: web.Request) -> web.Response:
        return web.json_response({"items": [], "cursor": None})

    async def _ready(self, request: web.Request) -> web.Response:
        return web.json_response({"ready": True}) if self.ready else problem(503, "not_ready", "no")

    async def _events(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        message = await socket.receive()
        assert message.type is WSMsgType.TEXT
        subscription = message.json()
        tip = self.chain.tip.header.height
        height, index = map(int, subscription.get("from", f"{tip}:99999").split(":"))
        await socket.send_json({"subscribed": subscription["subscribe"], "cursor": "0:0"})
        position = (height, index)
        while not socket.closed:
            for event in self._events_behind(position):
                position = event["place"]
                if event["type"] in subscription["subscribe"]:
                    cursor = f"{position[0]}:{position[1]}"
                    await socket.send_json(
                        {"type": event["type"], "cursor": cursor, "data": event["data"]}
                    )
            try:
                await socket.receive(timeout=0.01)
            except TimeoutError:
                continue
        return socket

    def _events_behind(self, position: tuple[int, int]) -> Iterator[dict[str, Any]]:
        for block in self.chain.blocks[1:]:
            header = block.header
            data: dict[str, Any] = {
                "header": render_header(header),
                "transaction_count": len(block.transactions),
            }
            if (header.height, 0) > position:
                yield {"type": "block", "place": (header.height, 0), "data": data}
            for index, t in enumerate(block.transactions):
                if (header.height, index + 1) > position:
                    data = {"id": t.id.hex(), "kind": t.payload.kind, "sender": "00"}
                    place = (header.height, index + 1)
                    yield {"type": "transaction", "place": place, "data": data}
            end = (header.height, len(block.transactions) + 1)
            for event in self.chain.block_receipts[header.height].events:
                if end > position:
                    data = {"name": event.name, "values": list(event.values)}
                    yield {"type": "event", "place": end, "data": data}


def problem(status: int, code: str, detail: str, **headers: str) -> web.Response:
    document = {"type": "/docs", "title": code, "status": status, "detail": detail, "code": code}
    return web.json_response(
        document, status=status, headers=headers, content_type="application/problem+json"
    )


@contextmanager
def serving(node: FakeNode) -> Iterator[FakeNode]:
    """Serve `node` on a free port, in a thread, for commands have event loops of their own."""
    started = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        runner = web.AppRunner(node.application(), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        node.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        started.set()
        await stop.wait()
        await runner.cleanup()
        # Connections that were just told to close need a turn of the loop to do so.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert started.wait(10), "the fake node does not start"
        yield node
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
