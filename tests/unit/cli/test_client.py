"""The client of the RPC: what it makes of answers, refusals and silence."""

import asyncio
import socket

import pytest
from aiohttp import web

from chain.crypto import signing_key
from chain.types import Address
from cli.client import Client, connect
from cli.demo.attack import reading
from cli.errors import BadInput, Refused, TimedOut, Unreachable
from cli.signing import Sender, device_sender, submit
from tests.unit.cli.fake_node import FakeNode, problem

SENSOR = signing_key("ed25519", b"s" * 32)


@pytest.fixture
async def client(node: FakeNode):
    async with connect(node.url, attempts=3) as client:
        yield client


@pytest.fixture
def sensor(node: FakeNode) -> Sender:
    node.register(SENSOR)
    return device_sender(node.chain.genesis, SENSOR, organisation="acme")


async def test_genesis_is_read_and_has_the_chains_hash(node: FakeNode, client: Client):
    assert (await client.genesis()).hash == node.chain.genesis.hash


async def test_a_submitted_transaction_is_waited_for(client: Client, sensor: Sender):
    transaction = sensor.sign("device.data", reading(215))

    answer = await submit(client, transaction, wait=True)

    assert answer["status"] == "committed"
    assert answer["id"] == transaction.id.hex()


async def test_a_batch_has_one_result_for_each_in_order(client: Client, sensor: Sender):
    good = sensor.sign("device.data", reading(1))
    stranger = Sender(
        genesis_hash=sensor.genesis_hash, address=Address(bytes(32)), key=sensor.key
    ).sign("device.data", reading(2))

    first, second, third = await client.submit_batch([good.wire, stranger.wire, good.wire])

    assert (first.id, first.refusal) == (good.id.hex(), None)
    assert second.refusal is not None
    assert second.refusal.code == "unknown_device"
    assert third.refusal is not None
    assert third.refusal.code == "duplicate"


async def test_a_problem_becomes_a_refusal_with_its_code(client: Client):
    with pytest.raises(Refused) as refused:
        await client.device("00" * 32)

    assert (refused.value.status, refused.value.code) == (404, "not_found")


async def test_a_busy_node_is_asked_again_as_often_as_was_allowed(node: FakeNode, client: Client):
    busy = [problem(503, "busy", "later", **{"Retry-After": "0"}) for _ in range(2)]
    node.overrides["/v1/status"] = busy

    assert (await client.status())["height"] == 0

    node.overrides["/v1/status"] = [problem(503, "busy", "later", **{"Retry-After": "0"})]
    with pytest.raises(Refused):
        async with connect(node.url, attempts=1) as impatient:
            await impatient.status()


async def test_a_refusal_that_is_final_is_not_asked_again(node: FakeNode, client: Client):
    node.overrides["/v1/status"] = [problem(422, "expired", "too old") for _ in range(2)]

    with pytest.raises(Refused):
        await client.status()

    assert node.requests.count("GET /v1/status") == 1


async def test_nobody_listening_is_unreachable():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Unreachable, match="Connection refused"):
            async with connect(url) as client:
                await client.status()


@pytest.mark.parametrize(
    "response",
    [
        web.Response(text="<html>"),
        web.json_response([]),
        web.Response(text="[1"),
        web.Response(text="[" * 100_000),
    ],
    ids=["text", "list", "half", "deep"],
)
async def test_an_answer_that_is_no_json_object_is_no_node(node, client, response):
    node.overrides["/v1/status"] = [response]

    with pytest.raises(Unreachable):
        await client.status()


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:26757", "ftp://x", "http://", "nonsense", "http://[::1", "http://x:99999"],
)
async def test_an_address_that_is_none_is_told(url):
    with pytest.raises(BadInput, match="no address"):
        async with connect(url) as client:
            await client.status()


async def test_blocks_are_followed_from_the_past_into_the_future(
    node: FakeNode, client: Client, sensor: Sender
):
    node.chain.commit([sensor.sign("device.data", reading(1))])
    heights = []

    async with asyncio.timeout(5):
        async for block in client.follow_blocks(1):
            heights.append(block["header"]["height"])
            if len(heights) == 2:
                await client.submit(sensor.sign("device.data", reading(2)).wire)
            if len(heights) == 3:
                break

    assert heights == [1, 2, 3]


async def test_pages_are_followed_up_to_the_limit(node: FakeNode, client: Client):
    for number in range(5):
        node.register(signing_key("ed25519", bytes([number]) * 32), name=f"d{number}")

    assert len(await client.pages("/v1/devices", limit=1000)) == 5
    assert len(await client.pages("/v1/devices", limit=3)) == 3


async def test_waiting_for_a_transaction_nobody_sent_ends_in_time(client: Client):
    with pytest.raises(TimedOut, match="unknown"):
        await client.wait_committed("ab" * 32, timeout_s=0.05)


async def test_a_transaction_that_was_rejected_is_told_with_its_code(node, client):
    answer = {"id": "ab" * 32, "status": "rejected", "code": "rate_limited", "detail": "too many"}
    node.overrides[f"/v1/transactions/{'ab' * 32}"] = [web.json_response(answer)]

    with pytest.raises(Refused) as refused:
        await client.wait_committed("ab" * 32, timeout_s=1)

    assert refused.value.code == "rate_limited"


async def test_a_transaction_that_nobody_committed_in_time_is_told_so(node, client):
    answer = {"id": "ab" * 32, "status": "expired", "code": None, "detail": None}
    node.overrides[f"/v1/transactions/{'ab' * 32}"] = [web.json_response(answer)]

    with pytest.raises(Refused, match="expired: it was not committed") as refused:
        await client.wait_committed("ab" * 32, timeout_s=1)

    assert "securenet consensus why" in refused.value.advice


async def test_readiness_is_what_the_node_says(node: FakeNode, client: Client):
    assert await client.is_ready(min_peers=3)
    node.ready = False
    async with connect(node.url) as impatient:
        assert not await impatient.is_ready()
