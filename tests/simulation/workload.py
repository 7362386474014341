"""What clients do in a world: valid, invalid and repeated transactions to nodes at random.

Every client speaks to one node through `Node.submit`, as the RPC does. What must never be committed
is told to the ledger before it is sent.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

from chain.crypto import SigningKey, address_of
from chain.kinds import KINDS
from chain.kinds.device_data import DeviceData
from chain.kinds.device_registry import (
    Change,
    DeviceRegister,
    DeviceUpdate,
    RotateKey,
    SetLimits,
    SetRoles,
    Suspend,
    device_id,
    sign_rotation,
)
from chain.kinds.miners import AddMiner, MinerPropose, RemoveMiner, RestoreMiner
from chain.kinds.parameter_change import ParameterChange
from chain.kinds.policy import PolicySet
from chain.kinds.vote import MinerVote
from chain.limits import RateLimits, parse_limits
from chain.payloads import DevicePayload, Flow, Measurement, Reading
from chain.records.policies import PolicyRecord
from chain.state import parameters_of
from chain.transactions import TRANSACTION_VERSION, Payload, Transaction, sign_transaction
from chain.types import DIGEST_SIZE, NONCE_SIZE, Address, Digest, Height, Signature, TimestampMs
from node.api import Submission
from node.errors import StorageError
from tests.simulation.checkers import Violation
from tests.simulation.trace import acting
from tests.simulation.world import FLOW_SCHEMA, World

ANSWER_S: Final = 30.0
"""How long a node in good health may take to commit what it has accepted."""
SUSPENDED: Final = 0
LIMITED: Final = 1
FLOWING: Final = (4, 5)
ROTATED: Final = 6
STEADY: Final = (2, 3, 7)
"""Indices of the devices: one is suspended, one may report seldom, two report flows and may be
quarantined, one gets another key; whatever the others report with their own is taken."""
FEW: Final = "3:10"
MANY: Final = ("20:10", "50:1,200:20", "5:1")
BURST: Final = 8
POLICY: Final = PolicyRecord(anomalous_min=2, window=10, duration_ms=5_000)
"""Two anomalous flows of ten lead to a quarantine of five seconds."""
NO_VOTE: Final = MinerVote(proposal=Digest(bytes(DIGEST_SIZE)), approve=True)
"""A vote on what nobody has proposed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device and its key."""

    id: Address
    key: SigningKey


class Client:
    """Makes transactions in the names of the world's organisation and devices.

    Parameters
    ----------
    devices : int
        How many there are.
    kin : str
        What kind of devices; those of another kind have other keys.
    """

    def __init__(
        self, world: World, random: Random, *, devices: int = 8, kin: str = "device"
    ) -> None:
        self.world = world
        self.random = random
        keys = [
            world.draw_key(f"{kin}/{index}", algorithm=("ed25519", "p256")[index % 2])
            for index in range(devices)
        ]
        genesis_hash = world.genesis.hash
        self.devices = [
            Device(id=device_id(genesis_hash, world.organisation, key.public), key=key)
            for key in keys
        ]

    def make(
        self,
        kind: str,
        body: Any,
        *,
        sender: Address,
        key: SigningKey,
        time_ms: int | None = None,
        **changes: Any,
    ) -> Transaction:
        """Return a signed transaction; `changes` replace fields of its payload."""
        payload = Payload(
            version=TRANSACTION_VERSION,
            genesis_hash=self.world.genesis.hash,
            kind=kind,
            sender=sender,
            time_ms=TimestampMs(self.world.wall_ms() if time_ms is None else time_ms),
            nonce=self.random.randbytes(NONCE_SIZE),
            body=body if isinstance(body, bytes) else KINDS[kind].body.encode(body),
        )
        return sign_transaction(replace(payload, **changes), key)

    def register(
        self, device: Device, *, limits: RateLimits | None = None, role: str = "sensor"
    ) -> Transaction:
        """Return the registration of a device."""
        body = DeviceRegister(
            name=f"d{device.id.hex()[:8]}",
            key=device.key.public,
            roles=(role,),
            gateway=None,
            limits=limits,
        )
        return self.sign_as_registrar("device.register", body)

    def suspend(self, device: Device) -> Transaction:
        """Return the suspension of a device."""
        return self.update(device, Suspend())

    def update(self, device: Device, change: Change) -> Transaction:
        """Return a change of a device."""
        return self.sign_as_registrar(
            "device.update", DeviceUpdate(device=device.id, change=change)
        )

    def rotate(self, index: int, *, proof: Signature | None = None) -> Transaction:
        """Return a rotation of a device's key to a new one, which the device does not use."""
        device = self.devices[index]
        new_key = self.world.draw_key(f"device/{index}/new")
        right = sign_rotation(self.world.genesis.hash, device.id, new_key)
        return self.update(device, RotateKey(new_key=new_key.public, proof=proof or right))

    def new_device(self) -> Device:
        """Return a device that nobody has heard of."""
        key = self.world.draw_key(f"device/new/{self.random.getrandbits(64)}")
        id = device_id(self.world.genesis.hash, self.world.organisation, key.public)
        return Device(id=id, key=key)

    def govern(self, name: str, kind: str, body: Any) -> Transaction:
        """Return what a miner says."""
        sender = self.world.identities[name].miner_id
        return self.make(kind, body, sender=sender, key=self.world.key_of(name))

    def sign_as_registrar(self, kind: str, body: Any) -> Transaction:
        """Return a transaction of the organisation."""
        return self.make(kind, body, sender=self.world.organisation, key=self.world.registrar)

    def report(
        self,
        device: Device,
        payload: DevicePayload | bytes | None = None,
        *,
        key: SigningKey | None = None,
        **changes: Any,
    ) -> Transaction:
        """Return a `device.data` of `device`: a reading unless said otherwise; bytes stay."""
        body: object = payload
        if not isinstance(payload, bytes):
            body = DeviceData(payload=payload or self.reading())
        key = key or device.key
        return self.make("device.data", body, sender=device.id, key=key, **changes)

    def reading(self) -> Reading:
        """Return a reading."""
        value = Measurement(
            name="temperature", value=self.random.randrange(400), exponent=-1, unit="C"
        )
        return Reading(values=(value,))

    def flow(self) -> Flow:
        """Return a flow; one in ten is anomalous to the world's judge."""
        score = self.random.randrange(300_000) + 700_000 * (self.random.randrange(10) == 0)
        return Flow(schema=FLOW_SCHEMA, integers=(score,), categories=())


class Workload:
    """Sends transactions until it is cancelled.

    Parameters
    ----------
    per_second : float
        How many are sent, to all nodes together.

    Attributes
    ----------
    accepted : dict of Digest to (str, float)
        Valid transactions that a node has accepted: which node, and when.
    answers : Counter
        How often what was sent got which answer.
    """

    def __init__(self, world: World, *, per_second: float = 20) -> None:
        self.client = Client(world, world.random("workload"))
        self.accepted: dict[Digest, tuple[str, float]] = {}
        self.answers: Counter[tuple[str, str]] = Counter()
        self._world = world
        self._per_second = per_second
        self._sent: list[Transaction] = []

    async def prepare(self, *, within_s: float = ANSWER_S) -> None:
        """Register the devices, and suspend one of them, at every node that runs."""
        client, devices = self.client, self.client.devices
        await self._world.reach(0, within_s=within_s)
        limits = {LIMITED: parse_limits(FEW)}
        wanted = [
            client.register(device, limits=limits.get(index))
            for index, device in enumerate(devices)
        ]
        await self.commit(wanted, within_s)
        await self.commit([client.suspend(devices[SUSPENDED])], within_s)

    async def run(self) -> None:
        """Send until cancelled."""
        random = self.client.random
        actions: Sequence[Callable[[], tuple[str, Transaction | bytes]]] = (
            *8 * (self._valid,),
            *2 * (self._registrars,),
            *3 * (self._repeated,),
            *5 * (self._invalid,),
        )
        while True:
            await asyncio.sleep(random.uniform(0, 2 / self._per_second))
            names = self._world.up()
            # Now and then many come at once.
            for _ in range(random.choice((1, 1, 1, 1, BURST))):
                what, transaction = random.choice(actions)()
                if names:
                    await self.send(random.choice(names), what, transaction)
            if names and self.accepted:
                self.check_receipt(random.choice(list(self.accepted)), random.choice(names))

    async def commit_at_each(self, *, within_s: float) -> float:
        """Have each running node take a reading, and wait until all have committed them all.

        Raises
        ------
        Violation
            A healthy network does not get that far in time.
        """
        client = self.client
        wanted: list[Transaction] = []
        begun_s = self._world.time_s
        for index, name in enumerate(self._world.up()):
            if self._world.is_miner(name):
                device = client.devices[STEADY[index % len(STEADY)]]
                wanted.append(client.report(device))
                await self.deliver(name, wanted[-1])
        await self._committed(wanted, within_s)
        return self._world.time_s - begun_s

    async def deliver(self, name: str, transaction: Transaction) -> None:
        """Have a node take a valid transaction.

        Raises
        ------
        Violation
            It does not.
        """
        word = await self.send(name, "valid", transaction)
        if word != "accepted":
            raise Violation(f"{name} answers {word} to a valid transaction")

    def check_receipts(self) -> int:
        """Compare what running nodes say of accepted transactions with the ledger.

        Returns
        -------
        int
            How many of them are on the chain.
        """
        places = self._world.ledger.places
        for id in self.accepted:
            for name in self._world.up():
                self.check_receipt(id, name)
        return sum(id in places for id in self.accepted)

    def check_receipt(self, id: Digest, name: str) -> None:
        """Ask a node for a transaction: whatever is committed says so, as long as it is kept."""
        host, places = self._world.hosts[name], self._world.ledger.places
        node = host.node
        if node is None or host.is_failing:
            return
        status = node.transaction(id)
        height = places[id][0] if id in places else None
        if height is not None and not node.chain.whole_from <= height <= node.chain.height:
            height = None
        if (status.height, status.status == "committed") != (height, height is not None):
            raise Violation(f"{name} says {status.status} of {id.hex()[:12]} at {height}")

    # What is sent

    def _valid(self) -> tuple[str, Transaction]:
        client, random = self.client, self.client.random
        index = random.randrange(LIMITED, len(client.devices))
        device = client.devices[index]
        payload = client.flow() if index in FLOWING else client.reading()
        time_ms = self._world.wall_ms() - random.randrange(3_000)
        transaction = client.report(device, payload, time_ms=time_ms)
        self._sent.append(transaction)
        return "valid", transaction

    def _repeated(self) -> tuple[str, Transaction]:
        if not self._sent:
            return self._valid()
        return "repeated", self.client.random.choice(self._sent[-200:])

    def _registrars(self) -> tuple[str, Transaction]:
        """Return something of the organisation that leaves the devices able to report."""
        client, random = self.client, self.client.random
        device = client.devices[random.choice(FLOWING)]
        changes: Sequence[Callable[[], Transaction]] = (
            lambda: client.update(device, SetLimits(limits=parse_limits(random.choice(MANY)))),
            lambda: client.update(device, SetRoles(roles=(random.choice(("sensor", "meter")),))),
            lambda: client.rotate(ROTATED),
            lambda: client.sign_as_registrar("policy.set", PolicySet(policy=POLICY)),
            lambda: client.register(client.new_device()),
        )
        transaction = random.choice(changes)()
        self._sent.append(transaction)
        return "valid", transaction

    def _invalid(self) -> tuple[str, Transaction | bytes]:
        client, random, world = self.client, self.client.random, self._world
        device, other = random.sample(client.devices[2:], 2)
        lifetime_ms = parameters_of(world.ledger.tip.state).transaction_lifetime_ms
        now_ms = world.wall_ms()
        miner = next(name for name in world.identities if name[0] == "m")
        what, make = random.choice(
            (
                ("forged", lambda: client.report(device, key=other.key)),
                ("unknown", lambda: client.report(replace(device, id=world.organisation))),
                ("suspended", lambda: client.report(client.devices[SUSPENDED])),
                ("old", lambda: client.report(device, time_ms=now_ms - lifetime_ms - 10_000)),
                # Far enough ahead that it stays so while the world lasts.
                ("early", lambda: client.report(device, time_ms=now_ms + 3_600_000)),
                ("foreign", lambda: client.report(device, genesis_hash=Digest(bytes(32)))),
                ("shapeless", lambda: client.report(device, b"\x91\x01")),
                ("presumed", lambda: self._presumed(device)),
                ("truncated", lambda: client.report(device).wire[:-1]),
                ("unproven", lambda: client.rotate(ROTATED, proof=Signature(bytes(64)))),
                ("void", lambda: client.govern(miner, "miner.vote", NO_VOTE)),
                ("dangerous", lambda: client.govern(miner, "miner.propose", self._dangerous())),
                ("stray", lambda: client.govern(miner, "verdict", b"\x90")),
            )
        )
        transaction = make()
        if isinstance(transaction, Transaction):
            world.ledger.forbid(transaction, f"a transaction that is {what}")
        return what, transaction

    def _presumed(self, device: Device) -> Transaction:
        """Return what only a registrar or a miner may do, signed by a device."""
        kind, body = self.client.random.choice(
            (
                (
                    "device.update",
                    DeviceUpdate(device=self.client.devices[SUSPENDED].id, change=Suspend()),
                ),
                ("miner.propose", MinerPropose(change=RemoveMiner(miner=device.id))),
                ("param.change", ParameterChange(name="heartbeat_ms", value="3000")),
            )
        )
        return self.client.make(kind, body, sender=device.id, key=device.key)

    def _dangerous(self) -> MinerPropose:
        """Return a change of membership that no state allows."""
        client, random = self.client, self.client.random
        key = self._world.draw_key("stranger").public
        stranger = AddMiner(
            name="stranger",
            key=key,
            node_key=self._world.draw_key("stranger/node").public,
            host="stranger",
            port=1,
            height=Height(0),
            block_hash=self._world.genesis.hash,
            valid_until_ms=self._world.wall_ms() + random.randrange(10_000),
            acceptance=Signature(bytes(64)),
        )
        changes = (
            stranger,
            RemoveMiner(miner=client.devices[0].id),
            RestoreMiner(miner=address_of(key)),
        )
        return MinerPropose(change=random.choice(changes))

    # Sending

    async def send(self, name: str, what: str, transaction: Transaction | bytes) -> str:
        """Submit to a node, which may go down meanwhile; return the answer in a word."""
        host = self._world.hosts[name]
        node = host.node
        wire = transaction if isinstance(transaction, bytes) else transaction.wire
        if node is None:
            return "down"
        try:
            with acting(name):
                (answer,) = await node.submit([wire])
        except StorageError:
            if host.node is node and not host.is_failing:
                raise
            word = "down"
        else:
            word = _word(answer)
        if what in ("valid", "repeated") and word == "accepted":
            assert isinstance(transaction, Transaction), "what is valid can be read"
            self.accepted.setdefault(transaction.id, (name, self._world.time_s))
        self.answers[what, word] += 1
        return word

    async def commit(self, wanted: Sequence[Transaction], within_s: float) -> None:
        """Have a node take transactions, and wait until all that run have committed them."""
        name = self._world.up()[0]
        for transaction in wanted:
            await self.send(name, "valid", transaction)
        await self._committed(wanted, within_s)

    async def _committed(self, wanted: Sequence[Transaction], within_s: float) -> None:
        """Wait until all nodes that run have committed these."""
        world = self._world
        places = world.ledger.places

        def done() -> bool:
            if not all(transaction.id in places for transaction in wanted):
                return False
            height = max(places[transaction.id][0] for transaction in wanted)
            return min(world.heights().values()) >= height

        await world.until(done, within_s=within_s, what=f"a block with {len(wanted)} transactions")


def _word(answer: Submission) -> str:
    if answer.error is None:
        return "accepted"
    return str(getattr(answer.error, "code", type(answer.error).__name__))
