"""Watching commits and posting batches, against the fake node."""

import asyncio
from contextlib import suppress

import pytest
from aiohttp import web

from chain.crypto import signing_key
from cli.client import connect
from cli.demo.attack import reading
from cli.errors import TimedOut, Unreachable
from cli.load import post as post_module
from cli.load.fleet import make_device, register, wait_height
from cli.load.post import Post
from cli.load.steady import steady_load
from cli.load.watch import CommitWatch, percentile
from cli.progress import Progress
from cli.signing import registrar_sender
from tests.unit.cli.fake_node import REGISTRAR, problem


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([], 50, 0.0),
        ([7.0], 99, 7.0),
        ([3.0, 1.0, 2.0], 50, 2.0),
        ([1.0, 2.0], 50, 1.0),
        (list(map(float, range(1, 101))), 99, 99.0),
    ],
)
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(values, percent, expected):
    assert percentile(values, percent) == expected


@pytest.fixture
async def client(node):
    async with connect(node.url) as client:
        yield client


@pytest.fixture
async def watch(client):
    watch = CommitWatch(client)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watch.run(1))
        yield watch
        task.cancel()


@pytest.fixture
def fleet(node):
    genesis = node.chain.genesis
    registrar = registrar_sender(genesis, REGISTRAR, None)
    return registrar, {f"d{n}": make_device(genesis, registrar) for n in range(3)}


async def test_a_fleet_is_registered_and_its_commits_are_seen(node, client, watch, fleet):
    registrar, devices = fleet

    assert await register(client, watch, registrar, devices) == 3

    assert len(watch.commits) == 3
    assert watch.outstanding() == []
    assert {commit.height for commit in watch.commits.values()} == {1, 2, 3}
    assert all(commit.latency_ms > 0 for commit in watch.commits.values())


async def test_refusals_are_counted_by_code_and_not_awaited(client, watch, fleet):
    _, devices = fleet
    stranger = devices["d0"].sign("device.data", reading(1))
    post = Post(watch)

    await post.send(client, [stranger.wire], [stranger.id.hex()])

    assert dict(post.refused) == {"unknown_device": 1}
    assert post.refusals == {stranger.id.hex(): "unknown_device"}
    assert watch.outstanding() == []


async def test_what_a_full_pool_refuses_is_offered_again(node, client, watch, fleet):
    registrar, devices = fleet
    await register(client, watch, registrar, devices)
    transaction = devices["d0"].sign("device.data", reading(1))
    id = transaction.id.hex()
    full = {"id": id, "status": "rejected", "error": {"status": 503, "code": "mempool_full"}}
    node.overrides["/v1/transactions/batch"] = [
        problem(503, "busy", "later", **{"Retry-After": "0"}),
        web.json_response({"results": [full]}),
    ]
    post = Post(watch)

    await post.send(client, [transaction.wire], [id])

    assert await watch.settled([id], timeout_s=5)
    assert post.sent == 1
    assert not post.refused


async def test_a_batch_whose_answer_is_lost_is_offered_again(client, watch, fleet, monkeypatch):
    registrar, devices = fleet
    await register(client, watch, registrar, devices)
    transaction = devices["d0"].sign("device.data", reading(1))
    id = transaction.id.hex()
    submit = client.submit_batch
    answers = []

    async def lossy(wires):
        answers.append(await submit(wires))
        if len(answers) == 1:
            raise Unreachable("the connection broke", "try again")
        return answers[-1]

    monkeypatch.setattr(client, "submit_batch", lossy)
    post = Post(watch)

    await post.send(client, [transaction.wire], [id])

    assert len(answers) == 2
    assert await watch.settled([id], timeout_s=5)
    assert not post.refused


async def test_a_pool_that_stays_full_is_given_up(node, client, watch, fleet, monkeypatch):
    monkeypatch.setattr(post_module, "TRIES_MAX", 2)
    monkeypatch.setattr(post_module, "PAUSE_S_MAX", 0.0)
    node.overrides["/v1/transactions/batch"] = [
        problem(503, "busy", "later", **{"Retry-After": "0"}) for _ in range(9)
    ]
    _, devices = fleet
    transaction = devices["d0"].sign("device.data", reading(1))

    with pytest.raises(TimedOut):
        await Post(watch).send(client, [transaction.wire], [transaction.id.hex()])


async def test_room_is_kept_for_so_many_under_way(watch):
    watch.note_sent(["a", "b"])
    await watch.room(3)

    with suppress(TimeoutError):
        async with asyncio.timeout(0.3):
            await watch.room(2)
            pytest.fail("there is no room")
    watch.note_refused("a")

    await watch.room(2)


async def test_settling_ends_in_time(watch):
    watch.note_sent(["a"])

    assert not await watch.settled(["a"], timeout_s=0.01)
    assert await watch.settled(["b"], timeout_s=0.01)


async def test_a_height_that_does_not_come_ends_in_time(client):
    with pytest.raises(TimedOut):
        await wait_height([client], 5, timeout_s=0.1)


async def test_a_steady_load_commits(node):
    figures = await steady_load(
        [node.url], REGISTRAR, rate=50, seconds=1, devices=2, progress=Progress()
    )

    assert figures["submitted"] == figures["committed"] == 50
    assert figures["refused"] == {}
    assert figures["lost"] == 0


def test_equal_seeds_make_equal_devices(fleet, node):
    registrar, _ = fleet
    genesis = node.chain.genesis
    device = make_device(genesis, registrar, b"s" * 32)

    assert device == make_device(genesis, registrar, b"s" * 32) or (
        device.address == make_device(genesis, registrar, b"s" * 32).address
    )
    assert device.key.public == signing_key("ed25519", b"s" * 32).public
