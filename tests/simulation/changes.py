"""What the miners decide in a world: who is one of them, where they are, the chain's parameters.

A change is drawn from the seed like a fault and runs beside the faults, but it is not undone: once
begun it is pursued, through crashes and round changes, until the chain has decided it. One runs at
a time. All go the way of users: transactions, signed by miners, handed to whatever node is up.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from chain.kinds.miners import (
    AddMiner,
    MembershipChange,
    MinerPropose,
    MoveMiner,
    RemoveMiner,
    RestoreMiner,
)
from chain.kinds.parameter_change import ParameterChange
from chain.kinds.vote import MinerVote
from chain.records.miners import MINER_TABLE
from chain.records.proposals import PROPOSAL_TABLE, ProposalRecord
from chain.types import Address, Digest
from node.errors import StorageFailed
from tests.simulation.acceptance import addition_of, replacement_of
from tests.simulation.checkers import Violation
from tests.simulation.faults import bring_back, spare
from tests.simulation.trace import WORLD
from tests.simulation.workload import Workload
from tests.simulation.world import PORT, Identity, World

MINERS_MIN: Final = 3
MINERS_MAX: Final = 10
ANSWER_S: Final = 4.0
"""So long a transaction is waited for, before another one says the same at another node."""
POLL_S: Final = 0.2
CONCLUDED_TIMES: Final = 10
ACCEPTANCE_MS: Final = 3_600_000

PARAMETERS: Final = (
    ("block_transactions_max", "8"),
    ("block_transactions_max", "500"),
    ("heartbeat_ms", "3000"),
    ("heartbeat_ms", "8000"),
    ("round_timeout_ms", "1200"),
    ("round_timeout_ms", "3000"),
    ("transaction_lifetime_ms", "30000"),
    ("transaction_lifetime_ms", "90000"),
)
"""The smallest blocks still hold what clients and a federated round send, in the time in which that
has to be on the chain and where most heights take two rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that the miners are asked to decide.

    Parameters
    ----------
    what : str
        A key of `CHANGES`.
    at_s : float
        When it is asked, at the earliest.
    names : tuple of str
        Everybody whom it could be about; the first that suits it is.
    amount : int
        Which value, where it is about one.
    """

    what: str
    at_s: float
    names: tuple[str, ...]
    amount: int

    def __str__(self) -> str:
        return f"{self.at_s:6.2f} s: {self.what} {' '.join(self.names)} {self.amount}"


class Council:
    """The honest miners, as far as they govern.

    Attributes
    ----------
    decided : list of str
        What was enacted.
    steps : int
        How many of their words are on the chain, and sets of miners in force.
    """

    def __init__(self, world: World, load: Workload) -> None:
        self.decided: list[str] = []
        self.steps = 0
        self._world = world
        self._load = load

    async def play(self, changes: Sequence[Change]) -> None:
        """Have every change decided, one after the other."""
        begun_s = self._world.time_s
        for change in changes:
            await asyncio.sleep(max(0.0, begun_s + change.at_s - self._world.time_s))
            self._world.trace.note(WORLD, "change", change)
            await CHANGES[change.what](self, change)
            self._world.intended = ()

    async def conclude(self, changes: asyncio.Task[None], *, within_s: float) -> None:
        """Wait until `play` has come to its end, where no step may take longer than `within_s`.

        How many there are depends on the number of miners, all of whose words come one by one; but
        `CONCLUDED_TIMES` times as long is enough for all.
        """
        steps = 0
        end_s = self._world.time_s + CONCLUDED_TIMES * within_s

        def went_on() -> bool:
            return changes.done() or self.steps > steps

        while not changes.done():
            steps = self.steps
            if self._world.time_s > end_s:
                raise Violation("what the miners decide comes to no end")
            await self._world.until(went_on, within_s=within_s, what="what the miners decide")

    # The changes

    async def add(self, change: Change) -> None:
        """Set a node up that starts from nothing, or take one that left; make it a miner."""
        world = self._world
        name = self._first(change, self._can_be_added)
        if name is None:
            return
        if name not in world.hosts:
            world.set_up(name)
            world.start(name)
        addition = await self._addition(name)
        members = (*self._members(), world.identities[name].miner_id)
        await self._settle(change, addition, members)

    async def remove(self, change: Change) -> None:
        """Remove a miner, liar or not, that the others can do without; its node stays."""
        name = self._first(change, self._can_be_removed)
        if name is not None:
            miner = self._world.identities[name].miner_id
            await self._settle(change, RemoveMiner(miner=miner), self._without(miner))

    async def restore(self, change: Change) -> None:
        """Let a demoted miner do its part again."""

        def is_demoted(miner: Address) -> bool:
            record = self._world.ledger.tip.state.get(MINER_TABLE, miner)
            return record is not None and record.status == "demoted"

        name = self._first(change, is_demoted)
        if name is not None:
            miner = self._world.identities[name].miner_id
            await self._settle(change, RestoreMiner(miner=miner), self._members())

    async def move(self, change: Change) -> None:
        """Take a miner's machine to another address."""
        world = self._world
        name = self._first(change, self._is_honest_member)
        if name is None:
            return
        host = world.hosts[name]
        await world.kill(name)
        host.address = f"{name}-{world.ledger.height}"
        bring_back(world, host)
        moved = MoveMiner(miner=host.identity.miner_id, host=host.address, port=PORT)
        await self._settle(change, moved, self._members())

    async def replace(self, change: Change) -> None:
        """Give a miner that has its first key another one; its node holds both from then on."""
        world = self._world
        name = self._first(
            change, lambda miner: self._is_honest_member(miner) and self._has_first_key(miner)
        )
        if name is None:
            return
        await world.kill(name)
        world.give_next_key(name)
        bring_back(world, world.hosts[name])
        await self._settle(change, replacement_of(world, name), self._members())

    async def set_parameter(self, change: Change) -> None:
        """Give a parameter another value."""
        name, value = PARAMETERS[change.amount % len(PARAMETERS)]
        if await self.decide("param.change", ParameterChange(name=name, value=value)) == "enacted":
            self.decided.append(change.what)

    # How they are decided

    async def decide(self, kind: str, body: Any) -> str:
        """Propose something and vote for it until it is decided; return what became of it."""
        proposal = await self._commit(kind, body, self._voters()[0], lambda: False)
        assert proposal is not None, "it is proposed until it is on the chain"

        def record() -> ProposalRecord:
            found = self._world.ledger.tip.state.get(PROPOSAL_TABLE, proposal)
            assert found is not None, "it was committed"
            return found

        while record().status == "open":
            waiting = [
                voter for voter in self._voters() if voter.miner_id not in record().approvals
            ]
            if waiting:
                vote = MinerVote(proposal=proposal, approve=True)
                await self._commit(
                    "miner.vote", vote, waiting[0], lambda: record().status != "open"
                )
            else:
                await asyncio.sleep(POLL_S)
        return record().status

    async def _addition(self, name: str) -> AddMiner:
        """Have a node sign that it joins, once it has come as far as the others."""
        world = self._world
        host = world.hosts[name]
        while True:
            await self._until(
                lambda: host.node is not None and host.committed >= world.ledger.height
            )
            # Its disk may fail just then; its operator tries again.
            with suppress(StorageFailed):
                return addition_of(world, name, host=host.address)
            await asyncio.sleep(POLL_S)

    async def _settle(
        self, change: Change, wanted: MembershipChange, members: tuple[Address, ...]
    ) -> None:
        """Have a change of membership decided, and wait until the set it makes is in force."""
        world = self._world
        world.intended = (members,)
        if await self.decide("miner.propose", MinerPropose(change=wanted)) == "enacted":
            self.decided.append(change.what)
        await self._until(lambda: len(set(world.miner_sets())) == 1)
        self.steps += 1

    async def _commit(
        self, kind: str, body: Any, voter: Identity, is_moot: Callable[[], bool]
    ) -> Digest | None:
        """Have a miner say something, again and again, until one of its words is on the chain.

        Returns
        -------
        Digest or None
            Which of them; None where it was moot before.
        """
        world, client = self._world, self._load.client
        said: list[Digest] = []
        while True:
            transaction = client.govern(voter.name, kind, body)
            said.append(transaction.id)
            for name in self._nodes(voter):
                if await self._load.send(name, "valid", transaction) == "accepted":
                    break
            deadline_s = world.time_s + ANSWER_S
            while world.time_s < deadline_s:
                for id in said:
                    if id in world.ledger.places:
                        self.steps += 1
                        return id
                if is_moot():
                    return None
                await asyncio.sleep(POLL_S)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(POLL_S)

    # Who

    def _members(self) -> tuple[Address, ...]:
        """Return the set that was decided last."""
        return self._world.miner_sets()[-1]

    def _without(self, miner: Address) -> tuple[Address, ...]:
        return tuple(member for member in self._members() if member != miner)

    def _is_honest_member(self, miner: Address) -> bool:
        return miner in self._members() and miner not in self._world.byzantine

    def _has_first_key(self, miner: Address) -> bool:
        identities = self._world.identities.values()
        return any(known.miner_id == miner and known.next_key is None for known in identities)

    def _can_be_added(self, miner: Address) -> bool:
        world, members = self._world, self._members()
        # A key that was replaced makes nobody a miner again.
        is_free = (
            miner not in members and miner not in world.byzantine and self._has_first_key(miner)
        )
        return is_free and len(members) < MINERS_MAX and spare(world, (*members, miner)) >= 0

    def _can_be_removed(self, miner: Address) -> bool:
        rest = self._without(miner)
        return (
            miner in self._members() and len(rest) >= MINERS_MIN and spare(self._world, rest) >= 0
        )

    def _first(self, change: Change, suits: Callable[[Address], bool]) -> str | None:
        """Return the first name that suits a change; its honest machine need not exist yet."""
        identities = self._world.identities
        return next((name for name in change.names if suits(identities[name].miner_id)), None)

    def _voters(self) -> list[Identity]:
        """Return the honest miners of the next height."""
        world = self._world
        return [
            identity
            for name, identity in world.identities.items()
            if identity.miner_id not in world.byzantine and world.is_miner(name)
        ]

    def _nodes(self, voter: Identity) -> list[str]:
        """Return the miners' nodes that run, the voter's own before all others."""
        names = [name for name in self._world.up() if self._world.is_miner(name)]
        return sorted(names, key=lambda name: name != voter.name)


CHANGES: Final[dict[str, Callable[[Council, Change], Awaitable[None]]]] = {
    "add": Council.add,
    "remove": Council.remove,
    "restore": Council.restore,
    "move": Council.move,
    "replace": Council.replace,
    "parameter": Council.set_parameter,
}

DRAWN: Final = ("add", "add", "remove", "remove", "restore", "move", "replace", "parameter")
"""Among these one is drawn; coming and going is what most depends on."""


def draw_changes(random: Random, world: World, *, duration_s: float, count: int) -> list[Change]:
    """Draw changes for the first `duration_s` of a world, in the order of their beginning."""
    names = [name for name in world.identities if name[0] != "o"]
    changes = [
        Change(
            what=random.choice(DRAWN),
            at_s=random.uniform(0, duration_s),
            names=tuple(random.sample(names, len(names))),
            amount=random.randrange(len(PARAMETERS)),
        )
        for _ in range(count)
    ]
    return sorted(changes, key=lambda change: change.at_s)
