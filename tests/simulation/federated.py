"""A federated round in a world: scripted participants, and a node through which they speak."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from chain.errors import Rejection
from chain.federated.records import ROUND_TABLE, SHARES_TABLE, FederatedRound
from chain.kinds.participation import UpdateReveal
from chain.kinds.rounds import Invitation, RoundOpen
from chain.transactions import Transaction
from chain.types import Digest
from tests.federation import make_deadlines, make_terms
from tests.learners import Learner, member_of
from tests.simulation.trace import acting
from tests.simulation.workload import Client
from tests.simulation.world import World
from tests.unit.node.blobs.stored import put

PHASE_S = 120.0
"""How long a phase may last: its deadline is ten heights away, of a second each."""
STEP = 10


class Learning:
    """One round, its participants, and the steps that they take together.

    Attributes
    ----------
    learners : list of Learner
        The participants, in the order of their ids; places are indices of it.
    """

    def __init__(self, world: World, *, count: int) -> None:
        self.world = world
        self.client = Client(world, world.random("learning"), devices=count)
        self.devices = sorted(self.client.devices, key=lambda device: device.id)
        self.learners = [Learner(device.id) for device in self.devices]
        self.id = Digest(bytes(32))

    @property
    def found(self) -> FederatedRound:
        """The round as the chain has it."""
        found = self.world.ledger.tip.state.get(ROUND_TABLE, self.id)
        assert found is not None, "the round is on record"
        return found

    async def open(self, **terms: Any) -> None:
        """Register the participants and open a round for them."""
        await self.world.reach(0, within_s=30)
        register = self.client.register
        await self.commit(*[register(device, role="participant") for device in self.devices])
        height = self.world.ledger.height + 1
        fields = {"parameter_count": 40, "deadlines": make_deadlines(height, STEP), **terms}
        body = RoundOpen(
            terms=make_terms(height, **fields),
            participants=tuple(
                [
                    Invitation(device=device.id, weight=place + 1, steps=5)
                    for place, device in enumerate(self.devices)
                ]
            ),
        )
        opening = self.client.sign_as_registrar("round.open", body)
        await self.commit(opening)
        self.id = opening.id

    async def join(self, places: Collection[int]) -> None:
        """Let these join, and wait for the groups."""
        await self._step("round.join", places, lambda learner: learner.join(self.id))
        await self.leave("join")
        await self.leave("draw")

    async def share(self, places: Collection[int]) -> None:
        """Let these share, and wait for the end of the phase."""
        found = self.found
        await self._step("round.share", places, lambda learner: learner.share(self.id, found))
        await self.leave("share")

    async def commit_updates(self, places: Collection[int]) -> None:
        """Let these commit their updates, and wait for the end of the phase."""
        found = self.found
        await self._step("update.commit", places, lambda learner: learner.commit(self.id, found))
        await self.leave("commit")

    def upload(self, places: Collection[int], *, at: str = "m0") -> None:
        """Let these bring their blobs to a node."""
        for place in places:
            put(self.world.node(at).blobs, self.learners[place].blob(self.id, self.found))

    async def reveal(self, places: Collection[int]) -> None:
        """Let these reveal what may be known, as far as it is needed."""
        for place in places:
            found = self.found
            is_known = member_of(found, self.devices[place].id).group in found.revealed
            if found.phase == "reveal" and not is_known:
                body = self._revelation(place)
                await self.commit(self._by(place, "update.reveal", body))

    async def reveal_falsely(self, place: int) -> str:
        """Let one reveal a share with a bit changed; return with which code it is refused."""
        body = self._revelation(place)
        first, *others = body.shares
        assert first is not None, "it holds its own"
        false = bytes((first[0] ^ 1,)) + first[1:]
        transaction = self._by(place, "update.reveal", replace(body, shares=(false, *others)))
        (answer,) = await self.world.node("m0").submit([transaction.wire])
        assert isinstance(answer.error, Rejection), "it is refused"
        return answer.error.code

    def _revelation(self, place: int) -> UpdateReveal:
        state = self.world.ledger.tip.state
        records = {
            device.id: state.get(SHARES_TABLE, self.id + device.id) for device in self.devices
        }
        shares = {id: record for id, record in records.items() if record is not None}
        return self.learners[place].reveal(self.id, self.found, shares)

    async def leave(self, phase: str) -> None:
        """Wait for the end of a phase."""
        await self.world.until(
            lambda: self.found.phase != phase, within_s=PHASE_S, what=f"the end of {phase}"
        )

    async def submit(self, *transactions: Transaction) -> None:
        """Hand transactions to a node that runs, and is where the chain is."""
        name = self.world.up()[0]
        await self.world.reach(self.world.ledger.height, name, within_s=30)
        with acting(name):
            answers = await self.world.node(name).submit([each.wire for each in transactions])
        assert [answer.error for answer in answers if answer.error is not None] == []

    async def commit(self, *transactions: Transaction) -> None:
        """Have transactions committed."""
        await self.submit(*transactions)
        places = self.world.ledger.places
        await self.world.until(
            lambda: all(transaction.id in places for transaction in transactions),
            within_s=60,
            what=transactions[0].payload.kind,
        )

    async def _step(self, kind: str, places: Collection[int], body: Any) -> None:
        await self.commit(*[self._by(place, kind, body(self.learners[place])) for place in places])

    def _by(self, place: int, kind: str, body: Any) -> Transaction:
        device = self.devices[place]
        return self.client.make(kind, body, sender=device.id, key=device.key)
