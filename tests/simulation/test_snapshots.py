"""Nodes that join by snapshot: wiped miners and new observers, among liars and over crashes."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from chain.parameters import Parameters
from chain.state_range import STATE_PIECE, decode_piece
from chain.types import Digest, Height
from consensus.durable import Floor, encode_record
from node.protocol import (
    GET_DECIDED,
    GET_PAST,
    GET_PIECE,
    DecidedAnswer,
    PieceAnswer,
    Status,
    decode_body,
    encode_body,
)
from node.snapshot_service import SnapshotSettings
from node.state_sync import LATE_POINTS, LIE_POINTS, SyncSettings, Trusted
from tests.simulation.hostile import Hostile
from tests.simulation.tricks import say_nothing
from tests.simulation.workload import Workload
from tests.simulation.world import Settings, World

MINERS = ("m0", "m1", "m2", "m3")
EVERY_TEN = SnapshotSettings(interval_blocks=10, keep=2)
BY_SNAPSHOT = SyncSettings(mode="snapshot")
SHORT = Parameters(heartbeat_ms=5_000, transaction_lifetime_ms=5_000)
LOOKBACK_S = 12.0
"""More than rules look back at in these worlds."""


def play(scene: Callable[[World], Awaitable[None]], seed: int = 1, **settings) -> World:
    chosen: dict[str, Any] = {
        "snapshots": EVERY_TEN,
        "sync": BY_SNAPSHOT,
        "observers": 1,
        "parameters": SHORT,
    }
    return World(seed, Settings(**(chosen | settings))).run(scene)


@pytest.fixture(autouse=True)
def short_lookback(monkeypatch):
    """Let rules look back at few blocks, so that a snapshot leaves some out."""
    monkeypatch.setattr("chain.lookback.VERDICT_WINDOW", 5)
    monkeypatch.setattr("chain.lookback.RATE_SECONDS_MAX", 1)


@asynccontextmanager
async def under_load(world: World, *names: str):
    """Run nodes under load, on a chain whose first blocks no rule looks at any more."""
    if not world.up():
        world.start(*names)
    load = Workload(world)
    await load.prepare()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(load.run())
        await world.reach(12, *names, within_s=60)
        task.cancel()
    await asyncio.sleep(LOOKBACK_S)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(load.run())
        await world.reach(world.ledger.height + 20, *names, within_s=60)
        yield load
        task.cancel()


async def has_joined(world: World, name: str) -> None:
    """Wait until a node has the chain, and see that it has it from a snapshot."""
    await world.reach(world.ledger.height, name, within_s=40)
    assert world.hosts[name].restarts == 1
    assert world.node(name).chain.first_block() > 1


@pytest.mark.parametrize("seed", range(3))
def test_a_new_observer_joins_by_snapshot_and_follows(seed):
    async def scene(world):
        async with under_load(world, *MINERS):
            world.start("o0")
            await has_joined(world, "o0")
            await world.reach(world.ledger.height + 10, within_s=60)

    world = play(scene, seed)
    assert world.blames == []


@pytest.mark.attack("A14")
@pytest.mark.attack("B8")
@pytest.mark.parametrize("seed", range(3))
def test_a_wiped_miner_joins_by_snapshot_and_votes_again(seed):
    async def scene(world):
        async with under_load(world, *MINERS) as load:
            await world.kill("m2")
            world.hosts["m2"].wipe()
            world.start("m2")
            await has_joined(world, "m2")
            # It may sign two heights above the highest that it has been told of.
            await world.reach(world.ledger.height + 5, within_s=60)
            # Without m3, nothing is committed unless m2 votes.
            await world.kill("m3")
            await world.reach(world.ledger.height + 5, within_s=60)
            world.start("m3")
        await load.commit_at_each(within_s=30)

    assert play(scene, seed, observers=0).blames == []


@pytest.mark.parametrize("seed", range(3))
def test_power_that_fails_at_any_sync_while_a_node_joins_leaves_it_joining(seed):
    async def scene(world):
        async with under_load(world, *MINERS):
            host = world.hosts["o0"]
            for sync in range(1, 60):
                world.start("o0")
                host.disk.lose_power_at = host.disk.syncs + sync
                await world.until(
                    lambda: not host.is_up or host.restarts > 0, within_s=60, what="the crash"
                )
                if host.restarts:
                    break
            # It may have been the last moment: the new chain is opened as the old one was.
            host.disk.lose_power_at = host.disk.syncs + seed + 1
            await world.until(lambda: not host.is_up, within_s=60, what="the crash")
            host.disk.lose_power_at = None
            world.start("o0")
            await world.reach(world.ledger.height, "o0", within_s=60)
            assert world.node("o0").chain.first_block() > 1

    play(scene, seed)


async def rejoin(world, name):
    """Let a miner lose its disk and come back by snapshot."""
    await world.kill(name)
    world.hosts[name].wipe()
    world.hosts[name].restarts = 0
    world.start(name)
    await has_joined(world, name)
    # It may sign two heights above the highest that it has been told of.
    await world.reach(world.ledger.height + 5, within_s=60)


@pytest.mark.attack("A14")
def test_where_nobody_keeps_the_first_blocks_new_and_old_nodes_join_by_snapshot():
    auto = SyncSettings(mode="auto", beyond_blocks=10_000)

    async def scene(world):
        world.hosts["o0"].sync = world.hosts["o1"].sync = auto
        world.start("o0")
        async with under_load(world, *MINERS):
            await world.reach(world.ledger.height, "o0", within_s=60)
            await world.kill("o0")
            await asyncio.sleep(LOOKBACK_S)
            for name in MINERS:
                await rejoin(world, name)
            # One that starts from nothing, and one that is far behind.
            world.start("o0", "o1")
            await has_joined(world, "o0")
            await has_joined(world, "o1")
            # A wiped miner, too.
            await rejoin(world, "m0")

    play(scene, observers=2)


@pytest.mark.attack("A14")
def test_a_wiped_quorum_comes_back_from_one_survivor_by_a_signer_floor():
    async def scene(world):
        async with under_load(world, *MINERS) as load:
            pass
        await load.commit_at_each(within_s=30)
        # Quiet, so that nobody has signed anything above the last block.
        await world.until(
            lambda: len(set(world.heights().values())) == 1, within_s=30, what="the same height"
        )
        height = world.ledger.height
        for name in MINERS:
            await world.kill(name)
        assert world.ledger.height == height
        for name in MINERS[:3]:
            host = world.hosts[name]
            host.wipe()
            log = host.disk.open_log()
            log.append([encode_record(Floor(height=Height(height + 1)))])
            log.close()
        world.start(*MINERS)
        await world.reach(height + 5, *MINERS, within_s=60)
        await load.commit_at_each(within_s=30)

    play(scene, observers=0)


def test_a_node_that_is_told_to_takes_blocks_and_nothing_else():
    async def scene(world):
        world.hosts["o0"].sync = SyncSettings(mode="blocks")
        async with under_load(world, *MINERS):
            world.start("o0")
            await world.reach(world.ledger.height, "o0", within_s=40)
            assert world.hosts["o0"].restarts == 0
            assert world.node("o0").chain.first_block() == 0

    play(scene)


@pytest.mark.parametrize("is_right", [True, False])
def test_a_node_believes_the_block_that_its_operator_names(is_right):
    async def scene(world):
        async with under_load(world, *MINERS):
            known = world.ledger.blocks[14].block.header
            block_hash = known.hash if is_right else Digest(bytes(32))
            trusted = Trusted(height=known.height, hash=block_hash)
            world.hosts["o0"].sync = SyncSettings(mode="snapshot", trusted=trusted)
            world.start("o0")
            if is_right:
                await has_joined(world, "o0")
            else:
                world.astray.add("o0")
                await asyncio.sleep(20)
                assert world.hosts["o0"].restarts == 0

    world = play(scene)
    assert bool(world.blames) != is_right


# Liars


def honest(world, question):
    """Return what an honest miner would answer."""
    return world.node("m0")._answers._answer(question)


def changed(make):
    """Return a lie: the honest answer with something changed."""

    def lie(world, question):
        kind, payload = honest(world, question)
        body = make(world, decode_body(kind, payload))
        return None if body is None else (kind, encode_body(kind, body))

    return lie


def of_another(field, offset):
    """Return a lie: the answer to another question in the place of the one that was asked."""

    def lie(world, question):
        other = replace(question, height=Height(question.height + offset))
        kind, payload = honest(world, other)
        body = replace(decode_body(kind, payload), height=question.height)
        return kind, encode_body(kind, body)

    return lie


def flipped(data, at=-1):
    return data[:at] + bytes([data[at] ^ 1]) + data[len(data) + at + 1 :]


def other_state(world, body):
    piece = decode_piece(body.piece)
    entry = piece.entries[0]
    false = replace(piece, entries=(replace(entry, value=entry.value + b"x"), *piece.entries[1:]))
    return replace(body, piece=STATE_PIECE.encode(false))


def less_state(world, body):
    piece = decode_piece(body.piece)
    return replace(body, piece=STATE_PIECE.encode(replace(piece, entries=piece.entries[1:])))


def other_proof(world, body):
    piece = decode_piece(body.piece)
    return replace(body, piece=STATE_PIECE.encode(replace(piece, steps=(*piece.steps, b"b"))))


def every_past(**change):
    def make(world, body):
        blocks = tuple(
            replace(block, **{name: f(getattr(block, name)) for name, f in change.items()})
            for block in body.blocks
        )
        return replace(body, blocks=blocks)

    return changed(make)


def other_header(world, body):
    return replace(body, found=replace(body.found, header=flipped(body.found.header, -40)))


def other_certificate(world, body):
    return replace(body, found=replace(body.found, certificate=flipped(body.found.certificate)))


def silence(world, question):
    return None


def nothing(world, body):
    match body:
        case DecidedAnswer():
            return replace(body, found=None)
        case PieceAnswer():
            return replace(body, piece=b"")
        case _:
            return replace(body, blocks=())


LIES = {
    "decided: silence": (GET_DECIDED, silence),
    "decided: nothing": (GET_DECIDED, changed(nothing)),
    "decided: another header": (GET_DECIDED, changed(other_header)),
    "decided: another certificate": (GET_DECIDED, changed(other_certificate)),
    "decided: another height": (GET_DECIDED, of_another("found", -3)),
    "piece: silence": (GET_PIECE, silence),
    "piece: nothing": (GET_PIECE, changed(nothing)),
    "piece: noise": (GET_PIECE, changed(lambda world, body: replace(body, piece=b"\x90"))),
    "piece: another value": (GET_PIECE, changed(other_state)),
    "piece: an entry less": (GET_PIECE, changed(less_state)),
    "piece: another proof": (GET_PIECE, changed(other_proof)),
    "piece: another snapshot": (GET_PIECE, of_another("piece", -10)),
    "past: silence": (GET_PAST, silence),
    "past: nothing": (GET_PAST, changed(nothing)),
    "past: other heights": (GET_PAST, of_another("blocks", -1)),
    "past: other blocks": (GET_PAST, every_past(block=flipped)),
    "past: other receipts": (GET_PAST, every_past(receipts=flipped)),
    "past: other certificates": (GET_PAST, every_past(certificate=flipped)),
}


@pytest.mark.attack("D9")
@pytest.mark.attack("D8")
@pytest.mark.parametrize("name", LIES)
def test_whoever_lies_about_a_snapshot_is_blamed_and_holds_nobody_up(name, monkeypatch):
    kind, lie = LIES[name]
    # Short ranges and small pieces, so that everybody is asked for some.
    monkeypatch.setattr("node.state_sync.SYNC_BLOCKS_MAX", 3)
    monkeypatch.setattr("chain.state_range.PIECE_SIZE", 1_000)

    async def scene(world):
        liar = Hostile(world, "m1", say_nothing)
        liar.lies[kind] = lambda question: lie(world, question)
        async with asyncio.TaskGroup() as tasks:
            playing = tasks.create_task(liar.run())
            async with under_load(world, *HONEST):
                height = world.ledger.height
                snapshots = world.node("m0")._snapshots.heights
                if kind == GET_DECIDED:
                    # The highest is asked for first, of the liar.
                    snapshots = (*snapshots, height)
                liar.status = Status(height=Height(height), snapshots=snapshots)
                for other in GET_DECIDED, GET_PIECE, GET_PAST:
                    liar.lies.setdefault(other, lambda question: honest(world, question))
                # It has to hear both the liar and m0 before it decides.
                world.network.partition(["o0"], ["m2", "m3"])
                world.start("o0")
                await has_joined(world, "o0")
            playing.cancel()

    world = play(scene, hostile=("m1",))
    blames = [(peer, points) for node, peer, points, _ in world.blames if node == "o0"]
    is_lie = "silence" not in name and "nothing" not in name
    # Of what is small, the others may have sent all before the liar's time is up.
    if name != "piece: silence":
        assert ("m1", LIE_POINTS if is_lie else LATE_POINTS) in blames
    assert {peer for peer, _ in blames} <= {"m1"}


HONEST = ("m0", "m2", "m3")
