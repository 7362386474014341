"""One real node, and a test that plays all the others."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from chain.blocks import Block
from chain.certificate import VOTE_TAG
from chain.crypto import address_of
from chain.parameters import Parameters
from chain.types import Address, Height, Round
from consensus.codec import decode_message, encode_message
from consensus.durable import Floor, encode_record
from consensus.messages import Commit, Message, Prepare, PrePrepare, Proposal
from node.block_sync import FetchedBlock
from node.errors import LogFull
from node.mempool import MempoolLimits
from node.metrics import Metrics
from node.ports import Executor, KeyValueStore, WriteBatch
from node.protocol import (
    CONSENSUS,
    SHOWN,
    TRANSACTIONS,
    Shown,
    Transactions,
    encode_body,
)
from node.service import Node, Ports
from node.storage.kv import MemoryStore
from tests.builders import (
    GENESIS_TIME_MS,
    Chain,
    key_of,
    make_certificate,
    make_genesis,
    make_model,
)
from tests.simulation.disk import SimulatedDisk
from tests.simulation.random_source import SeededRandom
from tests.unit.node.fakes import Wire, clock_of
from tests.unit.node.storage.stored_chain import Inline

QUIET = Parameters(heartbeat_ms=24 * 3_600_000)
"""No block unless there is a transaction."""


class MemoryLog:
    """A log in memory.

    Attributes
    ----------
    full_at : int, optional
        From so many records on it is full.
    failure : Exception, optional
        What the next append raises.
    """

    def __init__(self, events: list[str], records: Sequence[bytes] = ()) -> None:
        self.kept = list(records)
        self.full_at: int | None = None
        self.failure: Exception | None = None
        self.rewrites = 0
        self._events = events

    def records(self) -> Sequence[bytes]:
        return list(self.kept)

    def append(self, records: Sequence[bytes]) -> None:
        if self.failure is not None:
            raise self.failure
        if self.full_at is not None and len(self.kept) + len(records) > self.full_at:
            raise LogFull(Path("log"), limit=self.full_at)
        self._events.append("log")
        self.kept += records

    def rewrite(self, records: Sequence[bytes]) -> None:
        self.rewrites += 1
        self._events.append("log")
        self.kept = list(records)

    def close(self) -> None:
        pass


class WatchedStore:
    """A store in memory that notes what kind of batch is written."""

    def __init__(self, events: list[str], kv: KeyValueStore) -> None:
        self._events = events
        self._kv = kv
        self.get, self.scan, self.close = kv.get, kv.scan, kv.close
        self.compact = kv.compact

    def write(self, batch: WriteBatch, *, sync: bool = True) -> None:
        self._events.append("commit" if b"mtip" in batch.writes else "proposed")
        self._kv.write(batch, sync=sync)


class WatchedWire(Wire):
    """A transport that notes what consensus says."""

    def __init__(self, events: list[str], *peers: Address) -> None:
        super().__init__(*peers)
        self._events = events

    def send(self, peer: Address, kind: int, payload: bytes) -> bool:
        if kind == CONSENSUS:
            name = f"send {decode_message(payload).name}"
            if self._events[-1:] != [name]:
                self._events.append(name)
        return super().send(peer, kind, payload)

    def said(self) -> list[Message]:
        """Return the messages of consensus that were sent, each once."""
        found = [decode_message(data) for _, kind, data in self.sent if kind == CONSENSUS]
        self.sent = [entry for entry in self.sent if entry[1] != CONSENSUS]
        return list(dict.fromkeys(found))


class LoneNode:
    """A node on ports in memory, on simulated time.

    Parameters
    ----------
    miner : int
        Which miner it is; above `miners` an observer.
    log, kv : optional
        What an earlier life has left.
    heard : bool
        Whether the others say, when it begins, that they have shown what they hold of it.

    Attributes
    ----------
    chain : Chain
        What the others know; its next block is the one to be agreed on.
    events : list of str
        In which order the node has logged, stored, sent and committed.
    """

    def __init__(
        self,
        miner: int = 0,
        *,
        miners: int = 4,
        parameters: Parameters = QUIET,
        log: Sequence[bytes] = (encode_record(Floor(height=Height(0))),),
        kv: KeyValueStore | None = None,
        chain: Chain | None = None,
        mempool: MempoolLimits | None = None,
        heard: bool = True,
        bulk: Executor | None = None,
    ) -> None:
        genesis = make_genesis(miners=miners, parameters=parameters, model=make_model())
        self.chain = chain or Chain(genesis)
        self.number = miner
        self.miner = address_of(key_of(f"miner {miner}").public)
        self._heard = heard
        self.others = [number for number in range(miners) if number != miner]
        self.events: list[str] = []
        self.log = MemoryLog(self.events, log)
        self.kv = kv or MemoryStore()
        self.wire = WatchedWire(self.events, *[node_id(number) for number in self.others])
        self.metrics = Metrics()
        loop: Any = asyncio.get_running_loop()
        self.clock = clock_of(loop, start_ms=GENESIS_TIME_MS + 1_000)
        self.node = Node(
            genesis=self.chain.genesis,
            key=key_of(f"miner {miner}"),
            node_id=node_id(miner),
            ports=Ports(
                clock=self.clock,
                random=SeededRandom(miner),
                executor=Inline(),
                bulk=bulk,
                store=WatchedStore(self.events, self.kv),
                wal=self.log,
                files=SimulatedDisk(Random(miner)).files,
                transport=self.wire,
                verdicts=None,
            ),
            metrics=self.metrics,
            mempool=mempool,
            path=Path("lone"),
        )
        self.events.clear()

    @property
    def height(self) -> int:
        return self.node.chain.height

    @property
    def round(self) -> int:
        snapshot = self.node.consensus()
        assert snapshot is not None, "it has begun"
        return snapshot.round

    @property
    def driver(self) -> Any:
        """The driver inside."""
        return self.node._driver

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the node, and let it begin."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.node.run())
            await settle()
            if self._heard:
                for number in self.others:
                    self.show(number)
                await settle()
            yield
            task.cancel()

    def refused(self) -> dict[str, int]:
        """Return how many messages of peers were refused, by reason."""
        counter = self.metrics._refused._counter
        return {
            sample.labels["reason"]: int(sample.value)
            for metric in counter.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        }

    def accept(self) -> None:
        """Let the others have the last block of this node."""
        block = self.node.chain.block(self.height)
        assert block is not None
        self.chain.accept(block)

    def watch_steps(self) -> list[Any]:
        """Return a list that fills with the events which the replica is given from now on."""
        taken: list[Any] = []
        replica = self.driver._replica
        step = replica.step

        def watched(event: Any, now: int) -> Any:
            taken.append(event)
            return step(event, now)

        replica.step = watched
        return taken

    # What the others do

    def hear(self, number: int, *messages: Message) -> None:
        """Deliver messages of consensus of a miner."""
        for message in messages:
            self.node.receiver.on_message(node_id(number), CONSENSUS, encode_message(message))

    def show(self, number: int, *messages: Message) -> None:
        """Deliver what a miner holds of this one, and its word that this was all."""
        self.hear(number, *messages)
        shown = encode_body(SHOWN, Shown(height=self.chain.tip.next_height))
        self.node.receiver.on_message(node_id(number), SHOWN, shown)

    def give(self, number: int, *transactions: Any) -> None:
        """Deliver transactions of a miner."""
        body = Transactions(wires=tuple(transaction.wire for transaction in transactions))
        self.node.receiver.on_message(
            node_id(number), TRANSACTIONS, encode_body(TRANSACTIONS, body)
        )

    def proposer(self, round: int = 0) -> int:
        """Return the number of the miner whose turn it is."""
        ids = [address_of(key_of(f"miner {number}").public) for number in range(20)]
        return ids.index(self.chain.proposer(round))

    def pre_prepare(self, block: Block, *, by: int | None = None) -> Any:
        number = self.proposer() if by is None else by
        message = PrePrepare(
            sender=address_of(key_of(f"miner {number}").public),
            height=block.header.height,
            round=Round(0),
            proposal=proposal_of(block),
            justification=None,
        )
        return self.sign(number, message)

    def prepare(self, number: int, block: Block) -> Any:
        return self._vote(Prepare, number, block)

    def commit(self, number: int, block: Block) -> Any:
        return self._vote(Commit, number, block)

    def _vote(self, make: Any, number: int, block: Block) -> Any:
        message = make(
            sender=address_of(key_of(f"miner {number}").public),
            height=block.header.height,
            round=Round(0),
            digest=block.header.hash,
        )
        return self.sign(number, message)

    def sign(self, number: int, message: Any) -> Any:
        statement = message.statement(self.chain.genesis.hash)
        return replace(message, signature=key_of(f"miner {number}").sign(VOTE_TAG, statement))

    def agree(self, block: Block) -> None:
        """Let all others propose, prepare and commit a block."""
        self.hear(self.proposer(), self.pre_prepare(block))
        for number in self.others:
            self.hear(number, self.prepare(number, block), self.commit(number, block))

    def fetched(self, block: Block, *, peer: int | None = None, **fields: Any) -> FetchedBlock:
        """Return a block as a peer sends it, certified by a quorum unless said otherwise."""
        peer = self.others[0] if peer is None else peer
        certificate = make_certificate(block.header, self.chain.miners, self.chain.keys, **fields)
        return FetchedBlock(peer=node_id(peer), block=block, certificate=certificate)


def node_id(number: int) -> Address:
    """Return the node id of a miner's node."""
    return address_of(key_of(f"node {number}").public)


def proposal_of(block: Block) -> Proposal:
    """Return what is agreed on of a block."""
    return Proposal(
        header=block.header, digests=tuple(transaction.digest for transaction in block.transactions)
    )


async def settle(turns: int = 60) -> None:
    """Let everything run that waits for no time to pass."""
    for _ in range(turns):
        await asyncio.sleep(0)
