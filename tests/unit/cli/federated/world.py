"""A federated round in memory: real participants on the real rules, and miners that do their part.

A participant can be killed at each of its effects, before and behind it, and starts again with what
its disk has.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from chain.blobs import CHUNK_SIZE
from chain.errors import Rejection
from chain.federated.records import REVEAL_TABLE, SHARES_TABLE, FederatedRound, SharesRecord
from chain.merkle import merkle_root
from chain.records.devices import DEVICE_TABLE
from chain.types import Address, Digest
from cli.errors import Refused
from cli.federated.memory import Memory, MemoryStore, Promise
from cli.federated.participant import Participant
from cli.federated.privacy import privacy_in
from ml_validator.federated import (
    Group,
    GroupInput,
    UpdateRules,
    decode_words,
    encode_update,
    group_sum,
    prepared,
)
from ml_validator.federated.fixed_point import Floats, Integers, Words
from tests.builders import Device
from tests.federation import Federation, make_deadlines

PARAMETERS = 100
PHASE_HEIGHTS = 15


class Killed(BaseException):
    """The process is gone."""


class Life:
    """Counts the effects of a process, and ends it at one of them.

    Parameters
    ----------
    killed_at : int, optional
        The effect at which it is killed, once.
    """

    def __init__(self, killed_at: int | None = None) -> None:
        self.count = 0
        self.killed_at = killed_at

    def effect(self) -> None:
        """Stand before or behind an effect."""
        self.count += 1
        if self.count == self.killed_at:
            raise Killed


class FragileStore(MemoryStore):
    """A disk that is written to by a process which may be killed before, amid and behind it."""

    def __init__(self, home: Path, life: Life) -> None:
        super().__init__(home)
        self._life = life

    def write(self, path: Path, data: bytes) -> None:
        self._life.effect()
        draft = path.with_name(f".{path.name}.new")
        draft.touch(mode=0o600)
        draft.write_bytes(data[: len(data) // 2])
        self._life.effect()
        super().write(path, data)
        self._life.effect()


class Port:
    """The chain as one participant sees it; keeps all that it was ever told to send."""

    def __init__(self, world: "World", device: Device) -> None:
        self.world = world
        self.device = device
        self.life = Life()
        self.sent: list[tuple[str, Any]] = []
        self.before_commit: Callable[[Any], None] | None = None
        self.is_cut = False
        """Whether the process is killed before it sends anything."""

    async def height(self) -> int:
        return self.world.federation.chain.tip.header.height

    async def shares(
        self, round_id: Digest, owners: Iterable[Address]
    ) -> Mapping[Address, SharesRecord]:
        return self.world.shares()

    async def organisations(self, devices: Iterable[Address]) -> Mapping[Address, Address]:
        state = self.world.federation.chain.state
        records = {device: state.get(DEVICE_TABLE, device) for device in devices}
        organisations = {id: record.organisation for id, record in records.items() if record}
        return organisations | {
            device: self.world.organisations[device]
            for device in devices
            if device in self.world.organisations
        }

    async def send(self, kind: str, body: Any) -> None:
        if self.is_cut:
            raise Killed
        self.life.effect()
        self.sent.append((kind, body))
        if kind == "update.commit" and self.before_commit is not None:
            self.before_commit(body)
        self.world.submit(self.device, kind, body)
        self.life.effect()

    async def hand_in(self, digest: Digest, data: bytes) -> None:
        self.life.effect()
        self.world.blobs[digest] = data
        self.life.effect()

    def bodies(self, kind: str) -> list[Any]:
        """Return what was sent of one kind."""
        return [body for sent, body in self.sent if sent == kind]


class World:
    """A round of `count` participants, each with a home of its own in `folder`."""

    def __init__(
        self,
        folder: Path,
        *,
        count: int = 4,
        noise: float | None = None,
        phase_heights: int = PHASE_HEIGHTS,
        **terms: Any,
    ) -> None:
        self.noise = noise
        self.federation = Federation(count=count, **terms)
        # Each transaction is a block of its own here.
        height = self.federation.chain.tip.next_height
        deadlines = make_deadlines(height, step=phase_heights)
        self.federation.terms = replace(self.federation.terms, deadlines=deadlines)
        self.federation.open()
        self.folder = folder
        self.blobs: dict[Digest, bytes] = {}
        self.ports = {device.id: Port(self, device) for device in self.federation.devices}
        self.trained: dict[Address, list[Floats]] = {id: [] for id in self.ports}
        self.lives = {id: Life() for id in self.ports}
        self.parts: dict[Address, Participant] = {}
        self.attested: list[Device] = []
        self.dead: set[Address] = set()
        self.organisations: dict[Address, Address] = {}
        """Of devices that are not of that which has registered all."""
        self.told: list[str] = []
        self.complains: set[Address] = set()
        self._chance = np.random.default_rng(7)
        for device in self.federation.devices:
            self.start(device)

    def start(self, device: Device) -> None:
        """Start a participant's process, for the first time or again."""
        life = self.lives[device.id]
        self.ports[device.id].life = life
        store = FragileStore(self.home(device), life)
        self.parts[device.id] = Participant(
            self.federation.id,
            device.id,
            store=store,
            port=self.ports[device.id],
            train=lambda terms, steps: self._train(device),
            random=_Chance(self._chance),
            complains=device.id in self.complains,
            tell=self.told.append,
            privacy=privacy_in(self.federation.id, store, device.id, self.promise),
        )

    @property
    def promise(self) -> Promise | None:
        """What participants are asked to promise."""
        if self.noise is None:
            return None
        return Promise(noise=self.noise, members=1, delta=1e-5, epsilon_max=100.0)

    def home(self, device: Device) -> Path:
        return self.folder / device.id.hex()[:8]

    def memories(self, device: Device) -> Path:
        return MemoryStore(self.home(device)).folder

    def memory(self, device: Device) -> Memory:
        found = MemoryStore(self.home(device)).find(self.federation.id, device.id)
        assert found is not None, "it has acted"
        return found

    async def _train(self, device: Device) -> Floats:
        # Never twice the same, as real training.
        self.trained[device.id].append(self._chance.normal(size=PARAMETERS))
        return self.trained[device.id][-1]

    def shares(self) -> dict[Address, SharesRecord]:
        federation = self.federation
        state = federation.chain.state
        found = {d.id: state.get(SHARES_TABLE, federation.id + d.id) for d in federation.devices}
        return {id: record for id, record in found.items() if record is not None}

    def submit(self, device: Device, kind: str, body: Any) -> None:
        """Commit a transaction of a participant, or say why not, as a node does."""
        transaction = self.federation.by(device, kind, body)
        try:
            self.federation.chain.execution().apply(transaction)
        except Rejection as rejection:
            raise Refused(status=422, code=rejection.code, detail=rejection.detail) from rejection
        self.federation.chain.commit(transaction)

    def look(self, device: Device, record: FederatedRound) -> None:
        """Let a participant do what is due in a round as it is shown it."""
        asyncio.run(self.parts[device.id].act(record))

    def act(self, device: Device) -> None:
        """Let a participant do what is due; one that is killed starts again at once."""
        try:
            self.look(device, self.federation.record)
        except Killed:
            self.start(device)
            self.act(device)

    def play(self, until: str | None = None) -> None:
        """Let everybody act, block after block, until the round is in a phase, or over."""
        federation = self.federation
        while self._goes_on(until):
            phase = federation.record.phase
            for device in federation.devices:
                if device.id not in self.dead and self._goes_on(until):
                    self.act(device)
            if not self._goes_on(until):
                return
            if federation.record.phase == "attest":
                self._attest()
            elif federation.record.phase == "aggregate":
                self._aggregate()
            elif federation.record.phase == phase:
                federation.chain.commit()

    def _goes_on(self, until: str | None) -> bool:
        record = self.federation.record
        return record.is_open and record.phase != until

    def _attest(self) -> None:
        held = [
            device
            for device in self.federation.devices
            if self.federation.member_of(device).update in self.blobs
        ]
        said = held if held != self.attested else []
        self.attested = held
        miners = range(4) if said else ()
        self.federation.chain.commit(*[self.federation.attest(miner, said) for miner in miners])

    def _aggregate(self) -> None:
        self.total = self.sum()
        root = merkle_root([encode_update(self.total)[:CHUNK_SIZE]])
        votes = [self.federation.aggregate(miner, root=root) for miner in range(4)]
        self.federation.chain.commit(*votes)

    def sum(self) -> Integers:
        """Return the sum of all included updates, from blobs and revealed shares alone."""
        record, terms = self.federation.record, self.federation.terms
        total = np.zeros(terms.parameter_count, np.int64)
        for index in record.groups:
            members = record.members_of(index)
            included = [m for m in members if m.status == "included" and m.update is not None]
            blobs: dict[Address, Words] = {
                m.device: decode_words(self.blobs[m.update], parameters=terms.parameter_count)
                for m in included
                if m.update is not None
            }
            if not terms.is_masked:
                total += sum([words.view(np.int64) for words in blobs.values()])
                continue
            group = Group(
                round_id=self.federation.id,
                index=index,
                members=tuple([m.device for m in members]),
                mask_keys=tuple([m.mask_key or b"" for m in members]),
                box_keys=tuple([m.box_key or b"" for m in members]),
                absent=frozenset([m.device for m in members if not m.has_shared]),
            )
            shares: dict[Address, dict[int, bytes]] = {m.device: {} for m in members}
            owners = [m for m in members if m.has_shared]
            for place, receiver in enumerate(members, 1):
                revealed = self.federation.chain.state.get(
                    REVEAL_TABLE, self.federation.id + receiver.device
                )
                for owner, share in zip(owners, revealed.shares if revealed else (), strict=False):
                    if share is not None and len(shares[owner.device]) < group.threshold:
                        shares[owner.device][place] = share
            total += group_sum(
                GroupInput(
                    group=group,
                    blobs=blobs,
                    self_shares={id: shares[id] for id in blobs},
                    key_shares={id: found for id, found in shares.items() if id not in blobs},
                )
            )
        return total

    def expected(self) -> Integers:
        """Return what the included participants have trained, in fixed point, summed."""
        record, terms = self.federation.record, self.federation.terms
        rules = UpdateRules(
            parameters=terms.parameter_count,
            fraction_bits=terms.scale_bits,
            norm_max=terms.clip - 4,
            weight_total=sum([m.weight for m in record.members]),
        )
        total = np.zeros(terms.parameter_count, np.int64)
        for member in record.members:
            if member.status == "included" and member.group in record.groups:
                total += prepared(
                    self.trained[member.device][-1], rules=rules, weight=member.weight
                )
        return total


class _Chance:
    """Random bytes from a seed."""

    def __init__(self, chance: np.random.Generator) -> None:
        self._chance = chance

    def bytes(self, size: int) -> bytes:
        return self._chance.bytes(size)

    def below(self, bound: int) -> int:
        return int(self._chance.integers(bound))
