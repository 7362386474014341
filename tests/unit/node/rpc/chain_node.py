"""A node for the RPC's tests: a real chain in memory whose blocks a test makes when it likes."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

from chain import codec
from chain.admission import Verify
from chain.blocks import Block
from chain.certificate import VOTE_TAG, CommitCertificate, SignedVote, VoteType, vote_bytes
from chain.crypto import Algorithm, SigningKey, address_of, signing_key
from chain.eligibility import eligible_miners, proposer_of
from chain.errors import DecodeError, Rejection, SecureNetError
from chain.genesis import Genesis, GenesisMiner, GenesisOrganisation
from chain.kinds import KINDS
from chain.kinds.device_data import DeviceData
from chain.kinds.device_registry import DeviceRegister, device_id
from chain.kinds.evidence import Equivocation
from chain.kinds.models import ModelRegister
from chain.kinds.organisations import organisation_id
from chain.kinds.verdict import Verdict, opinion_of, pack_opinions
from chain.limits import parse_limits
from chain.parameters import Parameters
from chain.payloads import Flow, Measurement, Reading
from chain.state import miner_sets_of
from chain.transactions import Payload, Transaction, decode_transaction, sign_transaction
from chain.transition import BlockExecution, check_admission, open_context
from chain.types import Address, Digest, Height, Round, TimestampMs
from consensus.height import RoundEntry
from consensus.snapshot import MemberView, Snapshot
from consensus.timers import Timing
from node.api import ModelStanding, NodeStatus, Submission, TransactionStatus
from node.behaviour_service import Watched
from node.blobs.store import BlobStore
from node.diagnosis import Diagnosis
from node.metrics import Metrics
from node.rpc import RpcConfig, RpcLimits, RpcServer
from node.storage.chain_store import ChainStore
from node.storage.kv import MemoryStore
from tests.simulation.disk import SimulatedDisk

START_MS = 1_750_000_000_000
MODEL = Digest(b"\x4d" * 32)
SCHEMA = Digest(b"\x5c" * 32)
READING = DeviceData(
    payload=Reading(values=(Measurement(name="temperature", value=215, exponent=-1, unit="C"),))
)
FLOW = DeviceData(payload=Flow(schema=SCHEMA, integers=(1,) * 38, categories=("tcp", "http", "SF")))


def key(name: str, algorithm: Algorithm = "ed25519") -> SigningKey:
    return signing_key(algorithm, name.encode().ljust(32, b"."))


MINERS = [key(f"miner {i}") for i in range(4)]
REGISTRAR = key("registrar", "p256")
DEVICES = [key("device 0"), key("device 1", "p256"), key("device 2")]
ORGANISATION = organisation_id("acme")


class Inline:
    """An executor that calls at once."""

    async def run(self, function: Callable[..., Any], *args: object) -> Any:
        return function(*args)


def is_signed(transaction: Transaction, public_key: Any) -> bool:
    return transaction.is_signed_by(public_key)


class ChainNode:
    """Implements `node.api.NodeApi` over a chain without consensus."""

    def __init__(self, *, limits: str = "3:60") -> None:
        self.genesis = Genesis(
            chain="test",
            time_ms=TimestampMs(START_MS),
            miners=tuple(
                GenesisMiner(
                    name=f"miner-{i}",
                    key=miner.public,
                    node_key=key(f"node {i}").public,
                    host="127.0.0.1",
                    port=26756 + 10 * i,
                )
                for i, miner in enumerate(MINERS)
            ),
            organisations=(
                GenesisOrganisation(
                    name="acme",
                    registrar_key=REGISTRAR.public,
                    limits=parse_limits("1000:60" if limits else ""),
                ),
            ),
            parameters=Parameters(),
            model=ModelRegister(
                model=MODEL,
                name="forest",
                schema=SCHEMA,
                threshold_ppm=500_000,
                size_bytes=1_000,
                manifest=MODEL,
            ),
        )
        self.chain: Any = ChainStore(MemoryStore(), self.genesis, Inline(), path=Path("memory"))
        self.metrics = Metrics()
        self.watched: Watched | None = None
        self.standings: dict[Digest, ModelStanding] = {}
        self.now_ms = START_MS + 10_000
        clock: Any = SimpleNamespace(wall_ms=self.time_ms)
        self.files = SimulatedDisk(Random(1)).files
        self.blobs = BlobStore(self.files, path=Path("memory"), clock=clock)
        self.pool: dict[Digest, Transaction] = {}
        self.fates: dict[Digest, TransactionStatus] = {}
        self.refuse_all: SecureNetError | None = None
        self.highest_seen = 0
        self.has_heard = True
        self.peers: tuple[Address, ...] = (Address(b"\x01" * 32), Address(b"\x02" * 32))
        self.submitted = 0
        self.limits = limits
        self._nonces = itertools.count()
        self._committed = asyncio.Event()

    # NodeApi

    def status(self) -> NodeStatus:
        return NodeStatus(
            node_id=Address(b"\x07" * 32),
            miner_id=address_of(MINERS[0].public),
            round=0,
            syncing=False,
            peers=self.peers,
            mempool_transactions=len(self.pool),
            mempool_bytes=sum(len(transaction.wire) for transaction in self.pool.values()),
            highest_seen=self.highest_seen,
            has_heard=self.has_heard,
            version="0.1.0",
        )

    def consensus(self) -> Snapshot | None:
        members = tuple(
            MemberView(
                miner=address_of(miner.public),
                round=Round(0),
                pre_prepare=False,
                prepare=i > 0,
                commit=False,
                round_change=False,
                missing_since_ns=None if i else 1_000_000,
                height_reported=None,
            )
            for i, miner in enumerate(MINERS)
        )
        return Snapshot(
            me=address_of(MINERS[1].public),
            phase_since_ns=1_000_000,
            fault="",
            refusal=None,
            timing=Timing(),
            height=self.chain.height + 1,
            round=Round(0),
            phase="prepare",
            signing="yes",
            proposer=address_of(MINERS[1].public),
            proposal=Digest(bytes(32)),
            prepared_round=None,
            quorum=3,
            members=members,
            deadline_ns=self.monotonic_ns() + 5_000_000,
            rounds=(RoundEntry(round=Round(0), at_ns=0, cause="height"),),
        )

    def diagnosis(self) -> Diagnosis | None:
        return Diagnosis(code="working", text="height 2 is being agreed on, round 0")

    def time_ms(self) -> int:
        return self.now_ms

    def monotonic_ns(self) -> int:
        return 10_000_000

    async def submit(self, transactions: Sequence[bytes]) -> Sequence[Submission]:
        self.submitted += len(transactions)
        return [self._admit(wire) for wire in transactions]

    def models(self) -> dict[Digest, ModelStanding]:
        return self.standings

    async def behaviour(self, device: Address, group: Address) -> Watched | None:
        return self.watched

    def transaction(self, id: Digest) -> TransactionStatus:
        place = self.chain.locate(id)
        if place is not None:
            height, index = place
            return TransactionStatus(
                status="committed",
                transaction=self.chain.block(height).transactions[index],
                height=height,
                receipt=self.chain.receipts(height)[index],
            )
        if id in self.pool:
            return TransactionStatus(status="pending", transaction=self.pool[id])
        return self.fates.get(id, TransactionStatus(status="unknown"))

    async def wait_transaction(self, id: Digest, timeout_ms: int) -> TransactionStatus:
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while self.transaction(id).status == "pending":
                    await self._committed.wait()
        except TimeoutError:
            pass
        return self.transaction(id)

    async def wait_height(self, height: int) -> None:
        while self.chain.height < height:
            await self._committed.wait()

    # What tests do

    def payload(
        self, kind: str, body: Any, sender: Address, *, time_ms: int | None = None
    ) -> Payload:
        return Payload(
            version=1,
            genesis_hash=self.genesis.hash,
            kind=kind,
            sender=sender,
            time_ms=TimestampMs(self.now_ms if time_ms is None else time_ms),
            nonce=next(self._nonces).to_bytes(8, "big"),
            body=KINDS[kind].body.encode(body),
        )

    def sign(
        self, kind: str, body: Any, signer: SigningKey, sender: Address, **other: Any
    ) -> Transaction:
        return sign_transaction(self.payload(kind, body, sender, **other), signer)

    def device(self, index: int = 0) -> Address:
        return device_id(self.genesis.hash, ORGANISATION, DEVICES[index].public)

    def registration(self, index: int) -> Transaction:
        body = DeviceRegister(
            name=f"device-{index}",
            key=DEVICES[index].public,
            roles=("sensor",),
            gateway=None,
            limits=parse_limits(self.limits),
        )
        return self.sign("device.register", body, REGISTRAR, ORGANISATION)

    def report(self, index: int = 0, body: DeviceData = READING, **other: Any) -> Transaction:
        return self.sign("device.data", body, DEVICES[index], self.device(index), **other)

    def verdict(self, height: int, scores: Sequence[int], miner: int = 0) -> Transaction:
        body = Verdict(
            height=Height(height),
            model=MODEL,
            judged=self.chain.tip.recent.judged(height) or Digest(bytes(32)),
            opinions=pack_opinions([opinion_of(score, 500_000) for score in scores]),
        )
        signer = MINERS[miner]
        return self.sign("verdict", body, signer, address_of(signer.public))

    def evidence(self, accused: int, *, reporter: int) -> Transaction:
        """Return the report that a miner has signed two COMMITs for the next height."""
        about = (self.genesis.hash, "commit", self.chain.height + 1, 0)
        first, second = (codec.encode((*about, bytes([content]) * 32)) for content in (1, 2))
        body = Equivocation(
            miner=address_of(MINERS[accused].public),
            first=first,
            first_signature=MINERS[accused].sign(VOTE_TAG, first),
            second=second,
            second_signature=MINERS[accused].sign(VOTE_TAG, second),
        )
        signer = MINERS[reporter]
        return self.sign("evidence", body, signer, address_of(signer.public))

    async def register(self) -> None:
        """Commit a block with all devices."""
        await self.mine(*(self.registration(i) for i in range(len(DEVICES))))

    async def mine(
        self, *transactions: Transaction, verify: Verify = is_signed, round: int = 0
    ) -> Block:
        """Commit a block, of what is pooled where nothing is given."""
        chosen = transactions or tuple(self.pool.values())
        tip = self.chain.tip
        self.now_ms = max(self.now_ms, tip.header.time_ms + 1)
        members = miner_sets_of(tip.state)[0]
        eligible = eligible_miners(tip.state, members, tip.next_height)
        run = BlockExecution(
            tip,
            proposer=proposer_of(eligible, tip.next_height, Round(round)),
            proposal_round=Round(round),
            time_ms=TimestampMs(self.now_ms),
            verify=verify,
        )
        for transaction in chosen:
            run.apply(transaction)
        execution = run.finish()
        block = Block(header=execution.header, transactions=chosen)
        await self.chain.commit(execution, block, certify(execution.header, members))
        for transaction in chosen:
            self.pool.pop(transaction.id, None)
        event, self._committed = self._committed, asyncio.Event()
        event.set()
        return block

    def _admit(self, wire: bytes) -> Submission:
        try:
            transaction = decode_transaction(wire)
        except DecodeError as error:
            return Submission(id=None, error=error)
        try:
            if self.refuse_all is not None:
                raise self.refuse_all
            miner = address_of(MINERS[0].public)
            time_ms = TimestampMs(max(self.now_ms, self.chain.tip.header.time_ms + 1))
            block = open_context(self.chain.tip, proposer=miner, time_ms=time_ms)
            check_admission(transaction, block, is_signed)
        except SecureNetError as error:
            return Submission(id=transaction.id, error=error)
        self.pool[transaction.id] = transaction
        return Submission(id=transaction.id, error=None)

    def reject(self, transaction: Transaction, code: str) -> None:
        """Let a pooled transaction be found invalid."""
        del self.pool[transaction.id]
        self.fates[transaction.id] = TransactionStatus(
            status="rejected", transaction=transaction, code=code
        )
        event, self._committed = self._committed, asyncio.Event()
        event.set()


def certify(header: Any, members: Any) -> CommitCertificate:
    """Return a certificate by three of the four miners."""
    keys = {address_of(miner.public): miner for miner in MINERS}
    message = vote_bytes(
        genesis_hash=header.genesis_hash,
        type=VoteType.COMMIT,
        height=header.height,
        round=Round(0),
        digest=header.hash,
    )
    votes = tuple(
        SignedVote(index=index, signature=keys[member.id].sign(VOTE_TAG, message))
        for index, member in enumerate(members)
        if index < members.quorum
    )
    return CommitCertificate(height=header.height, round=Round(0), digest=header.hash, votes=votes)


def refusal(code: str, detail: str = "why", **other: Any) -> Rejection:
    return Rejection(code, detail, **other)


@asynccontextmanager
async def serving(node: ChainNode, *, limits: RpcLimits | None = None, **config: Any) -> Any:
    """Run the RPC of `node` on a port that the system chooses."""
    server = RpcServer(node, RpcConfig(port=0, **config), limits=limits)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server.run())
        listening = group.create_task(server.listening.wait())
        await asyncio.wait([task, listening], return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if not task.done():
            yield server
            task.cancel()
