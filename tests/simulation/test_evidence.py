"""Liars among whole nodes: convicted everywhere, nobody else, and the chain goes on as it was."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chain.eligibility import eligible_miners
from chain.kinds.miners import MinerPropose, RestoreMiner
from chain.kinds.vote import MinerVote
from chain.records.miners import MINER_TABLE
from chain.state import miner_sets_of
from chain.types import Digest, Round
from consensus.messages import RoundChange
from tests.simulation.checkers import Violation
from tests.simulation.hostile import Hostile
from tests.simulation.network import LinkQuality
from tests.simulation.test_hostile import HOSTILE, among_honest
from tests.simulation.trace import acting
from tests.simulation.tricks import two_blocks, two_blocks_to_all
from tests.simulation.workload import Workload
from tests.simulation.world import Settings, World, twin_of

AFTER = 8
"""Heights that follow a conviction: each of three miners proposes in some of them."""


def votes_for_two(hostile: Hostile) -> None:
    """Propose one block, and vote for another as well."""
    report = hostile.client.report(hostile.client.devices[2])
    proposal = hostile.propose(hostile.honest_block([report]))
    for digest in (proposal.digest, Digest(hostile.random.randbytes(32))):
        hostile.vote(digest)


def gives_up_twice(hostile: Hostile) -> None:
    """Give up a round, once with nothing to report and once with a block."""
    for prepared in (None, Digest(hostile.random.randbytes(32))):
        hostile.say(
            RoundChange(
                sender=hostile.identity.miner_id,
                height=hostile.height,
                round=Round(1),
                prepared_round=None if prepared is None else Round(0),
                prepared_digest=prepared,
                certificate=None,
            )
        )


def status_at(world: World, name: str, accused: str) -> str:
    """Return what a node's state says of a miner."""
    record = world.node(name).chain.state.get(MINER_TABLE, world.identities[accused].miner_id)
    assert record is not None
    return record.status


async def govern(world: World, kind: str, body: Any, voter: str) -> Digest:
    """Let a miner sign something, hand it to a node, and wait until it is committed."""
    identity = world.identities[voter]
    client = Workload(world).client
    transaction = client.make(kind, body, sender=identity.miner_id, key=identity.key)
    name = world.up()[0]
    with acting(name):
        (answer,) = await world.node(name).submit([transaction.wire])
    assert answer.error is None, answer.error
    await world.until(lambda: transaction.id in world.ledger.places, within_s=60, what=kind)
    return transaction.id


async def restore(world: World, accused: str, voters: list[str]) -> None:
    """Let miners vote a demoted one back."""
    body = MinerPropose(change=RestoreMiner(miner=world.identities[accused].miner_id))
    proposal = await govern(world, "miner.propose", body, voters[0])
    for voter in voters[1:]:
        await govern(world, "miner.vote", MinerVote(proposal=proposal, approve=True), voter)


def evidence_on_chain(world: World) -> list[Any]:
    return [
        transaction
        for entry in world.ledger.blocks
        for transaction in entry.block.transactions
        if transaction.payload.kind == "evidence"
    ]


@pytest.mark.attack("B1", "B9")
@pytest.mark.parametrize("trick", [two_blocks_to_all, votes_for_two, gives_up_twice])
def test_a_liar_is_demoted_on_all_nodes_and_restored_by_vote(trick: Callable[[Hostile], None]):
    async def scene(world):
        liar = world.identities[HOSTILE]
        async with among_honest(world, trick) as (hostile, _):
            before = miner_sets_of(world.ledger.tip.state)
            await world.until(
                lambda: world.ledger.is_convicted(liar.miner_id), within_s=400, what="conviction"
            )
            await world.reach(world.ledger.height + AFTER, within_s=200)
            turns = hostile.turns

            assert {status_at(world, name, HOSTILE) for name in world.up()} == {"demoted"}
            state = world.ledger.tip.state
            after = miner_sets_of(state)
            assert after == before
            assert after[0].quorum == 3
            eligible = eligible_miners(state, after[0], world.ledger.tip.next_height)
            assert liar.miner_id not in eligible
            proposers = {entry.block.header.proposer for entry in world.ledger.blocks[-AFTER:]}
            assert liar.miner_id not in proposers

            await restore(world, HOSTILE, ["m0", "m2", "m3"])
            await world.reach(world.ledger.height, within_s=60)
            assert {status_at(world, name, HOSTILE) for name in world.up()} == {"active"}
            await world.until(lambda: hostile.turns > turns, within_s=400, what="another turn")

    world = World(1, Settings(hostile=(HOSTILE,))).run(scene)

    assert {transaction.payload.sender for transaction in evidence_on_chain(world)} <= {
        identity.miner_id for name, identity in world.identities.items() if name != HOSTILE
    }


@pytest.mark.attack("B9")
def test_one_conviction_takes_one_transaction_however_many_have_seen_it():
    async def scene(world):
        async with among_honest(world, two_blocks_to_all):
            pass

    world = World(2, Settings(hostile=(HOSTILE,))).run(scene)

    assert len(evidence_on_chain(world)) == 1
    assert len([entry for entry in world.log if entry[1] == "a miner signed two things"]) >= 3


@pytest.mark.parametrize("how", ["kill", "crash"])
def test_evidence_outlives_a_restart_of_all_nodes(how: str):
    """The liar says no more, and reports that are under way are lost with the pools."""

    async def scene(world):
        def once(hostile: Hostile) -> None:
            if hostile.turns == 1:
                two_blocks_to_all(hostile)

        liar = world.identities[HOSTILE].miner_id
        async with among_honest(world, once):
            while liar not in world.unpunished():
                await asyncio.sleep(0.001)
            for name in sorted(world.hosts):
                await getattr(world, how)(name)
            world.start()
            await world.until(
                lambda: world.ledger.is_convicted(liar), within_s=100, what="conviction"
            )

    world = World(1, Settings(hostile=(HOSTILE,))).run(scene)

    assert len(evidence_on_chain(world)) == 1


def test_lies_that_nobody_compares_convict_nobody_and_change_nothing():
    async def scene(world):
        async with among_honest(world, two_blocks):
            pass

    world = World(3, Settings(hostile=(HOSTILE,))).run(scene)

    assert len(evidence_on_chain(world)) <= 1
    assert world.ledger.height > AFTER


@pytest.mark.attack("B9", "E8")
@pytest.mark.parametrize("seed", range(2))
def test_honest_miners_accuse_nobody_in_bad_weather(seed):
    async def scene(world):
        world.start()
        load = Workload(world)
        await load.prepare(within_s=60)
        async with asyncio.TaskGroup() as group:
            clients = group.create_task(load.run())
            for name in ("m1", "m2", "m3"):
                await world.crash(name)
                await asyncio.sleep(3)
                world.start(name)
                await world.reach(world.ledger.height + 3, within_s=200)
            clients.cancel()

    quality = LinkQuality(latency_us_max=150_000, loss_ppm=20_000, break_ppm=2_000)
    world = World(seed, Settings(quality=quality)).run(scene)

    assert evidence_on_chain(world) == []


def test_evidence_against_an_honest_miner_would_be_found(monkeypatch):
    async def scene(world):
        async with among_honest(world, two_blocks_to_all):
            world.ledger._byzantine = frozenset()

    with pytest.raises(Violation, match="commits evidence against"):
        World(1, Settings(hostile=(HOSTILE,))).run(scene)


@pytest.mark.attack("B1")
def test_twins_that_meet_are_demoted():
    """Two nodes with one key, each seen by some; sessions break, so that they change places."""

    async def scene(world):
        twins = ["m1", twin_of("m1")]
        others = [name for name in world.hosts if name not in twins]
        world.start()
        await world.reach(1, *others, within_s=60)
        load = Workload(world)
        async with asyncio.TaskGroup() as group:
            await load.prepare(within_s=200)
            clients = group.create_task(load.run())
            miner = world.identities["m1"].miner_id
            await world.until(
                lambda: world.ledger.is_convicted(miner), within_s=600, what="conviction"
            )
            height = world.ledger.height
            await world.reach(height + AFTER, *others, within_s=200)
            assert {status_at(world, name, "m1") for name in others} == {"demoted"}
            clients.cancel()

    quality = replace(Settings().quality, break_ppm=15_000)
    world = World(2, Settings(twins=("m1",), quality=quality)).run(scene)

    assert len(evidence_on_chain(world)) == 1
