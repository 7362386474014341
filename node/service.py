"""A whole node, put together from its ports.

`Node` knows no socket, file or clock: real ports make it the process that `node.process` starts,
simulated ones a citizen of the simulator.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import structlog

from chain.blocks import Block
from chain.crypto import SigningKey
from chain.genesis import Genesis
from chain.transactions import Transaction
from chain.transition import Execution
from chain.types import Address, Digest
from consensus.replica import Replica
from consensus.snapshot import Snapshot
from node.announcer import Announcer
from node.answers import Answers
from node.api import ModelStanding, NodeStatus, Submission, TransactionStatus
from node.behaviour_service import BehaviourService, Watched
from node.blobs.fetcher import BlobFetcher
from node.blobs.ledger import FileLimits
from node.blobs.store import BlobLimits, BlobStore
from node.block_maker import BlockMaker
from node.bodies import BodyExchange
from node.consensus_log import recover_log
from node.diagnosis import Diagnosis
from node.evidence_service import EvidenceService
from node.federation import Federation
from node.file_service import FileService
from node.gossip import Gossip
from node.intake import Intake
from node.key_watch import KeyWatch
from node.members import Members
from node.mempool import Mempool, MempoolLimits
from node.metrics import Metrics
from node.model_service import ModelService
from node.own_transactions import OwnTransactions
from node.peer_messages import PeerMessages
from node.ports import (
    Clock,
    Executor,
    Files,
    KeyValueStore,
    Log,
    Random,
    RemoteSigner,
    Transport,
    VerdictSource,
)
from node.progress import Progress
from node.pruner import Pruner, PruningPolicy
from node.replica_driver import ReplicaDriver
from node.snapshot_service import SnapshotService, SnapshotSettings
from node.state_sync import StateSync, SyncSettings
from node.storage.chain_store import ChainStore
from node.storage.snapshots import SnapshotStore
from node.storage.staging import Staging
from node.transaction_lookup import TransactionLookup
from node.verdict_service import VerdictService
from node.verification import Verifier

VERSION: Final = version("securenet")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The world, as a node sees it.

    Parameters
    ----------
    bulk : Executor, optional
        Where blobs are written and federated rounds are computed, each call of which may take many
        seconds: consensus must find `executor` free. By default that one.
    verdicts : VerdictSource or None
        None: this miner does not judge.
    signer : RemoteSigner, optional
        The process that has the miner's key, where the node has none.
    """

    clock: Clock
    random: Random
    executor: Executor
    store: KeyValueStore
    wal: Log
    files: Files
    transport: Transport
    verdicts: VerdictSource | None
    signer: RemoteSigner | None = None
    bulk: Executor | None = None


class Node:
    """One node of a chain; implements `node.api.NodeApi`.

    Parameters
    ----------
    key : SigningKey or None
        The miner's key; an observer's stands in no set of miners. None: ``ports.signer`` has it.
    next_key : SigningKey, optional
        The key that is to take its place once the miners have voted so.
    miner : Address, optional
        Whose keys these are; by default the miner that has, or had, `key` on the chain. Needed
        without a `key`.
    node_id : Address
        Id of the node's own key, by which its peers know it.
    path : Path
        Where the data are, for messages.
    on_membership : callable, optional
        Told when the miners, their keys or addresses have changed.
    mempool : MempoolLimits, optional
        Bounds of the pool.
    snapshots : SnapshotSettings, optional
        When snapshots are made.
    sync : SyncSettings, optional
        How the node catches up.
    pruning : PruningPolicy, optional
        What is kept of old blocks; everything by default.
    watches_behaviour : bool
        Whether it watches how devices behave, for those who ask.
    blobs : BlobLimits, optional
        Bounds of the blob store.
    files : FileLimits, optional
        What is kept of devices' files in it, and for how long.

    Attributes
    ----------
    members : Members
        Who the miners are, and where their nodes.
    receiver : PeerMessages
        Takes what the transport brings.
    """

    def __init__(
        self,
        *,
        genesis: Genesis,
        key: SigningKey | None,
        node_id: Address,
        ports: Ports,
        metrics: Metrics,
        path: Path,
        on_membership: Callable[[], None] = lambda: None,
        mempool: MempoolLimits | None = None,
        snapshots: SnapshotSettings = SnapshotSettings(),  # noqa: B008 (immutable)
        sync: SyncSettings = SyncSettings(),  # noqa: B008 (immutable)
        pruning: PruningPolicy | None = None,
        blobs: BlobLimits | None = None,
        files: FileLimits = FileLimits(),  # noqa: B008 (immutable)
        next_key: SigningKey | None = None,
        miner: Address | None = None,
        watches_behaviour: bool = False,
    ) -> None:
        self._ports = ports
        self._genesis = genesis
        self._node_id = node_id
        self._metrics = metrics
        self._on_membership = on_membership
        assert (key is None) == (ports.signer is not None), "a miner's key is in one place"
        self._chain = ChainStore(ports.store, genesis, ports.executor, path=path)
        keys = [known for known in (key, next_key) if known is not None]
        self._keys = KeyWatch(self._chain.state, [known.public for known in keys], miner)
        self._miner = self._keys.miner
        self._mempool = Mempool(mempool)
        self._lookup = TransactionLookup(
            chain=self._chain, mempool=self._mempool, clock=ports.clock
        )
        self._verifier = Verifier(ports.executor)
        self.members = Members(self._chain.state, miner=self._miner)
        self._progress = Progress(
            members=self.members,
            clock=ports.clock,
            is_connected=lambda peer: peer in ports.transport.connected(),
        )
        bulk = ports.bulk or ports.executor
        snapshot_store = SnapshotStore(ports.store, keep=snapshots.keep)
        self._blobs = BlobStore(ports.files, path=path, clock=ports.clock, limits=blobs)
        self._fetcher = BlobFetcher(
            store=self._blobs,
            transport=ports.transport,
            executor=bulk,
            metrics=metrics,
        )
        self._answers = Answers(
            chain=self._chain,
            snapshots=snapshot_store,
            blobs=self._blobs,
            transport=ports.transport,
            executor=ports.executor,
            metrics=metrics,
        )
        self._snapshots = SnapshotService(
            chain=self._chain,
            snapshots=snapshot_store,
            executor=ports.executor,
            interval_blocks=snapshots.interval_blocks,
            highest_seen=lambda: self._progress.highest_seen,
            on_made=lambda: self._announcer.tell_all(),
        )
        self._announcer = Announcer(
            chain=self._chain,
            transport=ports.transport,
            snapshots=lambda: self._snapshots.heights,
        )
        first = self._chain.header(0)
        assert first is not None, "block 0 is always kept"
        self._state_sync = StateSync(
            chain=self._chain,
            staging=Staging(ports.store, genesis),
            transport=ports.transport,
            executor=ports.executor,
            clock=ports.clock,
            progress=self._progress,
            first_header=first,
            settings=sync,
            on_released=lambda: self._driver.sync.on_progress(),
        )
        self._gossip = Gossip(ports.transport, self.members.others)
        self._bodies = BodyExchange(ports.transport, self._find)
        self._intake = Intake(
            chain=self._chain,
            mempool=self._mempool,
            verifier=self._verifier,
            gossip=self._gossip,
            clock=ports.clock,
            metrics=metrics,
            miner=self._miner,
            on_work=self._on_work,
            penalise=ports.transport.penalise,
        )
        self._maker = BlockMaker(
            chain=self._chain,
            mempool=self._mempool,
            verifier=self._verifier,
            bodies=self._bodies,
            admit=self._intake.admit_waiting,
            clock=ports.clock,
            miner=self._miner,
        )
        own = OwnTransactions(
            genesis_hash=genesis.hash,
            state=self._chain.state,
            intake=self._intake,
            keys=keys,
            miner=self._miner,
            clock=ports.clock,
            random=ports.random,
            signer=ports.signer,
        )
        self._evidence = EvidenceService(
            chain=self._chain, own=own, miner=self._miner, clock=ports.clock
        )
        self._driver = ReplicaDriver(
            replica=Replica(
                signer=key,
                next_signer=next_key,
                miner_id=self._miner,
                durable=recover_log(ports.wal, path),
            ),
            chain=self._chain,
            wal=ports.wal,
            transport=ports.transport,
            clock=ports.clock,
            executor=ports.executor,
            mempool=self._mempool,
            maker=self._maker,
            gossip=self._gossip,
            intake=self._intake,
            members=self.members,
            progress=self._progress,
            answers=self._answers,
            is_sync_held=self._state_sync.holds_blocks,
            metrics=metrics,
            on_committed=self._on_committed,
            on_evidence=self._evidence.report,
            signer=ports.signer,
        )
        self._verdicts: VerdictService | None = None
        if ports.verdicts is not None:
            self._verdicts = VerdictService(
                chain=self._chain,
                executor=ports.executor,
                source=ports.verdicts,
                own=own,
                miner=self._miner,
                clock=ports.clock,
                metrics=metrics,
                on_missing=self._on_model_missing,
            )
        self._models = ModelService(
            chain=self._chain,
            blobs=self._blobs,
            fetcher=self._fetcher,
            executor=bulk,
            source=ports.verdicts,
            on_ready=self._on_model_ready,
            metrics=metrics,
        )
        self._federation = Federation(
            chain=self._chain,
            blobs=self._blobs,
            fetcher=self._fetcher,
            executor=bulk,
            own=own,
            miner=self._miner,
            clock=ports.clock,
            metrics=metrics,
        )
        self._file_service = FileService(
            chain=self._chain,
            blobs=self._blobs,
            fetcher=self._fetcher,
            clock=ports.clock,
            executor=bulk,
            metrics=metrics,
            limits=files,
        )
        self._pruner = Pruner(
            chain=self._chain,
            executor=ports.executor,
            policy=pruning or PruningPolicy(),
            metrics=metrics,
        )
        self._behaviour: BehaviourService | None = None
        if watches_behaviour:
            self._behaviour = BehaviourService(
                chain=self._chain, executor=ports.executor, metrics=metrics
            )
        self.receiver = PeerMessages(
            driver=self._driver,
            intake=self._intake,
            bodies=self._bodies,
            answers=self._answers,
            announcer=self._announcer,
            progress=self._progress,
            state_sync=self._state_sync,
            fetcher=self._fetcher,
            transport=ports.transport,
            metrics=metrics,
        )

    # node.api.NodeApi

    @property
    def genesis(self) -> Genesis:
        """The chain's genesis document."""
        return self._genesis

    @property
    def chain(self) -> ChainStore:
        """Committed blocks and state, for reading."""
        return self._chain

    @property
    def blobs(self) -> BlobStore:
        """The blobs that are held here."""
        return self._blobs

    @property
    def metrics(self) -> Metrics:
        """The node's metrics."""
        return self._metrics

    @property
    def miner(self) -> Address:
        """Id of the miner that this node is, or would be."""
        return self._miner

    def status(self) -> NodeStatus:
        """Return how the node is doing."""
        snapshot = self._driver.snapshot()
        return NodeStatus(
            node_id=self._node_id,
            miner_id=self._miner if self.members.is_member else None,
            round=0 if snapshot is None else snapshot.round,
            syncing=self._driver.sync.is_behind,
            peers=tuple(self._ports.transport.connected()),
            mempool_transactions=len(self._mempool),
            mempool_bytes=self._mempool.size_bytes,
            highest_seen=self._progress.highest_seen,
            has_heard=self._progress.is_settled,
            version=VERSION,
        )

    @property
    def snapshot_height(self) -> int:
        """The height of the latest snapshot that this node has for its peers; 0 for none."""
        return max(self._snapshots.heights, default=0)

    def consensus(self) -> Snapshot | None:
        """Return what consensus waits for; None before the first height has begun."""
        return self._driver.snapshot()

    def held(self) -> dict[str, int]:
        """Return how many entries of what the node holds in memory; each kind has a bound."""
        tip = self._chain.tip
        return {
            "blobs": self._blobs.held[0],
            "files": self._file_service.count,
            "candidates": self._maker.candidate_count,
            "fates": self._mempool.remembered_count,
            "federated_rounds": self._federation.open_count,
            "lookback_ids": tip.recent.id_count,
            "lookback_subjects": tip.recent.subject_count,
            "pooled": len(self._mempool),
            "records": tip.state.cached_count,
            "unadmitted": self._intake.waiting_count,
            "verified": self._verifier.remembered_count,
            "watched": 0 if self._behaviour is None else self._behaviour.device_count,
        }

    def diagnosis(self) -> Diagnosis | None:
        """Return why the chain does not go on; None before the first height has begun."""
        return self._driver.diagnosis()

    def time_ms(self) -> int:
        """Return the node's wall clock."""
        return self._ports.clock.wall_ms()

    def clock_offset_ms(self) -> int | None:
        """Return how far the wall clock is ahead of those of the proposers; None: not known."""
        return self._driver.clock_watch.offset_ms()

    def monotonic_ns(self) -> int:
        """Return the node's monotonic clock, in which `consensus` speaks."""
        return self._ports.clock.monotonic_ns()

    async def submit(self, transactions: Sequence[bytes]) -> Sequence[Submission]:
        """Admit transactions given in their canonical bytes; one result each, in order."""
        return await self._intake.submit(transactions)

    def models(self) -> Mapping[Digest, ModelStanding]:
        """Return how the models that judge, or may, stand here; none where nothing is judged."""
        return self._models.standings

    async def behaviour(self, device: Address, group: Address) -> Watched | None:
        """Return how a device of a group behaves; None where the node does not watch."""
        if self._behaviour is None:
            return None
        return await self._behaviour.report(device, group)

    def transaction(self, id: Digest) -> TransactionStatus:
        """Return where a transaction is in its life; may be called from any thread."""
        return self._lookup.status(id)

    async def wait_transaction(self, id: Digest, timeout_ms: int) -> TransactionStatus:
        """Return the status once the transaction is no longer pending, or when time is up."""
        return await self._lookup.wait(id, timeout_ms)

    async def wait_height(self, height: int) -> None:
        """Return once block `height` is committed here."""
        await self._lookup.wait_height(height)

    # Life

    async def run(self) -> None:
        """Work until cancelled; return where the node has to be started again.

        That is once it has fetched a snapshot: its database then opens as the chain of that.

        Raises
        ------
        StorageError
            The disk refused; the node has stopped before it promised anything that is not on it.
        """
        log.info(
            "node starts",
            chain=self._genesis.chain_id,
            node=self._node_id.hex(),
            miner=self._miner.hex() if self.members.is_member else None,
            height=self._chain.height,
        )
        self._keys.look()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._ports.transport.run(self.receiver))
                group.create_task(self._driver.run())
                group.create_task(self._driver.sync.run())
                group.create_task(self._answers.run())
                group.create_task(self._snapshots.run())
                group.create_task(self._intake.run())
                group.create_task(self._evidence.run())
                group.create_task(self._pruner.run())
                group.create_task(self._models.run())
                group.create_task(self._federation.run())
                group.create_task(self._file_service.run())
                if self._verdicts is not None:
                    group.create_task(self._verdicts.run())
                if self._behaviour is not None:
                    group.create_task(self._behaviour.run())
                await self._state_sync.run()
                raise _Restart
        except* _Restart:
            log.info("node starts again", height=self._chain.height)

    def _find(self, block: Digest, digests: Sequence[Digest]) -> list[Transaction]:
        return self._maker.find(block, digests)

    def _on_work(self) -> None:
        self._driver.on_work()

    def _on_model_missing(self, model: Digest) -> None:
        self._models.on_missing(model)

    def _on_model_ready(self, model: Digest) -> None:
        if self._verdicts is not None:
            self._verdicts.on_model_ready(model)

    def _on_committed(self, block: Block, execution: Execution) -> None:
        del execution
        if self.members.update(self._chain.state):
            self._keys.look()
            self._on_membership()
        self._announcer.tell_all()
        self._state_sync.on_progress()
        self._snapshots.on_committed()
        self._models.on_committed(block)
        self._federation.on_committed()
        self._file_service.on_committed(block)
        if self._verdicts is not None and self.members.is_member:
            self._verdicts.on_committed()
        if self._behaviour is not None:
            self._behaviour.on_committed()
        self._lookup.on_committed()


class _Restart(Exception):
    """Ends the tasks of a node that is to start again."""
