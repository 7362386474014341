"""A world: whole nodes on simulated ports, and what may happen to them.

One seed decides everything: keys, latencies, what a crash leaves on a disk, when faults strike. A
scene is a coroutine function that takes the world, starts and stops nodes, cuts links, and waits
for what should happen; the checkers watch all the while.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

from chain.certificate import VOTE_TAG
from chain.crypto import SigningKey, address_of, signing_key
from chain.eligibility import is_active
from chain.genesis import Genesis, GenesisMiner, GenesisOrganisation
from chain.kinds.models import ModelRegister
from chain.kinds.organisations import organisation_id
from chain.parameters import Parameters
from chain.payloads import Flow
from chain.records.miners import MINER_SETS, MINER_TABLE
from chain.state import miner_sets_of
from chain.types import Address, Digest, Height, PublicKey, TimestampMs
from consensus.durable import Floor, encode_record
from consensus.messages import Message, Position
from ml_validator.errors import MissingModel, RefusedModel
from ml_validator.registration import Registration
from node.block_sync import LATE_POINTS
from node.errors import StorageError
from node.members import Members
from node.metrics import Metrics
from node.model_service import FETCHED_SIZE_MAX
from node.p2p import PeerDirectory, PeerEntry
from node.ports import Log, VerdictSource, WriteBatch
from node.protocol import CONSENSUS, KINDS, STATUS, Status, decode_body
from node.service import Node, Ports
from node.signer_guard import GuardedLog
from node.snapshot_service import SnapshotSettings
from node.state_sync import SyncSettings
from node.storage import schema
from tests.simulation.checkers import Ledger, Promises, Traffic, Violation
from tests.simulation.clock import SimulatedClock
from tests.simulation.conduct import BlockTimes, Conduct
from tests.simulation.disk import PowerLost, SimulatedDisk, SimulatedExecutor
from tests.simulation.loop import new_loop
from tests.simulation.network import LinkQuality, SimulatedNetwork, SimulatedTransport
from tests.simulation.random_source import SeededRandom
from tests.simulation.stand_in import StandIns
from tests.simulation.trace import NODE, WORLD, Trace, short
from tests.simulation.witness import WatchedLog, WatchedStore, WatchedTransport, digest_of

START_MS: Final = 1_767_225_600_000
"""The wall clock at simulated time 0, which is also the time of genesis."""
POLL_S: Final = 0.05
PORT: Final = 26_756
ORGANISATION: Final = "acme"
MODEL: Final = Digest(sha256(b"the model of the simulator").digest())
FLOW_SCHEMA: Final = Digest(sha256(b"the flows of the simulator").digest())
THRESHOLD_PPM: Final = 500_000
MODEL_SIZE: Final = 1
JUDGING_S: Final = 0.02

M = TypeVar("M", bound=Message)
LogLine = tuple[str, str, MutableMapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a world is made of; its course follows from the seed.

    Parameters
    ----------
    miners, observers : int
        Nodes that decide, and nodes that only follow.
    joiners : int
        Identities that may become miners; they have no machine until the scene sets one up.
    hostile : tuple of str
        Names of miners that the scene plays itself: they get keys and no node.
    twins : tuple of str
        Names of miners with two nodes that have the same keys, and disks of their own.
    detectors : bool
        Whether miners judge flows.
    quality : LinkQuality
        Of all links, until the scene changes it.
    disk_latency_us : int
        What a sync takes.
    guarded : bool
        Whether the miners' logs have guards, on disks of their own.
    parameters : Parameters
        Of the chain.
    snapshots, sync : SnapshotSettings and SyncSettings
        Of all nodes; `Host.sync` is that of one, where it is set.
    real_signatures : bool
        Whether keys are those of the chain, and not stand-ins.
    databases_checked : int or None
        How many databases are checked entry by entry at the end; None is all.
    """

    miners: int = 4
    observers: int = 0
    joiners: int = 0
    hostile: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()
    detectors: bool = True
    quality: LinkQuality = field(default_factory=LinkQuality)
    disk_latency_us: int = 500
    guarded: bool = False
    parameters: Parameters = field(default_factory=lambda: Parameters(heartbeat_ms=5_000))
    snapshots: SnapshotSettings = SnapshotSettings()  # noqa: RUF009 (immutable)
    sync: SyncSettings = SyncSettings()  # noqa: RUF009 (immutable)
    real_signatures: bool = True
    databases_checked: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Name and keys of a node; `next_key` is there from when it waits to replace the first."""

    name: str
    key: SigningKey
    node_key: SigningKey
    next_key: SigningKey | None = None

    @property
    def miner_id(self) -> Address:
        """Id as a miner."""
        return address_of(self.key.public)

    @property
    def node_id(self) -> Address:
        """Id as a node."""
        return address_of(self.node_key.public)

    def sign(self, message: M, genesis_hash: Digest) -> M:
        """Return a message of consensus with this miner's signature."""
        signature = self.key.sign(VOTE_TAG, message.statement(genesis_hash))
        return replace(message, signature=signature)


class Judge:
    """A :class:`node.ports.VerdictSource`: the first number of a flow is its score.

    Parameters
    ----------
    find : callable
        Returns the blob of a model other than `MODEL`, or None. Whatever it holds, it judges alike:
        by `FLOW_SCHEMA` and `THRESHOLD_PPM`, which it has to be registered with.
    """

    def __init__(self, find: Callable[[Digest], bytes | None]) -> None:
        self._find = find

    async def judge(self, model: Registration, flows: Sequence[Flow]) -> Sequence[int | None]:
        data = bytes(MODEL_SIZE) if model.model == MODEL else self._find(model.model)
        if data is None:
            raise MissingModel(model.model)
        fact = replace(model, schema=FLOW_SCHEMA, threshold_ppm=THRESHOLD_PPM, size_bytes=len(data))
        if model != fact:
            raise RefusedModel("it is registered as what it is not")
        await asyncio.sleep(JUDGING_S)
        return [min(flow.integers[0], 1_000_000) for flow in flows]


class Host:
    """A machine: disk and clock that stay, and a node that comes and goes.

    Attributes
    ----------
    node : Node or None
        None while the machine is down.
    committed : int
        The highest height that is durable on the disk.
    restarts : int
        How often the node has started again by itself.
    guard : SimulatedDisk
        Where the guard of the log is, if it has one.
    judge : VerdictSource or None
        Its detector; put another one in before a start.
    address : str
        Where it is reached; change it while the machine is down.
    """

    def __init__(self, world: "World", identity: Identity, *, detects: bool) -> None:
        self.identity = identity
        self.name = self.address = identity.name
        self.clock = SimulatedClock(world.loop.time, start_ms=START_MS)
        self.node: Node | None = None
        self.committed = 0
        self.restarts = 0
        self.sync: SyncSettings | None = None
        # What it had signed last when its disk was lost; empty while it never was.
        self._signed_before_wipe: tuple[Position | None, ...] = ()
        self._world = world
        self.judge: VerdictSource | None = Judge(self.find_model) if detects else None
        self._lives = 0
        self._task: asyncio.Task[None] | None = None
        self._transport: WatchedTransport | None = None
        self._disks = 0
        self.disk = self._new_disk()
        self.guard = SimulatedDisk(world.random(f"{self.name}/guard"))

    @property
    def is_up(self) -> bool:
        """Whether the node runs, or is about to."""
        return self._task is not None and not self._task.done()

    @property
    def is_failing(self) -> bool:
        """Whether its node may end at any moment, and cannot be asked for anything."""
        is_dead = self._transport is not None and self._transport.is_dead
        return is_dead or self.disk.full or self.disk.failing

    def start(self, group: asyncio.TaskGroup) -> None:
        """Start a node on what the disk holds."""
        assert not self.is_up, f"{self.name} runs already"
        if not self._lives:
            self._initialise()
        self._world.trace.note(WORLD, "start", self.name)
        self._task = group.create_task(self._live(), name=self.name)

    async def halt(self, *, power_fails: bool) -> None:
        """End the node without warning, as by a signal that cannot be caught or a power cut."""
        self._world.trace.note(WORLD, "crash" if power_fails else "kill", self.name)
        self.go_silent()
        for disk in (self.disk, self.guard):
            if power_fails:
                disk.crash()
            else:
                disk.kill()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def wipe(self) -> None:
        """Put an empty disk into the machine: all data are lost, what it signed included."""
        assert not self.is_up, f"{self.name} runs"
        self._world.trace.note(WORLD, "wipe", self.name)
        self._world.forget_found(self.name)
        self.disk = self._new_disk()
        self.committed = 0
        self._signed_before_wipe = (self._world.promises.last(self.identity.miner_id),)
        self._world.promises.forget_disk(self.name)

    @property
    def has_amnesia(self) -> bool:
        """Whether its disk was lost and it has not signed anything since."""
        return self._signed_before_wipe == (self._world.promises.last(self.identity.miner_id),)

    def restore(self, backup: SimulatedDisk) -> None:
        """Put an older copy of the disk into the machine: what happened since is forgotten."""
        assert not self.is_up, f"{self.name} runs"
        self._world.trace.note(WORLD, "restore", self.name)
        self._world.forget_found(self.name)
        self.disk = backup
        store = backup.open_store()
        place = store.get(schema.TIP_KEY)
        store.close()
        self.committed = 0 if place is None else int.from_bytes(place, "big")

    def find_model(self, digest: Digest) -> bytes | None:
        """Return a model that its node holds as a blob."""
        if self.node is None:
            return None
        try:
            return self.node.blobs.read_whole(digest, size_max=FETCHED_SIZE_MAX)
        except StorageError:
            return None

    def go_silent(self) -> None:
        """Cut the node off at once: nothing it still does reaches anybody."""
        if self._transport is not None:
            self._transport.is_dead = True

    def _initialise(self) -> None:
        """Do what is done once, when a miner is created: say that it has signed nothing yet."""
        log = self.disk.open_log()
        log.append([encode_record(Floor(height=Height(0)))])
        log.close()

    def _new_disk(self) -> SimulatedDisk:
        self._disks += 1
        disk = SimulatedDisk(self._world.random(f"{self.name}/disk/{self._disks}"))
        disk.latency_ns = self._world.settings.disk_latency_us * 1_000
        return disk

    async def _live(self) -> None:
        NODE.set(self.name)
        try:
            while True:
                node = self._build()
                if node.chain.height < self.committed:
                    raise Violation(f"{self.name} has lost heights above {node.chain.height}")
                # What a crash has left may be more than what was known to be synced.
                self.committed = node.chain.height
                self.node = node
                await node.run()
                # It has fetched a snapshot, and starts again on that.
                self._world.trace.note(WORLD, "again", self.name)
                self.restarts += 1
                self.go_silent()
                self.disk.kill()
        except (Exception, PowerLost, BaseExceptionGroup) as error:
            self._judge_end(error)
        finally:
            self.node = None
            self.go_silent()

    def _judge_end(self, error: BaseException) -> None:
        """Accept the end of a node whose machine failed; anything else fails the run."""
        leaves = leaves_of(error)
        if any(isinstance(leaf, Violation) for leaf in leaves):
            raise error
        if any(isinstance(leaf, PowerLost) for leaf in leaves):
            self.go_silent()
        if self._transport is None or not self._transport.is_dead:
            storage = all(isinstance(leaf, StorageError) for leaf in leaves)
            if not (storage and (self.disk.full or self.disk.failing)):
                raise error
            self.disk.kill()
        self._world.trace.note(WORLD, "down", self.name, *sorted(type(e).__name__ for e in leaves))

    def _build(self) -> Node:
        self._lives += 1
        world = self._world
        inner = world.transport(self.identity, life=self._lives, host=self.address)
        transport = self._transport = WatchedTransport(inner, self.name, world)
        executor = SimulatedExecutor(self.disk)
        wal: Log = self.disk.open_log()
        if world.settings.guarded:
            wal = GuardedLog(wal, self.guard.open_log())
        node = Node(
            genesis=world.genesis,
            key=self.identity.key,
            next_key=self.identity.next_key,
            node_id=self.identity.node_id,
            ports=Ports(
                clock=self.clock,
                random=SeededRandom(world.random(f"{self.name}/{self._lives}").getrandbits(64)),
                executor=executor,
                store=WatchedStore(self.disk.open_store(), self.name, world),
                wal=WatchedLog(wal, self.name, world),
                files=self.disk.files,
                transport=transport,
                verdicts=self.judge,
            ),
            metrics=Metrics(),
            snapshots=world.settings.snapshots,
            sync=self.sync or world.settings.sync,
            path=Path("simulated") / self.name,
            on_membership=lambda: transport.update_directory(world.directory(node.members)),
        )
        transport.update_directory(world.directory(node.members))
        return node


class World:
    """Nodes, network and checkers of one seed; implements `tests.simulation.witness.Witness`.

    Parameters
    ----------
    write : callable, optional
        Gets every line of the trace.

    Attributes
    ----------
    log : list of (str, str, mapping)
        What nodes have logged: node, event, fields.
    blames : list of (str, str, int, str)
        Which honest node has blamed which peer, by how many points, and why.
    byzantine : frozenset of Address
        The miners of which not all nodes are one honest node.
    astray : set of str
        Machines of honest miners and observers that the scene makes lie, or be lied to by their
        operators: blame of and by them is no fault.
    intended : tuple of tuple of Address
        Sets of miners that the scene is about to have voted in.
    """

    def __init__(
        self,
        seed: int,
        settings: Settings | None = None,
        *,
        write: Callable[[str], object] | None = None,
    ) -> None:
        self.seed = seed
        self.settings = settings or Settings()
        self.loop = new_loop()
        self._stand_ins = StandIns()
        self.trace = Trace(lambda: round(self.loop.time() * 1e9), write=write)
        self.network = SimulatedNetwork(
            self.random("network").getrandbits(64), self.settings.quality
        )
        self.identities = self._draw_identities()
        self.registrar = self.draw_key("registrar", algorithm="p256")
        self.organisation = organisation_id(ORGANISATION)
        self.genesis = self._make_genesis([name for name in self.identities if name[0] == "m"])
        self.byzantine = frozenset(
            self.identities[name].miner_id
            for name in (*self.settings.hostile, *self.settings.twins)
        )
        self.ledger = Ledger(self.genesis, byzantine=self.byzantine)
        self.conduct = Conduct(self.ledger)
        self.block_times = BlockTimes(self.settings.parameters.clock_precision_ms)
        self.promises = Promises(self.genesis.hash, on_signed=self.conduct.on_signed)
        self.traffic = Traffic()
        self.log: list[LogLine] = []
        self.blames: list[tuple[str, str, int, str]] = []
        self.hosts: dict[str, Host] = {}
        self.astray: set[str] = set()
        self.intended: tuple[tuple[Address, ...], ...] = ()
        self._violations: list[Violation] = []
        self._found: dict[str, set[Address]] = {}
        self._names = {identity.node_id: name for name, identity in self.identities.items()}
        self._group: asyncio.TaskGroup | None = None
        for name in self.identities:
            if name not in self.settings.hostile and name[0] != "j":
                self.set_up(name)
        for name in self.settings.twins:
            twin = replace(self.identities[name], name=twin_of(name))
            self.hosts[twin.name] = Host(self, twin, detects=False)
            self.hosts[twin.name].address = name

    # What a scene does

    def run(self, scene: Callable[["World"], Awaitable[None]]) -> "World":
        """Play `scene` from time 0 to its end, stop the nodes, and check what is on their disks.

        Raises
        ------
        Violation
            A rule was broken.
        """
        with self._stand_ins.verifying(), self.trace.logs(self._on_log):
            try:
                self.loop.run_until_complete(self._play(scene))
            except BaseException:
                if self._violations:
                    raise self._violations[0] from None
                raise
            finally:
                self.loop.close()
        if self._violations:
            raise self._violations[0]
        gc.collect()
        if self.loop.failures:
            raise ExceptionGroup("nobody handled", [_plain(e) for e in self.loop.failures])
        with self._stand_ins.verifying():
            self._check_disks()
        return self

    def random(self, purpose: str) -> Random:
        """Return the random numbers of one purpose, which none of another purpose shifts."""
        return Random(f"{self.seed}/{purpose}")

    def give_next_key(self, name: str) -> None:
        """Give a machine, for its next start, the key that is to be its miner's next one."""
        identity = replace(self.identities[name], next_key=self.draw_key(f"{name}/next"))
        self.identities[name] = self.hosts[name].identity = identity

    def key_of(self, name: str) -> SigningKey:
        """Return the key with which a miner signs transactions behind the last block."""
        identity = self.identities[name]
        record = self.ledger.tip.state.get(MINER_TABLE, identity.miner_id)
        is_replaced = record is not None and record.key != identity.key.public
        return identity.next_key if is_replaced and identity.next_key else identity.key

    def draw_key(self, purpose: str, *, algorithm: Any = "ed25519") -> SigningKey:
        """Return a key that the seed decides."""
        make = signing_key if self.settings.real_signatures else self._stand_ins.signing_key
        return make(algorithm, self.random(f"key/{purpose}").randbytes(32))

    @property
    def time_s(self) -> float:
        """Simulated seconds since the beginning."""
        return self.loop.time()

    def wall_ms(self) -> TimestampMs:
        """Return the true wall time."""
        return TimestampMs(START_MS + int(self.loop.time() * 1_000))

    def set_up(self, name: str) -> Host:
        """Put up a machine with an empty disk for an identity that has none."""
        assert name not in self.hosts, f"{name} has a machine"
        detects = self.settings.detectors and name[0] != "o"
        self.hosts[name] = Host(self, self.identities[name], detects=detects)
        return self.hosts[name]

    def start(self, *names: str) -> None:
        """Start nodes; all that are down unless some are named."""
        assert self._group is not None, "scenes start nodes"
        for name in names or sorted(self.hosts):
            host = self.hosts[name]
            if names or not host.is_up:
                host.start(self._group)

    async def kill(self, name: str) -> None:
        """End a node's process; what it has written survives."""
        await self.hosts[name].halt(power_fails=False)

    async def crash(self, name: str) -> None:
        """Cut the power of a node; what it has not synced survives as chance has it."""
        await self.hosts[name].halt(power_fails=True)

    def up(self) -> list[str]:
        """Return the names of the nodes that run."""
        return [name for name in sorted(self.hosts) if self.hosts[name].node is not None]

    def node(self, name: str) -> Node:
        """Return a running node."""
        node = self.hosts[name].node
        assert node is not None, f"{name} is down"
        return node

    def unpunished(self) -> set[Address]:
        """Return whom miners have stored evidence against, and the chain has not convicted."""
        found = [self._found.get(name, set()) for name in self.up() if self.is_miner(name)]
        return {
            miner for accused in found for miner in accused if not self.ledger.is_convicted(miner)
        }

    def miner_sets(self) -> tuple[tuple[Address, ...], ...]:
        """Return who decides the next height, the one after it, and the one after that."""
        sets = self.ledger.tip.state.get(MINER_SETS)
        assert sets is not None, "genesis sets the miners"
        return tuple(
            tuple(miner.id for miner in members)
            for members in (sets.current, sets.next, sets.after or sets.next)
        )

    def is_miner(self, name: str) -> bool:
        """Tell whether a name is one of the miners that decide the next height, and not demoted."""
        state = self.ledger.tip.state
        current, _ = miner_sets_of(state)
        miner = self.identities[name].miner_id
        return miner in current and is_active(state, miner)

    def forget_found(self, name: str) -> None:
        """Drop what a node has found, for its disk has."""
        self._found.pop(name, None)

    def heights(self) -> dict[str, int]:
        """Return the height of every running node."""
        return {name: self.node(name).chain.height for name in self.up()}

    async def until(
        self,
        condition: Callable[[], bool],
        *,
        within_s: float,
        what: str = "the condition",
        poll_s: float = POLL_S,
    ) -> float:
        """Wait until `condition` holds, looking every `poll_s`; return how long that took.

        Raises
        ------
        Violation
            It does not hold in time.
        """
        begun_s = self.time_s
        while not condition():
            if self.time_s - begun_s > within_s:
                raise self._violated(
                    f"{what} did not come within {within_s} s; heights {self.heights()}"
                )
            await asyncio.sleep(poll_s)
        return self.time_s - begun_s

    async def reach(self, height: int, *names: str, within_s: float) -> float:
        """Wait until nodes (all that run, unless some are named) have committed `height`."""

        def reached() -> bool:
            heights = self.heights()
            wanted = names or [name for name, host in self.hosts.items() if host.is_up]
            return bool(wanted) and all(heights.get(name, -1) >= height for name in wanted)

        return await self.until(reached, within_s=within_s, what=f"height {height}")

    def transport(
        self, identity: Identity, *, life: int = 1, host: str | None = None
    ) -> SimulatedTransport:
        """Return a transport of this identity that is not running yet."""
        random = self.random(f"{identity.name}/{life}/transport")
        return SimulatedTransport(
            self.network,
            node_id=identity.node_id,
            directory=self.directory(),
            kinds=KINDS,
            clock=SimulatedClock(self.loop.time, start_ms=START_MS),
            random=SeededRandom(random.getrandbits(64)),
            name=identity.name,
            host=host,
        )

    def directory(self, members: Members | None = None) -> PeerDirectory:
        """Return whom a node may talk to: every identity, members where the chain says they are.

        It is what `node.process` makes of the registry and of a configuration that names everybody.
        """
        addresses = {
            identity.node_key.public: self.hosts[name].address if name in self.hosts else name
            for name, identity in self.identities.items()
        }
        for record in () if members is None else members.records():
            addresses[record.node_key] = record.host
        return _directory(tuple(addresses.items()))

    # What the ports tell

    def on_delivered(self, node: str, peer: Address, kind: int, payload: bytes) -> None:
        """Trace a message that arrives, and see that nodes do not drown each other."""
        self.trace.note(node, "deliver", self._names[peer], kind, short(payload))
        self._guard(self.traffic.on_delivered, node, self.time_s)
        if kind == CONSENSUS:
            self.conduct.on_delivered(node, payload)
            self.block_times.on_clocks(host.clock.wall_ms() for host in self.hosts.values())

    def on_sent(self, node: str, peer: Address, kind: int, payload: bytes) -> None:
        """Check a message that leaves."""
        del peer
        host = self.hosts[node]
        if kind == CONSENSUS and host.identity.miner_id not in self.byzantine:
            self._guard(self.promises.on_sent, node, host.identity.miner_id, payload)
        elif kind == STATUS:
            self._guard(self._check_claim, host, payload)

    def on_penalised(self, node: str, peer: Address, points: int, reason: str) -> None:
        """Trace a blame, and see that no honest node takes another for a liar."""
        name = self._names[peer]
        self.trace.note(node, "penalise", name, points, repr(reason))
        self.blames.append((node, name, points, reason))
        known = (self.hosts[node].identity, self.identities[name])
        is_among_honest = not self.byzantine.intersection(who.miner_id for who in known)
        if is_among_honest and not self.astray.intersection((node, name)) and points > LATE_POINTS:
            raise self._violated(f"{node} takes {points} points from {name}: {reason}")

    def on_logged(self, node: str, records: Sequence[bytes]) -> None:
        """Trace what is durable in a log."""
        self.trace.note(node, "log", *map(short, records))
        self.promises.on_logged(node, records)

    def on_writing(self, node: str, batch: WriteBatch) -> None:
        """Check and trace a batch on its way to the disk."""
        self.trace.note(node, "write", short(digest_of(batch)))
        header = self._guard(self.ledger.on_write, node, batch)
        if header is not None:
            self.trace.note(node, "commit", header.height, header.hash.hex()[:12])
            self._guard(self.block_times.on_committed, node, header.time_ms)

    def on_written(self, node: str, batch: WriteBatch) -> None:
        """Take note of what may not be lost any more."""
        self.promises.on_written(node, batch)
        for key, value in batch.writes.items():
            if key.startswith(schema.EVIDENCE) and value is not None:
                self._found.setdefault(node, set()).add(Address(key[1:]))
        place = batch.writes.get(schema.TIP_KEY)
        if place is not None:
            self.hosts[node].committed = int.from_bytes(place, "big")

    def on_power_lost(self, node: str) -> None:
        """Silence a node whose power failed."""
        self.trace.note(WORLD, "power-lost", node)
        self.hosts[node].go_silent()

    # Inside

    async def _play(self, scene: Callable[["World"], Awaitable[None]]) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            await scene(self)
            for name in sorted(self.hosts):
                if self.hosts[name].is_up:
                    await self.kill(name)

    def _check_disks(self) -> None:
        names = sorted(self.hosts)
        count = self.settings.databases_checked
        whole = names if count is None else self.random("databases").sample(names, count)
        for name in names:
            disk = self.hosts[name].disk
            disk.full = disk.failing = False
            disk.lose_power_at = disk.kill_at = None
            if disk.syncs:
                store = disk.open_store()
                self._guard(
                    partial(self.ledger.check_database, is_whole=name in whole), name, store
                )
                store.close()

    def _on_log(self, node: str, event: str, fields: MutableMapping[str, Any]) -> None:
        self.log.append((node, event, dict(fields)))

    def _check_claim(self, host: Host, payload: bytes) -> None:
        """See that a node boasts only of what is durable on its disk."""
        status = decode_body(STATUS, payload)
        assert isinstance(status, Status), "the kind says so"
        if status.height > host.committed:
            raise Violation(
                f"{host.name} says to be at {status.height}; durable are {host.committed}"
            )

    def _guard(self, check: Callable[..., Any], *arguments: object) -> Any:
        try:
            return check(*arguments)
        except Violation as error:
            self._violations.append(error)
            self.trace.note(WORLD, "violation", str(error))
            raise

    def _violated(self, what: str) -> Violation:
        error = Violation(what)
        self._violations.append(error)
        self.trace.note(WORLD, "violation", what)
        return error

    def _draw_identities(self) -> dict[str, Identity]:
        """Return miners in the order of their ids, then observers and joiners, by name."""
        settings = self.settings
        names = [f"m{index}" for index in range(settings.miners)]
        names += [f"o{index}" for index in range(settings.observers)]
        names += [f"j{index}" for index in range(settings.joiners)]
        drawn = [self._draw_identity(f"draw{index}") for index in range(len(names))]
        miners = sorted(drawn[: settings.miners], key=lambda miner: miner.miner_id)
        return {
            name: replace(identity, name=name)
            for name, identity in zip(names, [*miners, *drawn[settings.miners :]], strict=True)
        }

    def _draw_identity(self, purpose: str) -> Identity:
        return Identity(
            name=purpose,
            key=self.draw_key(f"{purpose}/miner"),
            node_key=self.draw_key(f"{purpose}/node"),
        )

    def _make_genesis(self, miners: Sequence[str]) -> Genesis:
        return Genesis(
            chain="simulated",
            time_ms=TimestampMs(START_MS),
            miners=tuple(
                GenesisMiner(
                    name=name,
                    key=self.identities[name].key.public,
                    node_key=self.identities[name].node_key.public,
                    host=name,
                    port=PORT,
                )
                for name in miners
            ),
            organisations=(
                GenesisOrganisation(
                    name=ORGANISATION, registrar_key=self.registrar.public, limits=()
                ),
            ),
            parameters=self.settings.parameters,
            model=ModelRegister(
                model=MODEL,
                name="first-number",
                schema=FLOW_SCHEMA,
                threshold_ppm=THRESHOLD_PPM,
                size_bytes=MODEL_SIZE,
                manifest=MODEL,
            ),
        )


@lru_cache
def _directory(addresses: tuple[tuple[PublicKey, str], ...]) -> PeerDirectory:
    """Return a directory; each of its keys is checked, and many nodes have the same."""
    return PeerDirectory(
        tuple(
            PeerEntry(node_id=address_of(key), public_key=key, host=host, port=PORT)
            for key, host in addresses
        )
    )


def twin_of(name: str) -> str:
    """Return the name of a miner's second node."""
    return f"t{name[1:]}"


def leaves_of(error: BaseException) -> list[BaseException]:
    """Return the errors in a group, and in the groups in it."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for part in error.exceptions for leaf in leaves_of(part)]


def _plain(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(repr(error))
