"""A Byzantine proposer: honest miners commit nothing bad, never differ, and go on.

That they commit nothing bad and never differ, the ledger checks in every world; the scenes here
make sure that each trick was really played, that it was refused for the right reason, and that the
chain went on after it.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache

import pytest

from chain.limits import parse_limits
from chain.parameters import Parameters
from chain.transactions import Transaction, attach_signature
from chain.types import Digest, Signature
from tests.simulation import tricks
from tests.simulation.hostile import Hostile, Trick
from tests.simulation.tricks import TRICKS, with_transactions
from tests.simulation.workload import LIMITED, SUSPENDED, Workload
from tests.simulation.world import Settings, World

HOSTILE = "m1"
AFTER = 6
"""Heights that have to follow the trick; each takes its next turn."""


CALM = Settings().parameters
SLOW = replace(CALM, round_timeout_ms=5_000)
"""A chain that stands still long enough for nodes to ask whoever says to be ahead."""


@asynccontextmanager
async def among_honest(world: World, trick: Trick, *, turns: int = 1):
    """Let the hostile miner join, with devices registered; its first trick comes after that."""
    world.start()
    load = Workload(world)
    is_ready = False

    def when_ready(hostile: Hostile) -> None:
        if is_ready:
            trick(hostile)
        else:
            hostile.turns -= 1

    hostile = Hostile(world, HOSTILE, when_ready)
    async with asyncio.TaskGroup() as group:
        part = group.create_task(hostile.run())
        await load.prepare(within_s=60)
        clients = group.create_task(load.run())
        is_ready = True
        yield hostile, load
        await world.until(
            lambda: hostile.turns >= turns, within_s=400, what="the turn of the hostile miner"
        )
        await world.reach(world.ledger.height + AFTER, within_s=200)
        clients.cancel()
        await load.commit_at_each(within_s=60)
        load.check_receipts()
        part.cancel()


@cache
def play(trick: Trick, *, turns: int = 1, parameters: Parameters = CALM) -> tuple[World, Hostile]:
    """Play a trick in a world of three honest miners and one hostile one.

    The world is over when it is returned; several tests may look at it.
    """
    found: list[Hostile] = []

    async def scene(world: World) -> None:
        async with among_honest(world, trick, turns=turns) as (hostile, _):
            found.append(hostile)

    world = World(1, Settings(hostile=(HOSTILE,), parameters=parameters)).run(scene)
    return world, found[0]


def committed_of(world: World, hostile: Hostile) -> int:
    """Return how many blocks of the hostile miner are on the chain."""
    return sum(entry.block.header.hash in hostile.proposed for entry in world.ledger.blocks)


def refusals(world: World) -> set[str]:
    """Return why nodes have refused a block after looking into it, by code."""
    return {fields["code"] for _, event, fields in world.log if event == "proposal refused"}


def reasons(world: World) -> str:
    """Return why nodes have refused messages of consensus."""
    return "\n".join(
        str(fields["reason"])
        for _, event, fields in world.log
        if event == "consensus message refused"
    )


@pytest.mark.attack("B1", "B5")
@pytest.mark.parametrize("name", sorted(TRICKS))
def test_the_chain_goes_on_after(name: str):
    world, hostile = play(TRICKS[name])

    assert hostile.turns >= 1
    if name not in ("two_blocks", "two_blocks_to_all", "to_one_alone", "votes_in_anothers_name"):
        assert committed_of(world, hostile) == 0


@pytest.mark.attack("A2", "B17")
@pytest.mark.parametrize(
    ("trick", "code"),
    [
        (tricks.wrong_state_root, "wrong_root"),
        (tricks.wrong_receipt_root, "wrong_root"),
        (tricks.wrong_miner_set, "wrong_root"),
        (tricks.empty, "invalid_block"),
    ],
)
def test_a_block_that_does_not_hold_what_its_header_says_is_refused(trick, code):
    world, hostile = play(trick)

    assert refusals(world) == {code}
    assert committed_of(world, hostile) == 0


@pytest.mark.attack("B2", "B3", "B4", "C2")
@pytest.mark.parametrize(
    ("trick", "reason"),
    [
        (tricks.an_hour_ahead, "ms ahead"),
        (tricks.before_its_parent, "not later than its parent"),
        (tricks.wrong_parent, "another parent"),
        (tricks.wrong_transaction_root, "do not lead to the transaction root"),
        # Step 1 of Algorithm 1, VERIFYMINER(M): a block of no miner does not get as far as step 2.
        (tricks.in_a_strangers_name, "another proposer"),
        (tricks.in_anothers_name, "another proposer"),
        (tricks.later_round, "another round"),
        (tricks.unjustified_rounds, "no justification"),
        (tricks.forged_justification, "a ROUND-CHANGE that is not signed"),
        (tricks.votes_in_anothers_name, "not signed by its sender"),
    ],
)
def test_a_message_that_breaks_a_rule_of_consensus_is_refused(trick, reason):
    world, _ = play(trick)

    assert reason in reasons(world)


@pytest.mark.attack("D8")
def test_whoever_lies_in_sync_is_blamed_and_nobody_else():
    world, _ = play(tricks.lies_in_sync, parameters=SLOW)

    assert {peer for _, peer, _, _ in world.blames} == {HOSTILE}
    assert any(event == "peer sent a bad block" for _, event, _ in world.log)


@pytest.mark.attack("B1")
def test_two_blocks_of_one_proposer_are_noticed():
    world, _ = play(tricks.two_blocks_to_all)

    assert any(event == "a miner signed two things" for _, event, _ in world.log)


@pytest.mark.attack("A1", "A3")
def test_a_proposer_that_stays_silent_is_passed_over():
    world, hostile = play(tricks.say_nothing, turns=2)

    rounds = [entry.block.header.proposal_round for entry in world.ledger.blocks]
    assert sum(round > 0 for round in rounds) < len(rounds) / 4
    assert committed_of(world, hostile) == 0


# A block with a transaction that fails a step of Algorithm 1


def unregistered(hostile: Hostile) -> Sequence[Transaction]:
    client = hostile.client
    stranger = replace(client.devices[2], id=hostile.world.organisation)
    return [client.report(stranger)]


def suspended(hostile: Hostile) -> Sequence[Transaction]:
    return [hostile.client.report(hostile.client.devices[SUSPENDED])]


def old(hostile: Hostile) -> Sequence[Transaction]:
    lifetime_ms = hostile.world.settings.parameters.transaction_lifetime_ms
    time_ms = hostile.world.wall_ms() - lifetime_ms - 1
    return [hostile.client.report(hostile.client.devices[2], time_ms=time_ms)]


def early(hostile: Hostile) -> Sequence[Transaction]:
    time_ms = hostile.world.wall_ms() + 60_000
    return [hostile.client.report(hostile.client.devices[2], time_ms=time_ms)]


def too_many(hostile: Hostile) -> Sequence[Transaction]:
    device = hostile.client.devices[LIMITED]
    (window,) = parse_limits("3:10")
    return [hostile.client.report(device) for _ in range(window.capacity + 1)]


def forged(hostile: Hostile) -> Sequence[Transaction]:
    one, other = hostile.client.devices[2:4]
    return [hostile.client.report(one, key=other.key)]


def forged_of_a_known_one(hostile: Hostile) -> Sequence[Transaction]:
    transaction = hostile.client.report(hostile.client.devices[2])
    return [attach_signature(transaction.payload, Signature(bytes(64)))]


def twice_in_the_block(hostile: Hostile) -> Sequence[Transaction]:
    transaction = hostile.client.report(hostile.client.devices[2])
    return [transaction, transaction]


def on_the_chain_already(hostile: Hostile) -> Sequence[Transaction]:
    client = hostile.client
    device_ids = {device.id for device in client.devices[2:]}
    for entry in reversed(hostile.world.ledger.blocks):
        for transaction in entry.block.transactions:
            if transaction.payload.sender in device_ids:
                return [transaction]
    raise AssertionError("the clients have sent something by now")


def foreign(hostile: Hostile) -> Sequence[Transaction]:
    return [hostile.client.report(hostile.client.devices[2], genesis_hash=Digest(bytes(32)))]


def of_no_kind(hostile: Hostile) -> Sequence[Transaction]:
    device = hostile.client.devices[2]
    return [hostile.client.make("device.dream", b"\x90", sender=device.id, key=device.key)]


def shapeless(hostile: Hostile) -> Sequence[Transaction]:
    return [hostile.client.report(hostile.client.devices[2], b"\x91\x01")]


def presumed(hostile: Hostile) -> Sequence[Transaction]:
    client = hostile.client
    honest = client.suspend(client.devices[3])
    device = client.devices[2]
    return [
        client.make("device.update", honest.payload.body, sender=device.id, key=device.key),
    ]


def out_of_order(hostile: Hostile) -> Sequence[Transaction]:
    client = hostile.client
    return [client.report(client.devices[2]), client.suspend(client.devices[3])]


STEPS: dict[Callable[[Hostile], Sequence[Transaction]], str] = {
    unregistered: "unknown_device",
    suspended: "device_not_active",
    old: "expired",
    early: "expired",
    too_many: "rate_limited",
    forged: "bad_signature",
    forged_of_a_known_one: "bad_signature",
    twice_in_the_block: "duplicate",
    on_the_chain_already: "duplicate",
    foreign: "wrong_chain",
    of_no_kind: "unknown_kind",
    shapeless: "malformed",
    presumed: "not_permitted",
    out_of_order: "wrong_order",
}


@pytest.mark.attack("B12", "B16", "C4")
@pytest.mark.parametrize("make", list(STEPS), ids=lambda make: make.__name__)
def test_a_block_with_a_transaction_that_fails_a_step_is_refused(make):
    world, hostile = play(with_transactions(make))

    assert refusals(world) == {STEPS[make]}
    assert committed_of(world, hostile) == 0
