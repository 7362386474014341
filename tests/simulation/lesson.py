"""A federated round in a drawn world: participants that drop out or lie, and what must come of it.

Participants act on what the chain says, each in its time and through whatever node is up, and say
again what got lost. Where the world has hostile miners, these attest everything and compute
nonsense beside whatever else they play. What comes out is computed again from the updates in the
clear. One lesson is played while faults strike, where anything short of a lie may come of it;
another once all is healed, and that one has to succeed.
"""

import asyncio
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal

from chain.federated.records import (
    REVEAL_TABLE,
    ROUND_TABLE,
    SHARES_TABLE,
    FederatedRound,
    Member,
)
from chain.kinds.rounds import Invitation, RoundAggregate, RoundAttest, RoundOpen
from chain.transactions import Transaction
from chain.types import Address, Digest
from cli.federated.complaints import Turn, is_lost, nameable
from node.errors import BlobRefused, StorageError
from tests.federation import make_deadlines, make_terms
from tests.learners import Learner, expected, member_of
from tests.simulation.checkers import Violation
from tests.simulation.trace import WORLD, acting
from tests.simulation.workload import Client, Device, Workload
from tests.simulation.world import World
from tests.unit.node.blobs.stored import put

MASKED: Final = 8
AUDITED: Final = 5
"""How many participants there are."""
GROUP_SIZE: Final = 4
"""A group of so few bears no complaint: whoever is cheated keeps silent."""
STEP: Final = 10
"""Heights that a phase may last; they are a second apart, or less."""
FETCHED_S: Final = 5.0
"""So long miners in good health may take to fetch updates. A deadline is a height: where blocks
come every few milliseconds, the phase is over before."""
LENGTH_S: Final = 200.0
"""How long a lesson may last in a healed world, hostile proposers included."""
KEPT_S: Final = 160.0
"""How long nodes in good health may take to fetch what came out: who could not while things went
wrong asks again after pauses that double."""
STEP_S: Final = 0.25
ANSWER_S: Final = 4.0
"""So long what was said is waited for before it is said again."""
NODES_TRIED: Final = 2
PARAMETERS: Final = 16
CLIP: Final = 10_000
POISON: Final = 2**32

PHASES: Final = ("join", "share", "commit", "attest", "reveal")
"""Those in which participants have something to do."""
DROPS: Final = ("join", "share", "commit", "reveal")
"""From which phase on a participant is gone."""
WITHHOLDS: Final = "withholds"
"""It shows another blob than it has committed."""
SPOILS: Final = ("lies_about_key", "breaks_hashes", "poisons")
"""What spoils a whole group, by whoever does it."""
MISLEADS: Final = ("reveals_falsely", "reveals_the_other_secret", "complains_falsely")
"""What is refused; the first two have nothing else to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """A federated round to be.

    Parameters
    ----------
    at_s : float or None
        When it begins in the safety phase; None: once all is healed.
    is_masked : bool
        Whether updates are hidden.
    conduct : tuple of str
        How each participant behaves; those that do their part have an empty word.
    group_size : int
        Where updates are hidden.
    """

    at_s: float | None
    is_masked: bool
    conduct: tuple[str, ...]
    group_size: int = GROUP_SIZE


def draw_lesson(random: Random, *, duration_s: float) -> Lesson:
    """Draw a lesson that can succeed where nothing else goes wrong."""
    is_masked = random.randrange(3) > 0
    count = MASKED if is_masked else AUDITED
    deviant = random.sample(range(count), random.choice((0, 1, 2, 2)))
    conduct = [""] * count
    for place in deviant:
        # Fewer members make fewer groups; and two spoiled groups would leave none.
        has_others = any(word in ("join", *SPOILS) for word in conduct)
        if not is_masked:
            words: Collection[str] = ("join", "commit", WITHHOLDS, "poisons")
        else:
            rest = () if has_others else ("join", *SPOILS)
            words = (*DROPS[1:], WITHHOLDS, *MISLEADS, *rest)
        conduct[place] = random.choice(tuple(words))
    is_late = random.randrange(2) == 0
    # Nothing comes of a group of all in which all are cheated, but a name.
    is_of_one_group = "breaks_hashes" in conduct and not is_late
    return Lesson(
        at_s=None if is_late else random.uniform(0, duration_s / 2),
        is_masked=is_masked,
        conduct=tuple(conduct),
        group_size=MASKED if is_of_one_group else GROUP_SIZE,
    )


class Classroom:
    """Everybody who takes part in a lesson.

    Attributes
    ----------
    lesson : Lesson
        What is played.
    """

    def __init__(self, world: World, lesson: Lesson, load: Workload) -> None:
        self.lesson = lesson
        self._world = world
        self._load = load
        self._random = world.random("lesson/course")
        self._client = Client(
            world, world.random("lesson"), kin="participant", devices=len(lesson.conduct)
        )
        self._devices = sorted(self._client.devices, key=lambda device: device.id)
        self._learners = [
            Learner(
                device.id,
                lies=word == "lies_about_key",
                breaks_hashes=word == "breaks_hashes",
                factor=POISON if word == "poisons" else 1,
            )
            for device, word in zip(self._devices, lesson.conduct, strict=True)
        ]
        # All openings that were sent; the first on the chain is the one that is played.
        self._openings: list[Digest] = []
        self._id = Digest(bytes(32))
        # Until when it is waited for what somebody has said.
        self._said: dict[tuple[Address, str], float] = {}
        self._blobs: dict[Address, bytes] = {}
        self._turns = {device.id: Turn() for device in self._devices}
        self._accused: dict[Address, Address] = {}
        # The last phase that it was in while it was open, and for how long.
        self._last_phase, self._last_phase_s = "", 0.0

    @property
    def found(self) -> FederatedRound:
        """The round as the chain has it, once it is open."""
        found = self._world.ledger.tip.state.get(ROUND_TABLE, self._id)
        assert found is not None, "it has been opened"
        return found

    async def enrol(self, *, within_s: float) -> None:
        """Register the participants."""
        register = self._client.register
        wanted = [register(device, role="participant") for device in self._devices]
        await self._load.commit(wanted, within_s)

    async def play(self, *, after_s: float = 0.0) -> None:
        """Open the round and let everybody act until it is closed."""
        await asyncio.sleep(after_s)
        self._world.trace.note(WORLD, "lesson", self.lesson)
        while not await self._open():
            await asyncio.sleep(STEP_S)
        phase, since_s = "", self._world.time_s
        while (found := self.found).is_open:
            if found.phase != phase:
                phase, since_s = found.phase, self._world.time_s
            deadline = found.terms.deadlines.aggregate
            if self._world.ledger.height > deadline:
                raise Violation(f"a federated round is open behind its last deadline, {deadline}")
            for device, learner, word in zip(
                self._devices, self._learners, self.lesson.conduct, strict=True
            ):
                await self._act(found, device, learner, word)
            for name in self._world.settings.hostile:
                await self._deceive(found, name)
            await asyncio.sleep(STEP_S)
        self._last_phase, self._last_phase_s = phase, self._world.time_s - since_s

    async def check(self, *, is_healed: bool) -> None:
        """See that what came of it is right, and that every node has it.

        Parameters
        ----------
        is_healed : bool
            Whether nothing has gone wrong from its beginning on.
        """
        found = self.found
        self._check_members(found)
        right = self._right(found)
        for vote in found.votes:
            if vote.digest != right and vote.miner not in self._world.byzantine:
                raise Violation(f"{vote.miner.hex()[:12]} has computed another aggregate")
        if found.aggregate not in (None, right):
            raise Violation("the aggregate is not what the updates come to")
        # An attest phase may be over before it is seen.
        is_early = self._last_phase == "commit" or (
            self._last_phase == "attest" and self._last_phase_s < FETCHED_S
        )
        had_time = found.reason != "too_few_groups" or not is_early
        if is_healed and had_time and found.phase != "finished":
            raise Violation(f"a federated round in a healed world is {found.phase}: {found.reason}")
        await self._world.until(
            lambda: not any(self._openings_open()), within_s=LENGTH_S, what="the end of all rounds"
        )
        await self._world.until(
            lambda: all(self._is_done(name, found) for name in self._world.up()),
            within_s=KEPT_S,
            what="the aggregate at every node, and no work left",
        )

    # What must hold

    def _check_members(self, found: FederatedRound) -> None:
        for member, word in zip(found.members, self.lesson.conduct, strict=True):
            who = f"participant {member.device.hex()[:12]} ({word or 'honest'})"
            if member.status == "expelled" and word != "breaks_hashes":
                raise Violation(f"{who} is blamed")
            if member.status == "complained" and "breaks_hashes" not in self.lesson.conduct:
                raise Violation(f"{who} has shown what is not so")
            if member.status == "included" and word == WITHHOLDS:
                raise Violation(f"{who} is included, and nobody has its update")
            if member.status == "included" and word == "poisons" and not self.lesson.is_masked:
                raise Violation(f"{who} is included with an update beyond the clip")

    def _right(self, found: FederatedRound) -> Digest | None:
        """Return the aggregate that has to come out; None where nothing can."""
        spoiled = set(self._spoiled(found))
        if found.phase not in ("aggregate", "finished", "failed") or not spoiled < set(
            found.groups
        ):
            return None
        return expected(found, self._learners, without=spoiled)

    def _spoiled(self, found: FederatedRound) -> Iterator[int]:
        """Yield the groups of which nothing sound comes out."""
        for member, word in zip(found.members, self.lesson.conduct, strict=True):
            if member.group in found.groups and member.group is not None:
                is_included = member.status == "included"
                if (word == "poisons" and is_included) or (
                    word == "lies_about_key" and member.has_shared and not is_included
                ):
                    yield member.group

    def _openings_open(self) -> Iterator[bool]:
        state = self._world.ledger.tip.state
        for id in self._openings:
            found = state.get(ROUND_TABLE, id)
            yield found is not None and found.is_open

    def _is_done(self, name: str, found: FederatedRound) -> bool:
        node = self._world.node(name)
        has_it = found.aggregate is None or node.blobs.find(found.aggregate) is not None
        return has_it and not node.held()["federated_rounds"] and not node._federation._works

    # What participants do

    async def _open(self) -> bool:
        """Open a round, unless one is open; return whether one is."""
        state = self._world.ledger.tip.state
        for id in self._openings:
            if state.get(ROUND_TABLE, id) is not None:
                self._id = id
                return True
        if self._is_waiting(self._world.organisation, "round.open"):
            return False
        height = self._world.ledger.height + 1
        audit = {"group_size": 1, "groups_min": 3, "rule": "median", "tolerated": 1}
        terms = make_terms(
            height,
            parameter_count=PARAMETERS,
            clip=CLIP,
            deadlines=make_deadlines(height, STEP),
            **({"group_size": self.lesson.group_size} if self.lesson.is_masked else audit),
        )
        participants = tuple(
            [
                Invitation(device=device.id, weight=place + 1, steps=5)
                for place, device in enumerate(self._devices)
            ]
        )
        opening = self._client.sign_as_registrar(
            "round.open", RoundOpen(terms=terms, participants=participants)
        )
        self._openings.append(opening.id)
        await self._say(self._world.organisation, opening)
        return False

    async def _act(
        self, found: FederatedRound, device: Device, learner: Learner, word: str
    ) -> None:
        member = member_of(found, device.id)
        if word in DROPS and PHASES.index(word) <= PHASES.index(_begun(found)):
            return
        match found.phase:
            case "join" if not member.has_joined:
                await self._send(device, "round.join", learner.join(self._id))
            case "share" if member.status == "joined" and member.group is not None:
                await self._send(device, "round.share", learner.share(self._id, found))
            case "commit" if member.group in found.groups:
                await self._commit(found, member, device, learner, word)
            case "attest" if member.status == "committed" and member.group in found.groups:
                self._upload(device, word)
            case "reveal" if self._may_reveal(found, member):
                await self._reveal(found, device, learner, word)

    async def _commit(
        self, found: FederatedRound, member: Member, device: Device, learner: Learner, word: str
    ) -> None:
        is_due = member.status == ("shared" if found.terms.is_masked else "joined")
        # Who has lied about its key is found out if it drops out.
        if not is_due or word == "lies_about_key" or is_lost(found, member):
            return
        if found.terms.is_masked:
            cheats = learner.cheats(self._id, found, self._shares(found))
            if word != "breaks_hashes":
                turn = self._accuse(found, member, cheats)
                if turn == "now":
                    await self._complain(found, member, device, learner)
                if turn != "never":
                    return
            if word == "complains_falsely" and not cheats:
                others = [m.device for m in found.members_of(member.group) if m.has_shared]
                accused = next(other for other in others if other != device.id)
                complaint = learner.complaint(self._id, accused)
                await self._mislead(device, "round.complaint", complaint)
        commit = learner.commit(self._id, found)
        self._blobs[device.id] = learner.blob(self._id, found)
        await self._send(device, "update.commit", commit)

    def _accuse(
        self, found: FederatedRound, member: Member, cheats: Collection[Address]
    ) -> Literal["now", "later", "never"]:
        """Tell when a member accuses one that has cheated it; it never commits once it has."""
        liars = [owner for owner in nameable(found, member) if owner in cheats]
        if not liars and member.device not in self._accused:
            return "never"
        if member.device not in self._accused:
            turn = self._turns[member.device].at(found, member, self._world.ledger.height)
            if turn != "now":
                return turn
            self._accused[member.device] = liars[0]
        return "now"

    async def _complain(
        self, found: FederatedRound, member: Member, device: Device, learner: Learner
    ) -> None:
        """Name whom a member has accused, unless somebody else has."""
        accused = self._accused[device.id]
        if accused in nameable(found, member):
            complaint = learner.complaint(self._id, accused)
            await self._send(device, "round.complaint", complaint)

    def _upload(self, device: Device, word: str) -> None:
        """Bring an update, or another one, to a node."""
        names = self._world.up()
        if not names or self._is_waiting(device.id, "blob"):
            return
        self._wait(device.id, "blob")
        data = self._blobs[device.id]
        name = self._random.choice(names)
        host = self._world.hosts[name]
        with acting(name):
            try:
                put(self._world.node(name).blobs, data[::-1] if word == WITHHOLDS else data)
            except StorageError:
                if not host.is_failing:
                    raise
            except BlobRefused as error:
                raise Violation(f"{name} has no room for an update: {error}") from error

    def _may_reveal(self, found: FederatedRound, member: Member) -> bool:
        state = self._world.ledger.tip.state
        return (
            member.status in ("shared", "committed", "included", "withheld")
            and member.group in found.groups
            and member.group not in found.revealed
            and state.get(REVEAL_TABLE, self._id + member.device) is None
        )

    async def _reveal(
        self, found: FederatedRound, device: Device, learner: Learner, word: str
    ) -> None:
        shares = self._shares(found)
        match word:
            case "reveals_falsely":
                true = learner.reveal(self._id, found, shares)
                false = [None if s is None else bytes((s[0] ^ 1,)) + s[1:] for s in true.shares]
                body: Any = type(true)(round=true.round, shares=tuple(false))
                await self._mislead(device, "update.reveal", body)
            case "reveals_the_other_secret":
                body = learner.reveal(self._id, found, shares, swaps=True)
                await self._mislead(device, "update.reveal", body)
            case _:
                body = learner.reveal(self._id, found, shares)
                if any(share is not None for share in body.shares):
                    await self._send(device, "update.reveal", body)

    def _shares(self, found: FederatedRound) -> dict[Address, Any]:
        state = self._world.ledger.tip.state
        records = {m.device: state.get(SHARES_TABLE, self._id + m.device) for m in found.members}
        return {device: record for device, record in records.items() if record is not None}

    # What hostile miners do

    async def _deceive(self, found: FederatedRound, name: str) -> None:
        """Say that everything is here, and compute nonsense."""
        miner = self._world.identities[name].miner_id
        if found.phase == "attest" and not any(a.miner == miner for a in found.attestations):
            held = sum([1 << p for p, member in enumerate(found.members) if member.update])
            size = (len(found.members) + 7) // 8
            kind: str = "round.attest"
            body: Any = RoundAttest(round=self._id, held=held.to_bytes(size, "big"))
        elif found.phase == "aggregate" and not any(v.miner == miner for v in found.votes):
            kind, body = "round.aggregate", RoundAggregate(round=self._id, root=self._id)
        else:
            return
        if not self._is_waiting(miner, kind):
            await self._say(miner, self._client.govern(name, kind, body))

    # Saying it

    async def _send(self, device: Device, kind: str, body: Any) -> None:
        if not self._is_waiting(device.id, kind):
            made = self._client.make(kind, body, sender=device.id, key=device.key)
            await self._say(device.id, made)

    async def _mislead(self, device: Device, kind: str, body: Any) -> None:
        """Say what must be refused."""
        what = f"false {kind}"
        if self._is_waiting(device.id, what):
            return
        self._wait(device.id, what)
        made = self._client.make(kind, body, sender=device.id, key=device.key)
        self._world.ledger.forbid(made, f"a {kind} that is false")
        await self._hand_in(made, "false")

    async def _say(self, sender: Address, made: Transaction) -> None:
        self._wait(sender, made.payload.kind)
        await self._hand_in(made, "lesson")

    async def _hand_in(self, made: Transaction, what: str) -> None:
        """Let a miner's node take something, or another where the first does not."""
        names = [name for name in self._world.up() if self._world.is_miner(name)]
        for name in self._random.sample(names, min(NODES_TRIED, len(names))):
            if await self._load.send(name, what, made) == "accepted":
                return

    def _wait(self, sender: Address, what: str) -> None:
        self._said[sender, what] = self._world.time_s + ANSWER_S

    def _is_waiting(self, sender: Address, what: str) -> bool:
        return self._world.time_s < self._said.get((sender, what), 0.0)


def _begun(found: FederatedRound) -> str:
    """Return the last phase that has begun, of those in which participants have a part."""
    return {"draw": "join", "aggregate": "reveal"}.get(found.phase, found.phase)
