"""Four whole nodes in federated rounds: what they attest and compute, whoever fails or lies."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import pytest

from chain.kinds.base import Kind
from chain.kinds.rounds import AGGREGATE, ATTEST
from chain.types import Address, Digest
from node.protocol import CHUNK
from tests.builders import digest_of
from tests.learners import expected, member_of
from tests.simulation.federated import Learning
from tests.simulation.lesson import MASKED, Classroom, Lesson
from tests.simulation.workload import Workload
from tests.simulation.world import Settings, World

SETTINGS = Settings(detectors=False)
PHASES = ("join", "share", "commit", "attest", "reveal")
"""Those in which participants have something to do."""
MINERS = ("m0", "m1", "m2", "m3")


async def play(
    learning: Learning,
    places: Collection[int],
    *,
    at: str = "m0",
    lost: int | None = None,
    phase: str = "",
) -> None:
    """Let these go all the way, but for one who may be lost in a phase and all that follow it."""

    def still(now: str) -> list[int]:
        begun = PHASES[: PHASES.index(now) + 1]
        return [place for place in places if place != lost or phase not in begun]

    await learning.join(still("join"))
    await learning.share(still("share"))
    await learning.commit_updates(still("commit"))
    learning.upload(still("attest"), at=at)
    await learning.leave("attest")
    await learning.reveal(still("reveal"))
    await learning.leave("reveal")
    await learning.leave("aggregate")


def bend(
    world: World, name: str, kind: Kind, change: Callable[[Any], Any] = lambda body: None
) -> None:
    """Let a miner send something else of a kind than it should; None: nothing."""
    own: Any = world.node(name)._federation._bench.own
    honest = own.send

    async def send(sent: Kind, body: Any) -> Any:
        if sent is kind and (body := change(body)) is None:
            return None
        return await honest(sent, body)

    own.send = send


def voters(world: World, learning: Learning) -> dict[str, Digest]:
    """Return what each miner has said that it has computed."""
    said = {vote.miner: vote.digest for vote in learning.found.votes}
    ids = {name: world.identities[name].miner_id for name in MINERS}
    return {name: said[id] for name, id in ids.items() if id in said}


def events(world: World) -> list[tuple[Any, ...]]:
    """Return what ends of blocks have brought about."""
    chain = world.node(world.up()[0]).chain
    receipts = [chain.block_receipt(height) for height in range(1, chain.height + 1)]
    return [(event.name, *event.values) for receipt in receipts for event in receipt.events]


async def held_by_all(world: World, aggregate: Digest) -> None:
    """Wait until every node that runs has an aggregate."""
    await world.until(
        lambda: all(world.node(name).blobs.find(aggregate) for name in world.up()),
        within_s=60,
        what="the aggregate everywhere",
    )


def test_of_all_who_are_cheated_by_one_a_single_one_complains_through_the_nodes():
    async def scene(world: World) -> None:
        world.start()
        await world.reach(0, within_s=30)
        conduct = ("", "", "breaks_hashes", *[""] * (MASKED - 3))
        lesson = Lesson(at_s=None, is_masked=True, conduct=conduct, group_size=MASKED)
        classroom = Classroom(world, lesson, Workload(world))
        await classroom.enrol(within_s=60)

        await classroom.play()

        await classroom.check(is_healed=False)
        statuses = [member.status for member in classroom.found.members]
        assert statuses[2] == "expelled"
        assert statuses.count("complained") == 1
        assert statuses.count("included") == MASKED - 2
        # Its key, which the masks of the others need, cannot be restored: it spoils its group.
        assert classroom.found.reason == "too_few_groups"

    World(21, SETTINGS).run(scene)


def test_every_miner_computes_what_the_updates_come_to_and_every_node_keeps_it():
    async def scene(world: World) -> None:
        world.start()
        learning = Learning(world, count=8)
        await learning.open(groups_min=2)

        await play(learning, range(8), at="o0")

        found = learning.found
        assert found.phase == "finished"
        assert found.aggregate == expected(found, learning.learners)
        assert set(voters(world, learning).values()) == {found.aggregate}
        await held_by_all(world, found.aggregate)
        assert world.blames == []

    World(1, replace(SETTINGS, observers=1)).run(scene)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.attack("F3")
def test_who_drops_out_takes_nobody_with_it(phase):
    async def scene(world: World) -> None:
        world.start()
        learning = Learning(world, count=5)
        await learning.open()

        await play(learning, range(5), lost=2, phase=phase)

        found = learning.found
        status = member_of(found, learning.devices[2].id).status
        lost = {"join": "invited", "share": "joined", "commit": "shared", "attest": "withheld"}
        assert status == lost.get(phase, "included")
        assert found.phase == "finished"
        assert found.aggregate == expected(found, learning.learners)
        assert set(voters(world, learning).values()) == {found.aggregate}

    World(2, SETTINGS).run(scene)


@pytest.mark.attack("F3")
def test_a_miner_that_attests_what_nobody_has_brings_nothing_in_and_a_mute_one_holds_nothing_up():
    async def scene(world: World) -> None:
        world.start()
        learning = Learning(world, count=5)
        await learning.open()
        bend(world, "m3", ATTEST, lambda body: replace(body, held=b"\x1f"))
        answers: Any = world.node("m0")._answers
        honest = answers.ask
        answers.ask = lambda peer, question: (
            None if hasattr(question, "digest") else honest(peer, question)
        )

        await play(learning, range(5), at="m2", lost=4, phase="attest")

        found = learning.found
        assert member_of(found, learning.devices[4].id).status == "withheld"
        assert found.phase == "finished"
        assert found.aggregate == expected(found, learning.learners)

    World(3, SETTINGS).run(scene)


@pytest.mark.parametrize("delay_s", [4.0, 60.0])
def test_a_miner_that_is_slow_to_answer_holds_up_nobody_elses_updates(delay_s):
    async def scene(world: World) -> None:
        world.start()
        learning = Learning(world, count=8)
        await learning.open()
        slow: Any = world.node("m0")._ports.transport
        send = slow.send

        def send_late(peer: Address, kind: int, payload: bytes) -> bool:
            if kind != CHUNK:
                return bool(send(peer, kind, payload))
            asyncio.get_running_loop().call_later(delay_s, send, peer, kind, payload)
            return True

        slow.send = send_late
        # So the others have to get round it.
        bend(world, "m0", ATTEST)

        await learning.join(range(8))
        await learning.share(range(8))
        await learning.commit_updates(range(8))
        learning.upload(range(8), at="m3")
        begun_s = world.time_s
        await learning.leave("attest")

        assert world.time_s - begun_s < 4.0
        assert {member.status for member in learning.found.members} == {"included"}
        assert world.blames == []

    World(11, SETTINGS).run(scene)


def test_what_only_a_slow_miner_holds_comes_in_and_holds_up_no_other_update():
    async def scene(world: World) -> None:
        world.start()
        learning = Learning(world, count=8)
        # More than one chunk each.
        await learning.open(parameter_count=40_000)
        slow: Any = world.node("m0")._ports.transport
        send = slow.send

        def send_late(peer: Address, kind: int, payload: bytes) -> bool:
            if kind != CHUNK:
                return bool(send(peer, kind, payload))
            asyncio.get_running_loop().call_later(3.0, send, peer, kind, payload)
            return True

        slow.send = send_late
        await learning.join(range(8))
        await learning.share(range(8))
        await learning.commit_updates(range(8))

        # The first in order: who waited for them would look for no other.
        learning.upload([0, 1], at="m0")
        learning.upload(range(2, 8), at="m3")
        begun_s = world.time_s
        await world.until(
            lambda: (
                len([word for word in learning.found.attestations if word.holds(7)]) == len(MINERS)
            ),
            within_s=5.0,
            what="the updates that are easy to get",
        )
        await learning.leave("attest")

        assert world.time_s - begun_s < 40.0
        assert {member.status for member in learning.found.members} == {"included"}

    World(11, SETTINGS).run(scene)


def test_a_share_that_is_revealed_falsely_is_refused_and_the_others_are_enough():
    async def scene(world: World) -> None:
        world.start()
        learning = Learning(world, count=5)
        await learning.open()
        await learning.join(range(5))
        await learning.share(range(5))
        await learning.commit_updates(range(5))
        learning.upload(range(5))
        await learning.leave("attest")

        assert await learning.reveal_falsely(0) == "wrong_share"
        await learning.reveal(range(1, 5))
        await learning.leave("aggregate")

        found = learning.found
        assert found.phase == "finished"
        assert found.aggregate == expected(found, learning.learners)

    World(4, SETTINGS).run(scene)


def test_a_group_whose_dropped_member_has_shared_another_key_is_left_out_by_all():
    async def scene(world: World) -> None:
        world.start()
        learning = Learning(world, count=8)
        learning.learners[3].lies = True
        await learning.open(groups_min=1)

        await play(learning, range(8), lost=3, phase="commit")

        found = learning.found
        spoiled = member_of(found, learning.devices[3].id).group
        assert spoiled is not None
        assert found.phase == "finished"
        assert found.void == ()
        assert found.aggregate == expected(found, learning.learners, without=[spoiled])
        assert set(voters(world, learning).values()) == {found.aggregate}

    World(5, SETTINGS).run(scene)


def test_miners_abstain_where_too_few_groups_come_out():
    async def scene(world: World) -> None:
        world.start()
        learning = Learning(world, count=8)
        learning.learners[3].lies = True
        await learning.open(groups_min=2)

        await play(learning, range(8), lost=3, phase="commit")

        assert learning.found.phase == "failed"
        assert learning.found.reason == "no_aggregate"
        assert learning.found.votes == ()

    World(6, SETTINGS).run(scene)


@pytest.mark.attack("F9")
def test_an_update_beyond_the_clip_is_not_attested_in_the_audit_mode():
    async def scene(world: World) -> None:
        world.start()
        learning = Learning(world, count=5)
        learning.learners[1].factor = 100
        await learning.open(group_size=1, groups_min=3, rule="median", tolerated=1, clip=10_000)

        await learning.join(range(5))
        await learning.commit_updates(range(5))
        learning.upload(range(5))
        await learning.leave("attest")
        await learning.leave("aggregate")

        found = learning.found
        assert member_of(found, learning.devices[1].id).status == "withheld"
        assert found.phase == "finished"
        assert found.aggregate == expected(found, learning.learners)
        assert set(voters(world, learning).values()) == {found.aggregate}

    World(7, SETTINGS).run(scene)


@pytest.mark.attack("F6")
def test_a_miner_that_says_another_aggregate_is_overruled_and_named():
    async def scene(world: World) -> None:
        world.start()
        learning = Learning(world, count=4)
        await learning.open()
        bend(world, "m3", AGGREGATE, lambda body: replace(body, root=digest_of("a lie")))
        # One honest miner is late, so that the lie is on the chain before the others are enough.
        late = "m2"
        bend(world, late, AGGREGATE)
        await learning.join(range(4))
        await learning.share(range(4))
        await learning.commit_updates(range(4))
        learning.upload(range(4))
        await learning.leave("attest")
        await learning.reveal(range(4))
        await learning.leave("reveal")
        await world.until(
            lambda: len(learning.found.votes) == 3, within_s=5, what="three votes on the chain"
        )
        assert learning.found.phase == "aggregate"

        await world.crash(late)
        world.start(late)
        await learning.leave("aggregate")

        found = learning.found
        assert found.aggregate == expected(found, learning.learners)
        liar = world.identities["m3"].miner_id
        assert ("aggregate_overruled", learning.id.hex(), liar.hex()) in events(world)
        assert any(node == "m3" and "overruled" in event for node, event, _ in world.log)
        await held_by_all(world, found.aggregate)

    World(8, SETTINGS).run(scene)


def test_miners_whose_power_fails_in_any_phase_go_on_where_the_round_is():
    async def scene(world: World) -> None:
        async def again(name: str) -> None:
            await world.crash(name)
            world.start(name)

        world.start()
        learning = Learning(world, count=4)
        await learning.open()
        await again("m0")
        await learning.join(range(4))
        await again("m1")
        await learning.share(range(4))
        await again("m2")
        await learning.commit_updates(range(4))
        # Half of the blobs are here before one goes down, half come afterwards.
        await again("m3")
        await world.reach(0, within_s=30)
        learning.upload([0, 1], at="m1")
        await world.until(
            lambda: len(learning.found.attestations) == 4, within_s=8, what="first attestations"
        )
        await again("m2")
        learning.upload([2, 3], at="m1")
        await learning.leave("attest")
        await again("m0")
        await learning.reveal(range(4))
        await learning.leave("reveal")
        await again("m3")
        await learning.leave("aggregate")

        found = learning.found
        assert found.phase == "finished"
        assert found.aggregate == expected(found, learning.learners)
        assert {*voters(world, learning).values()} == {found.aggregate}
        await held_by_all(world, found.aggregate)

    World(9, SETTINGS).run(scene)
