"""Obeys the replica: writes and fsyncs, then sends, then commits blocks.

The driver is the only one that moves the chain on. Everything that concerns consensus goes through
its one inbox, so that a block from a peer and a decision of the replica never cross.
docs/spec/durability.md says why the order of obedience is what it is, docs/adr/0013 why there is
one queue.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

import structlog

from chain.blocks import Block
from chain.certificate import CommitCertificate
from chain.errors import InvalidBlock, InvalidCertificate
from chain.state import heartbeat_ms_of
from chain.transition import Execution
from chain.types import Address, Height
from consensus.errors import InvalidMessage, NotAMember, OtherKey, UntimelyProposal
from consensus.events import (
    BlockBuilt,
    Event,
    HeightConfig,
    StartHeight,
    Tick,
    WorkPending,
)
from consensus.evidence import Evidence
from consensus.messages import Proposal
from consensus.output import (
    AnswerOldHeight,
    BuildBlock,
    CatchUp,
    CheckProposal,
    Committed,
    FetchBlock,
    GossipPending,
    Output,
    Request,
    Send,
    SignMessage,
    TellFloor,
    TellShown,
)
from consensus.replica import Replica
from consensus.signer import AWAITING_PEERS
from consensus.snapshot import Snapshot
from node.answers import Answers
from node.block_maker import BlockMaker
from node.block_sync import LIE_POINTS, BlockSync, FetchedBlock
from node.clock_watch import ClockWatch
from node.consensus_log import ConsensusLog
from node.diagnosis import Diagnosis, Facts, diagnose
from node.disk_watch import DiskWatch
from node.fetched_check import check_fetched
from node.gossip import Gossip
from node.height_config import height_config
from node.height_work import HeightWork
from node.inbox import FromPeer, Inbox
from node.intake import Intake
from node.members import Members
from node.mempool import Mempool
from node.metrics import Metrics
from node.peer_events import PeerEvents
from node.ports import Clock, Executor, Log, RemoteSigner, Transport
from node.progress import Progress
from node.protocol import (
    CONSENSUS,
    GET_SHOWN,
    PROPOSED,
    SHOWN,
    GetProposal,
    GetShown,
    Shown,
    encode_body,
)
from node.storage.chain_store import ChainStore

INVALID_POINTS: Final = 20
RESENT_TRANSACTIONS: Final = 500
RESENT_BYTES: Final = 256 * 1024
"""What is sent to all when a round fails: the first in line, not the whole pool, lest a network
that is slow because of its load is given more of it."""
HEARTBEAT_S: Final = 1.0
"""How often it is looked whether an idle chain is due for a block, or work was left over."""

_BLAMELESS: Final = (UntimelyProposal, NotAMember)
"""What honest peers may be found guilty of: a slow link, a wrong clock, news of another height."""
_WORK: Final = "work"
_NS_PER_MS: Final = 1_000_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Fetched:
    blocks: Sequence[FetchedBlock]
    done: asyncio.Future[None]


class ReplicaDriver:
    """Runs a replica in the world.

    Parameters
    ----------
    is_sync_held : callable
        Tells whether no blocks may be fetched now.
    on_committed : callable
        ``on_committed(block, execution)``, told of every block once it is durable.
    on_evidence : callable
        ``on_evidence(evidence)``, told of every proof against a miner; it does not wait.
    signer : RemoteSigner, optional
        The process that has the miner's key, where the replica has none.

    Attributes
    ----------
    peers : PeerEvents
        Takes what peers say of consensus.
    sync : BlockSync
        Fetches blocks from peers that are ahead.
    clock_watch : ClockWatch
        Compares this node's clock with those of the proposers.

    Notes
    -----
    A `StorageError` ends it, and the node with it: a miner that cannot write must not vote.
    """

    def __init__(
        self,
        *,
        replica: Replica,
        chain: ChainStore,
        wal: Log,
        transport: Transport,
        clock: Clock,
        executor: Executor,
        mempool: Mempool,
        maker: BlockMaker,
        gossip: Gossip,
        intake: Intake,
        members: Members,
        progress: Progress,
        answers: Answers,
        is_sync_held: Callable[[], bool],
        metrics: Metrics,
        on_committed: Callable[[Block, Execution], None],
        on_evidence: Callable[[Evidence], None],
        signer: RemoteSigner | None = None,
    ) -> None:
        self._replica = replica
        self._chain = chain
        self._log = ConsensusLog(wal, needed=lambda: replica.durable)
        self._transport = transport
        self._clock = clock
        self._executor = executor
        self._mempool = mempool
        self._maker = maker
        self._gossip = gossip
        self._intake = intake
        self._members = members
        self._answers = answers
        self._metrics = metrics
        self._on_committed = on_committed
        self._on_evidence = on_evidence
        self._signer = signer
        self._inbox: Inbox[Event | Committed | _Fetched] = Inbox()
        self.sync = BlockSync(
            chain=chain,
            transport=transport,
            executor=executor,
            members=members,
            progress=progress,
            is_held=is_sync_held,
            pooled=mempool.get,
            commit=self.commit_fetched,
        )
        self._height_work = HeightWork(
            replica=replica,
            chain=chain,
            maker=maker,
            members=members,
            transport=transport,
            metrics=metrics,
            answer=self._inbox.put,
        )
        self._disk = DiskWatch(clock, metrics)
        self.clock_watch = ClockWatch(clock)
        self.peers = PeerEvents(
            self._inbox,
            members=members,
            transport=transport,
            clock=clock,
            clock_watch=self.clock_watch,
            metrics=metrics,
        )
        self._deadline_ns: int | None = None
        self._work_told = False
        # When the tip was committed here; unknown after a start.
        self._committed_ns: int | None = None
        self._config: HeightConfig | None = None

    # What others tell the driver; none of these waits

    def on_proposal(self, peer: Address, proposal: Proposal) -> None:
        """Take the answer to a question for a block by its hash."""
        self._height_work.on_proposal(peer, proposal)

    def on_get_proposal(self, peer: Address, request: GetProposal) -> None:
        """Answer a peer that has to propose a block which it does not hold."""
        proposal = self._maker.proposal(request.block)
        if proposal is not None:
            self._transport.send(peer, PROPOSED, encode_body(PROPOSED, proposal))

    def on_work(self) -> None:
        """Tell the replica that there is something to agree on, once a height."""
        self._height_work.on_work()
        if not self._work_told and (self._is_heartbeat_due() or self._intake.has_work()):
            self._work_told = True
            self._inbox.tell(_WORK, WorkPending())

    def snapshot(self) -> Snapshot | None:
        """Return what consensus waits for; None before the first height has begun."""
        return self._replica.snapshot()

    def diagnosis(self) -> Diagnosis | None:
        """Return why the chain does not go on, as far as this node can tell."""
        snapshot = self.snapshot()
        if snapshot is None:
            return None
        connected = set(self._transport.connected())
        nodes = {m.miner: self._members.nodes_of([m.miner]) for m in snapshot.members}
        troubles = {
            miner: trouble
            for miner, known in nodes.items()
            for node in known
            if (trouble := self._transport.trouble(node)) is not None
        }
        facts = Facts(
            snapshot=snapshot,
            now_ns=self._clock.monotonic_ns(),
            heard={miner for miner, known in nodes.items() if connected.intersection(known)},
            troubles=troubles,
            is_behind=self.sync.is_behind,
            write_ns=self._disk.write_ns(),
            clock_offsets_ms=self.clock_watch.offsets_ms(),
        )
        return diagnose(facts)

    async def commit_fetched(self, blocks: Sequence[FetchedBlock]) -> None:
        """Verify and commit blocks from peers, in their turn."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._inbox.put(_Fetched(blocks, done))
        await done

    # The loop

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._heartbeat())
            await self._start_height(group)
            if self._signer is not None:
                group.create_task(self._signer.run(self._inbox.put))
            while True:
                item = await self._next()
                match item:
                    case FromPeer():
                        await self._step(item.said, group, peer=item.peer)
                    case Committed():
                        if item.height > self._chain.height:
                            await self._commit_decided(item, group)
                    case BlockBuilt():
                        # What it names leaves before it, or those that get it have to ask.
                        self._gossip.flush()
                        await self._step(item, group)
                    case _Fetched():
                        await self._commit_all(item.blocks, group)
                        if not item.done.done():
                            item.done.set_result(None)
                    case _:
                        await self._step(item, group)

    async def _next(self) -> Event | Committed | FromPeer | _Fetched:
        if self._deadline_ns is None:
            return await self._inbox.get()
        left_ns = self._deadline_ns - self._clock.monotonic_ns()
        if left_ns > 0:
            try:
                async with asyncio.timeout(left_ns / 1e9):
                    return await self._inbox.get()
            except TimeoutError:
                pass  # the deadline has come
        self._deadline_ns = None
        return Tick()

    async def _step(
        self, event: Event, group: asyncio.TaskGroup, *, peer: Address | None = None
    ) -> None:
        try:
            output = self._replica.step(event, self._clock.monotonic_ns())
        except InvalidMessage as error:
            self._metrics.peer_refused("consensus")
            log.debug("consensus message refused", reason=str(error))
            if peer is not None and not self._is_blameless(error, peer):
                self._transport.penalise(peer, INVALID_POINTS, str(error))
            return
        await self._obey(output, group)

    def _is_blameless(self, error: InvalidMessage, peer: Address) -> bool:
        """Tell whether an honest peer may have sent what was refused."""
        if isinstance(error, OtherKey):
            return self.peers.may_have_replaced_its_key(peer, error.sender)
        return isinstance(error, _BLAMELESS)

    async def _obey(self, output: Output, group: asyncio.TaskGroup) -> None:
        if output.writes:
            with self._disk.writing():
                await self._executor.run(self._log.append, output.writes)
        if any(isinstance(request, GossipPending) for request in output.requests):
            self._gossip.send_pending(self._mempool.take(RESENT_TRANSACTIONS, RESENT_BYTES))
        unsent = {node for send in output.sends for node in self._send(send)}
        for request in output.requests:
            self._begin(request, group, unsent)
        for entry in output.rounds:
            assert entry.lacked is not None, "a round that is left lacks something"
            self._metrics.round_failed(entry.lacked)
            log.info("round given up", round=entry.round, cause=entry.cause, lacked=entry.lacked)
        for refused in output.rejected:
            self._metrics.peer_refused("consensus")
            log.debug("buffered consensus message refused", reason=str(refused))
        for evidence in output.evidence:
            self._metrics.evidence_found()
            log.warning(
                "a miner signed two things",
                miner=evidence.miner.hex(),
                type=evidence.type,
                height=evidence.height,
                round=evidence.round,
            )
            self._on_evidence(evidence)
        self._deadline_ns = output.deadline_ns
        for committed in output.commits:
            await self._commit_decided(committed, group)

    def _send(self, send: Send) -> list[Address]:
        """Send a message; return to whom it could not be sent."""
        nodes = self._members.others() if send.to is None else self._members.nodes_of([send.to])
        return [node for node in nodes if not self._transport.send(node, CONSENSUS, send.data)]

    # Requests of the replica

    def _begin(
        self, request: Request, group: asyncio.TaskGroup, unsent: Collection[Address]
    ) -> None:
        match request:
            case GossipPending():
                pass  # obeyed before the sends
            case BuildBlock():
                self._height_work.build(request, group)
            case CheckProposal():
                self._height_work.check(request, group)
            case FetchBlock():
                if request.certificate is not None:
                    for node in self._members.nodes_of(request.holders):
                        self.sync.catch_up_with(node, request.height)
                self._height_work.fetch(request, group)
            case AnswerOldHeight():
                for node in self._members.nodes_of([request.miner]):
                    self._answers.send_block(node, request.height)
            case TellShown():
                shown = encode_body(SHOWN, Shown(height=request.height))
                for node in self._members.nodes_of([request.miner]):
                    # Not where a part found no room: it signs once it believes that this was all.
                    if node not in unsent:
                        self._transport.send(node, SHOWN, shown)
            case CatchUp():
                for node in self._members.nodes_of([request.miner]):
                    self.sync.catch_up_with(node, Height(request.height - 1))
            case SignMessage() | TellFloor():
                assert self._signer is not None, "a miner asks for signatures only without a key"
                self._signer.ask(request)
            case _:
                assert_never(request)

    # Committing

    async def _commit_decided(self, committed: Committed, group: asyncio.TaskGroup) -> None:
        candidate = await self._maker.recall(committed.proposal.digest)
        if candidate is None:
            self._height_work.recover(committed, group)
        else:
            await self._commit(candidate.block, candidate.execution, committed.certificate, group)

    async def _commit_all(self, blocks: Sequence[FetchedBlock], group: asyncio.TaskGroup) -> None:
        for fetched in blocks:
            header = fetched.block.header
            if header.height <= self._chain.height:
                continue
            try:
                execution = await check_fetched(fetched, self._chain, self._maker)
            except (InvalidBlock, InvalidCertificate) as error:
                log.warning(
                    "peer sent a bad block",
                    peer=fetched.peer.hex(),
                    height=header.height,
                    reason=str(error),
                )
                self._metrics.peer_refused("bad_block")
                self._transport.penalise(fetched.peer, LIE_POINTS, str(error))
                return
            await self._commit(fetched.block, execution, fetched.certificate, group)

    async def _commit(
        self,
        block: Block,
        execution: Execution,
        certificate: CommitCertificate,
        group: asyncio.TaskGroup,
    ) -> None:
        started_ns = self._clock.monotonic_ns()
        await self._chain.commit(execution, block, certificate)
        self._metrics.block_committed(
            height=block.header.height,
            round=certificate.round,
            transactions=len(block.transactions),
            time_ms=block.header.time_ms,
            write_ns=self._clock.monotonic_ns() - started_ns,
        )
        self._committed_ns = self._clock.monotonic_ns()
        self._height_work.drop()
        self._maker.on_committed(certificate.round)
        self._mempool.remove([transaction.id for transaction in block.transactions])
        log.info(
            "block committed",
            height=block.header.height,
            round=certificate.round,
            transactions=len(block.transactions),
            hash=block.header.hash.hex(),
        )
        self._on_committed(block, execution)
        self.sync.on_progress()
        if self._log.is_long:
            await self._executor.run(self._log.rewrite)
        await self._start_height(group)

    async def _start_height(self, group: asyncio.TaskGroup) -> None:
        config = height_config(self._chain.tip)
        # What was told of the height before may be on the chain by now.
        self._inbox.retract(_WORK)
        self._config = config
        await self._step(StartHeight(config=config), group)
        self._work_told = False
        self.on_work()

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            self._intake.expire()
            self.on_work()
            if self._config is not None:
                self.clock_watch.look(self._config.miners, self._config.timing)
            self._ask_shown()

    def _ask_shown(self) -> None:
        """Ask the others to show what this miner has signed, until enough of them have."""
        snapshot = self._replica.snapshot()
        if snapshot is not None and snapshot.signing == AWAITING_PEERS:
            request = encode_body(GET_SHOWN, GetShown(height=snapshot.height))
            for node in self._members.others():
                self._transport.send(node, GET_SHOWN, request)

    def _is_heartbeat_due(self) -> bool:
        """Tell whether an empty block may be made, by the wall clock and by the monotonic one.

        Its time would be the wall clock's. But one that is ahead, or jumps, must not wake the
        others all the time: each of their rounds would fail, and blame somebody.
        """
        tip = self._chain.tip
        heartbeat_ms = heartbeat_ms_of(tip.state)
        if self._committed_ns is not None:
            passed_ns = self._clock.monotonic_ns() - self._committed_ns
            if passed_ns < heartbeat_ms * _NS_PER_MS:
                return False
        return self._clock.wall_ms() >= tip.header.time_ms + heartbeat_ms
