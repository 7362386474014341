"""Readers of `node`: peers, disk, RPC; and a whole node that peers send anything to."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from chain import codec
from chain.blocks import BlockReceipt, Event, Receipt, encode_block
from chain.certificate import CERTIFICATE
from chain.errors import DecodeError
from chain.lookback import BlockSummary, judged_digest
from chain.transactions import decode_transaction
from consensus.codec import encode_message
from node import protocol
from node.errors import CorruptLog
from node.p2p.errors import FrameError, HandshakeError
from node.p2p.framing import FRAGMENT_SIZE, FrameDecoder, FrameEncoder
from node.p2p.handshake import GOODBYE, HELLO, Handshake, Role
from node.rpc.bodies import decode_batch, parse_json, parse_json_batch, parse_transaction
from node.rpc.errors import MalformedRequest
from node.rpc.events import Subscription
from node.rpc.paging import parse_height, parse_id, parse_place, render_place
from node.storage import schema, wal_format
from tests.builders import digest_of
from tests.fuzz.chain_targets import vector_transactions, wires
from tests.fuzz.target import Check, Target, codec_target, drawn_seeds, pure, quiet
from tests.simulation.loop import new_loop
from tests.unit.node.lone_node import LoneNode, node_id, settle

NODE_LIFE: Final = 500
SETTLE_TURNS: Final = 6
REST_EVERY: Final = 16
"""Every so many messages time passes, so that what waits for a while gets its turn."""
REST_S: Final = 0.7
FRAME_LIMITS: Final = {4: 1_000, 20: 5 * FRAGMENT_SIZE}
PATH: Final = Path("log")
SALT: Final = bytes(range(16))
TIME_MS: Final = 1_700_000_000_000


def targets() -> Iterator[Target]:
    """Yield all of them."""
    for kind, record in protocol.RECORDS.items():
        yield _body(kind, drawn_seeds(record))
    yield pure("frames", "bytes", _streams, _check_stream)
    yield pure("hello", "bytes", _hellos, _check_hello)
    yield pure("log file", "bytes", _logs, _check_log)
    yield codec_target(
        "stored body", lambda: [schema.encode_body(wires()[:3])], schema.decode_body, _listed
    )
    yield pure("stored receipts", "msgpack", _receipts, _check_receipts)
    yield codec_target("stored summary", _summaries, _decode_summary, schema.encode_summary)
    yield codec_target("batch", lambda: [codec.encode(wires()[:3])], decode_batch, codec.encode)
    yield pure("JSON transaction", "json", _json_transactions, _check_json_transaction)
    yield pure("JSON batch", "json", _json_batches, _check_json_batch)
    yield pure("subscription", "json", _subscriptions, _check_subscription)
    yield pure("cursor", "bytes", lambda: [b"0:0", b"12:3", b"00" * 32, b"17"], _check_cursor)
    yield Target(name="node", form="msgpack", seeds=_messages, opened=_node, life=NODE_LIFE)


def _listed(items: Sequence[bytes]) -> bytes:
    return codec.encode(list(items))


def _body(kind: int, seeds: Callable[[], Sequence[bytes]]) -> Target:
    name = type(protocol.decode_body(kind, seeds()[0])).__name__
    return codec_target(
        f"peer's {name}",
        seeds,
        lambda data: protocol.decode_body(kind, data),
        lambda body: protocol.encode_body(kind, body),
    )


def _streams() -> list[bytes]:
    encoder = FrameEncoder(urgent_size_max=2**24, bulk_size_max=2**24)
    found = []
    for messages in ([(4, b"vote")], [(20, bytes(FRAGMENT_SIZE + 3))], [(4, b""), (20, b"x" * 9)]):
        for kind, payload in messages:
            assert encoder.put(kind, payload)
        found.append(encoder.take(2**20))
    return found


def _check_stream(data: bytes) -> bool:
    """Messages are within their limits, the same however the stream is cut, and little is held."""
    found: list[list[tuple[int, bytes]]] = []
    for step in (len(data) or 1, 1 + len(data) // 7):
        decoder = FrameDecoder(FRAME_LIMITS)
        messages: list[tuple[int, bytes]] = []
        try:
            for start in range(0, len(data), step):
                messages += decoder.feed(data[start : start + step])
        except FrameError:
            messages.append((-1, b""))
        assert all(len(payload) <= FRAME_LIMITS.get(kind, 0) for kind, payload in messages)
        found.append(messages)
    if found[0][-1:] == [(-1, b"")] or found[1][-1:] == [(-1, b"")]:
        # In one piece an error comes before the messages in front of it are handed out, or after.
        assert found[0][-1:] == found[1][-1:], "cut elsewhere, the stream is no error"
        return False
    assert found[0] == found[1], "cut elsewhere, the stream says something else"
    return bool(found[0])


def _sides() -> tuple[Handshake, Handshake]:
    ends: dict[str, Any] = {"genesis_hash": digest_of("a chain")}
    return (
        Handshake(role=Role.DIALLER, local=node_id(0), peer=node_id(1), **ends),
        Handshake(role=Role.LISTENER, local=node_id(1), peer=node_id(0), **ends),
    )


def _hellos() -> list[bytes]:
    dialler, listener = _sides()
    return [
        bytes((HELLO,)) + dialler.hello(),
        bytes((GOODBYE, 3)),
        bytes((HELLO,)) + listener.hello(),
    ]


def _check_hello(data: bytes) -> bool:
    if not data:
        return False
    dialler, listener = _sides()
    try:
        listener.receive(data[0], data[1:])
    except HandshakeError:
        return False
    assert listener.done, "it is one or the other"
    assert data[1:] == dialler.hello(), "another hello makes a session"
    return True


def _logs() -> list[bytes]:
    image = wal_format.encode_header(SALT)
    found = [image]
    for records in ([b"first", b"second"], [b"third" * 20], [b""], [b"x" * 700, b"last"]):
        image += wal_format.encode_frame(records, salt=SALT, offset=len(image), path=PATH)
        found.append(image)
    return found


def _check_log(data: bytes) -> bool:
    """What is recovered are whole appends of a log that was written, or it is refused."""
    try:
        recovery = wal_format.recover(data, path=PATH)
    except CorruptLog:
        return False
    assert recovery.end <= len(data)
    assert (recovery.torn is None) == (recovery.end == len(data)), "a torn end is said to be whole"
    again = wal_format.recover(data[: recovery.end], path=PATH)
    assert (again.records, again.torn) == (recovery.records, None), "the rest is another log"
    return True


def _receipts() -> list[bytes]:
    events = (Event(name="registered", values=("a", "b")),)
    receipts = tuple(
        Receipt(transaction_id=digest_of(str(index)), index=index, events=events)
        for index in range(3)
    )
    return [
        schema.encode_receipts(receipts, BlockReceipt(events=events)),
        schema.encode_receipts((), BlockReceipt(events=())),
    ]


def _check_receipts(data: bytes) -> bool:
    try:
        receipts = schema.decode_receipts(data)
        of_block = schema.decode_block_receipt(data)
        assert all(schema.decode_receipt(data, at) == one for at, one in enumerate(receipts))
    except DecodeError:
        return False
    assert schema.encode_receipts(receipts, of_block) == data, "it is encoded differently"
    return True


def _summaries() -> list[bytes]:
    found = []
    for count in (0, 1, 5):
        ids = tuple(digest_of(f"id {number}") for number in range(count))
        sent: Any = dict.fromkeys(sorted(digest_of(f"s {number}") for number in range(count)), 3)
        flows: Any = ids[:2]
        summary = BlockSummary(
            height=7,
            time_ms=TIME_MS,
            ids=ids,
            sent=sent,
            flows=flows,
            judged=judged_digest(ids),
        )
        found.append(schema.encode_summary(summary))
    return found


def _decode_summary(data: bytes) -> BlockSummary:
    return schema.decode_summary(data, 7, ids_after_ms=-1)


def _json_transactions() -> list[bytes]:
    return [json.dumps(vector["json"]).encode() for vector in vector_transactions()]


def _check_json_transaction(data: bytes) -> bool:
    try:
        transaction = parse_transaction(parse_json(data, "transaction"))
    except DecodeError:
        return False
    assert decode_transaction(transaction.wire).payload == transaction.payload, "its bytes differ"
    return True


def _json_batches() -> list[bytes]:
    return [json.dumps([vector["json"] for vector in vector_transactions()[:2]]).encode()]


def _check_json_batch(data: bytes) -> bool:
    try:
        parse_json_batch(data)
    except DecodeError:
        return False
    return True


def _subscriptions() -> list[bytes]:
    return [
        json.dumps(document).encode()
        for document in (
            {"subscribe": ["block", "transaction", "verdict", "event"], "from": "12:3"},
            {"subscribe": ["block"]},
        )
    ]


def _check_subscription(data: bytes) -> bool:
    try:
        asked = Subscription.model_validate(parse_json(data, "subscription"))
        assert asked.types, "it is for something"
        if asked.from_ is not None:
            parse_place(asked.from_, "from")
    except (DecodeError, ValidationError, MalformedRequest):
        return False
    return True


def _check_cursor(data: bytes) -> bool:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    accepted = 0
    for parse, render in (
        (parse_place, render_place),
        (parse_height, str),
        (parse_id, lambda digest: digest.hex()),
    ):
        try:
            value: Any = parse(text, "cursor")
        except MalformedRequest:
            continue
        accepted += 1
        assert render(value) == text, "two texts mean the same"
    return accepted > 0


def _messages() -> list[bytes]:
    """Return ``[peer, kind, payload]``: what peers may say to a node at height 1."""
    loop = new_loop()
    try:
        return loop.run_until_complete(_say_all())
    finally:
        loop.close()


async def _say_all() -> list[bytes]:
    lone = LoneNode()
    chain = lone.chain
    _, registration = chain.registration("device")
    block = chain.block(registration)
    found = [
        (0, protocol.CONSENSUS, encode_message(message))
        for number in lone.others
        for message in (lone.prepare(number, block), lone.commit(number, block))
    ]
    found.append((0, protocol.CONSENSUS, encode_message(lone.pre_prepare(block))))
    fetched = lone.fetched(block)
    sync = protocol.SyncBlock(
        block=encode_block(block), certificate=CERTIFICATE.encode(fetched.certificate)
    )
    bodies: list[tuple[int, Any]] = [
        (protocol.STATUS, protocol.Status(height=block.header.height)),
        (protocol.TRANSACTIONS, protocol.Transactions(wires=(registration.wire,))),
        (protocol.BLOCKS, protocol.Blocks(height=block.header.height, blocks=(sync,))),
        (protocol.GET_BLOCKS, protocol.GetBlocks(height=block.header.height, count=3)),
        (protocol.GET_PROPOSAL, protocol.GetProposal(block=block.header.hash)),
        (
            protocol.GET_BODIES,
            protocol.GetBodies(block=block.header.hash, digests=(registration.digest,)),
        ),
        (
            protocol.BODIES,
            protocol.Bodies(block=block.header.hash, wires=(registration.wire,)),
        ),
    ]
    found += [(1, kind, protocol.encode_body(kind, body)) for kind, body in bodies]
    for kind, record in protocol.RECORDS.items():
        found += [(2, kind, data) for data in drawn_seeds(record)()[:3]]
    return [codec.encode(list(said)) for said in found]


@contextmanager
def _node() -> Iterator[Check]:
    """Yield a whole node on ports in memory: no message of a peer ends it."""
    with quiet():
        yield from _living_node()


def _living_node() -> Iterator[Check]:
    loop = new_loop()
    stopping = asyncio.Event()
    said = 0

    async def live(started: asyncio.Future[LoneNode]) -> None:
        lone = LoneNode()
        async with lone.running():
            started.set_result(lone)
            await stopping.wait()

    async def start() -> tuple[LoneNode, asyncio.Task[None]]:
        started = loop.create_future()
        life = loop.create_task(live(started))
        return await started, life

    async def say(peer: int, kind: int, payload: bytes) -> None:
        lone.node.receiver.on_message(node_id(lone.others[peer % len(lone.others)]), kind, payload)
        await settle(SETTLE_TURNS)
        if said % REST_EVERY == 0:
            await asyncio.sleep(REST_S)

    async def end() -> None:
        stopping.set()
        await life

    def check(data: bytes) -> bool:
        nonlocal said
        said += 1
        try:
            peer, kind, payload = codec.decode(data, what="message", size_max=2**24)
        except (DecodeError, ValueError):
            return False
        if type(peer) is not int or type(kind) is not int or type(payload) is not bytes:
            return False
        if kind not in protocol.KINDS or len(payload) > protocol.KINDS[kind].payload_size_max:
            return False  # the transport lets none of these through
        refused = sum(lone.refused().values())
        loop.run_until_complete(say(peer, kind, payload))
        assert not life.done(), f"the node has ended: {life.exception()!r}"
        assert loop.failures == [], f"a task has failed: {loop.failures}"
        for noted in (lone.wire.sent, lone.wire.blames, lone.events):
            noted.clear()
        return sum(lone.refused().values()) == refused

    try:
        lone, life = loop.run_until_complete(start())
        yield check
        loop.run_until_complete(end())
    finally:
        loop.close()
