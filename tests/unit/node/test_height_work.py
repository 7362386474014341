"""What is under way for a height: begun once, not lost, dropped when the height is decided."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from chain.errors import InvalidBlock
from chain.types import Digest, Height, Round
from consensus.errors import SafetyViolation
from consensus.events import BlockBuilt, BlockFetched, ProposalChecked
from consensus.messages import Proposal
from consensus.output import BuildBlock, CheckProposal, Committed, FetchBlock
from node.block_sync import LIE_POINTS
from node.height_work import FETCH_RETRY_S, HeightWork
from node.metrics import Metrics
from node.protocol import GET_PROPOSAL
from tests.builders import Chain
from tests.unit.node.fakes import Wire, address, simulated

A, B, C = (address(number) for number in range(1, 4))
CHAIN = Chain()
HEIGHT = Height(1)


def proposal(number: int) -> Proposal:
    block = CHAIN.block(time_ms=CHAIN.next_time_ms + 60_000 + number)
    return Proposal(header=block.header, digests=())


ONE, TWO = proposal(1), proposal(2)


class Bench:
    """The work of a height over a maker that does what the test says.

    Attributes
    ----------
    checking : list of (Digest, Future)
        Checks begun, in order; the test settles them.
    builds : list of (Proposal or None)
        What the next builds return.
    """

    def __init__(self) -> None:
        self.checking: list[tuple[Digest, asyncio.Future[None]]] = []
        self.cancelled: list[Digest] = []
        self.builds: list[Proposal | None] = []
        self.built = 0
        self.held: dict[Digest, Proposal] = {}
        self.answers: list[Any] = []
        self.holders: tuple[Any, ...] = ()
        self.wire = Wire(A, B, C)
        self.unwinding = asyncio.Event()
        self.unwinding.set()
        chain: Any = SimpleNamespace(height=0)
        replica: Any = SimpleNamespace(holders=lambda digest: self.holders)
        members: Any = SimpleNamespace(nodes_of=list)
        maker: Any = self
        self.work = HeightWork(
            replica=replica,
            chain=chain,
            maker=maker,
            members=members,
            transport=self.wire,
            metrics=Metrics(),
            answer=self.answers.append,
        )

    # The maker

    async def build(self, *, round: int, limit_shift: int) -> Proposal | None:
        self.built += 1
        await asyncio.sleep(0)
        return self.builds.pop(0) if self.builds else None

    async def check(self, proposal: Proposal, holders: Any) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.checking.append((proposal.digest, future))
        try:
            await future
        except asyncio.CancelledError:
            self.cancelled.append(proposal.digest)
            # As a write on another thread, which ends before its caller does.
            await self.unwinding.wait()
            raise

    def proposal(self, digest: Digest) -> Proposal | None:
        return self.held.get(digest)

    # Requests

    def ask_check(self, group: Any, what: Proposal, *, committed: bool = False) -> None:
        request = CheckProposal(
            height=HEIGHT, round=Round(0), proposal=what, holders=(A,), committed=committed
        )
        self.work.check(request, group)

    def ask_build(self, group: Any, round: int = 0) -> None:
        request = BuildBlock(
            height=HEIGHT, round=Round(round), parent=CHAIN.tip.header, limit_shift=0
        )
        self.work.build(request, group)

    def ask_fetch(self, group: Any, digest: Digest, *holders: Any) -> None:
        request = FetchBlock(height=HEIGHT, digest=digest, holders=holders, certificate=None)
        self.work.fetch(request, group)

    def asked(self) -> list[Any]:
        return [peer for peer, _ in self.wire.take(GET_PROPOSAL)]


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


def checked(what: Proposal, reason: str = "") -> ProposalChecked:
    return ProposalChecked(height=HEIGHT, digest=what.digest, valid=not reason, reason=reason)


# --- checks ---------------------------------------------------------------------------------------


@simulated
async def test_a_check_answers_what_was_found():
    bench = Bench()
    async with asyncio.TaskGroup() as group:
        bench.ask_check(group, ONE)
        await settle()
        bench.checking[0][1].set_result(None)
        await settle()
        bench.ask_check(group, TWO)
        await settle()
        bench.checking[1][1].set_exception(InvalidBlock("it is bad"))

    assert bench.answers == [checked(ONE), checked(TWO, "invalid_block: it is bad")]


@simulated
async def test_a_check_under_way_is_not_begun_twice():
    bench = Bench()
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            bench.ask_check(group, ONE)
            await settle()
        assert len(bench.checking) == 1
        bench.work.drop()


@simulated
async def test_a_later_check_makes_that_of_another_block_idle():
    bench = Bench()
    async with asyncio.TaskGroup() as group:
        bench.ask_check(group, ONE)
        await settle()
        bench.ask_check(group, TWO)
        await settle()
        assert bench.cancelled == [ONE.digest]
        bench.work.drop()


@simulated
async def test_a_block_asked_for_again_while_its_check_is_being_cancelled_is_checked():
    bench = Bench()
    async with asyncio.TaskGroup() as group:
        bench.ask_check(group, ONE)
        await settle()
        bench.unwinding.clear()
        bench.ask_check(group, TWO)
        await settle()
        bench.ask_check(group, ONE)
        await settle()
        assert [digest for digest, _ in bench.checking] == [ONE.digest, TWO.digest, ONE.digest]
        bench.unwinding.set()
        await settle()
        bench.checking[2][1].set_result(None)
        await settle()
        assert bench.answers == [checked(ONE)]
        bench.work.drop()


@simulated
@pytest.mark.parametrize("is_running", [False, True])
async def test_nothing_makes_the_check_of_a_decided_block_idle(is_running):
    bench = Bench()
    async with asyncio.TaskGroup() as group:
        if is_running:
            bench.ask_check(group, ONE)
            await settle()
        bench.ask_check(group, ONE, committed=True)
        await settle()
        bench.ask_check(group, TWO)
        await settle()
        assert bench.cancelled == []
        bench.work.drop()


@simulated
async def test_a_check_that_ends_after_the_height_was_decided_is_no_answer():
    bench = Bench()
    async with asyncio.TaskGroup() as group:
        bench.ask_check(group, ONE)
        await settle()
        bench.work._chain.tip = None  # type: ignore[assignment]
        bench.work._chain.height = 1  # type: ignore[misc]
        bench.checking[0][1].set_result(None)

    assert bench.answers == []


@simulated
async def test_what_is_dropped_never_answers_and_the_next_height_begins_afresh():
    bench = Bench()
    async with asyncio.TaskGroup() as group:
        bench.ask_check(group, ONE)
        bench.ask_check(group, TWO, committed=True)
        bench.ask_build(group)
        bench.ask_fetch(group, Digest(bytes(32)), A)
        await settle()
        bench.work.drop()
        await settle()
        assert bench.answers == []
        bench.ask_check(group, ONE)
        await settle()
        bench.checking[-1][1].set_result(None)

    assert bench.answers == [checked(ONE)]


# --- builds ---------------------------------------------------------------------------------------


@simulated
async def test_a_build_that_finds_nothing_looks_again_when_there_is_work():
    bench = Bench()
    bench.builds = [None, None, ONE]
    async with asyncio.TaskGroup() as group:
        bench.ask_build(group)
        await asyncio.sleep(100)
        assert bench.built == 1
        bench.work.on_work()
        await asyncio.sleep(100)
        assert bench.built == 2
        bench.work.on_work()

    assert bench.answers == [BlockBuilt(height=HEIGHT, round=Round(0), proposal=ONE)]


@simulated
async def test_work_that_comes_during_a_build_is_not_missed():
    bench = Bench()
    bench.builds = [None, ONE]
    async with asyncio.TaskGroup() as group:
        bench.ask_build(group)
        await asyncio.sleep(0)
        bench.work.on_work()

    assert len(bench.answers) == 1


@simulated
async def test_a_build_for_a_later_round_takes_the_place_of_the_one_before():
    bench = Bench()
    bench.builds = [None, ONE]
    async with asyncio.TaskGroup() as group:
        bench.ask_build(group)
        await settle()
        bench.ask_build(group, round=1)
        await asyncio.sleep(10)
        bench.work.on_work()

    assert bench.answers == [BlockBuilt(height=HEIGHT, round=Round(1), proposal=ONE)]


# --- fetches --------------------------------------------------------------------------------------


@simulated
async def test_a_block_that_is_held_is_asked_of_nobody():
    bench = Bench()
    bench.held[ONE.digest] = ONE
    async with asyncio.TaskGroup() as group:
        bench.ask_fetch(group, ONE.digest, A, B)

    assert bench.asked() == []
    assert bench.answers == [BlockFetched(height=HEIGHT, proposal=ONE)]


@simulated
async def test_holders_are_asked_in_turn_until_one_answers():
    bench = Bench()
    bench.holders = (C,)
    async with asyncio.TaskGroup() as group:
        bench.ask_fetch(group, ONE.digest, A, B)
        await asyncio.sleep(3.5 * FETCH_RETRY_S)
        assert bench.asked() == [A, B, C, A]
        bench.work.on_proposal(B, ONE)
        await asyncio.sleep(60)
        assert bench.asked() == []

    assert bench.answers == [BlockFetched(height=HEIGHT, proposal=ONE)]


@simulated
async def test_only_an_answer_of_who_was_asked_with_the_right_digests_counts():
    bench = Bench()
    wrong = replace(ONE, digests=(Digest(bytes(32)),))
    async with asyncio.TaskGroup() as group:
        bench.ask_fetch(group, ONE.digest, A)
        await settle()
        bench.work.on_proposal(B, ONE)
        bench.work.on_proposal(A, TWO)
        assert bench.wire.blames == []
        bench.work.on_proposal(A, wrong)
        assert [blame[:2] for blame in bench.wire.blames] == [(A, LIE_POINTS)]
        # One question, one answer.
        bench.work.on_proposal(A, ONE)
        await settle()
        assert bench.answers == []
        await asyncio.sleep(FETCH_RETRY_S)
        bench.work.on_proposal(A, ONE)

    assert bench.answers == [BlockFetched(height=HEIGHT, proposal=ONE)]


@simulated
async def test_a_fetch_outlives_the_one_that_it_follows():
    bench = Bench()
    async with asyncio.TaskGroup() as group:
        bench.ask_fetch(group, ONE.digest, A)
        await settle()
        bench.work.drop()
        bench.ask_fetch(group, ONE.digest, B)
        await asyncio.sleep(FETCH_RETRY_S)
        bench.work.on_proposal(B, ONE)

    assert bench.answers == [BlockFetched(height=HEIGHT, proposal=ONE)]
    assert bench.work._questions == {}


# --- recovery -------------------------------------------------------------------------------------


def committed(what: Proposal) -> Committed:
    certificate = CHAIN.certificate(what.header, CHAIN.miners)
    return Committed(height=HEIGHT, proposal=what, certificate=certificate)


@simulated
async def test_a_decided_block_that_the_store_has_lost_is_checked_again_and_committed():
    bench = Bench()
    async with asyncio.TaskGroup() as group:
        bench.work.recover(committed(ONE), group)
        await settle()
        bench.checking[0][1].set_result(None)

    assert bench.answers == [committed(ONE)]


@simulated
async def test_a_decided_block_that_turns_out_invalid_stops_the_node():
    bench = Bench()

    async def play() -> None:
        async with asyncio.TaskGroup() as group:
            bench.work.recover(committed(ONE), group)
            await settle()
            bench.checking[0][1].set_exception(InvalidBlock("it is bad"))

    with pytest.raises(ExceptionGroup) as caught:
        await play()

    assert [type(error) for error in caught.value.exceptions] == [SafetyViolation]
