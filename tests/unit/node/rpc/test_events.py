"""The event stream over WebSockets."""

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType

from chain.blocks import BlockReceipt, Event
from chain.crypto import address_of
from chain.eligibility import eligible_miners, proposer_of
from chain.state import miner_sets_of
from chain.types import Height, Round
from node.errors import DamagedEntry, Pruned
from node.rpc import render
from node.rpc.limits import SUBSCRIBE_SIZE_MAX
from tests.unit.node.rpc.chain_node import FLOW, MINERS

PATH = "/v1/events"
ALL = ["block", "transaction", "verdict", "event"]


@asynccontextmanager
async def stream(client, types=ALL, **other):
    async with client.ws_connect(PATH) as socket:
        await socket.send_json({"subscribe": types, **other})
        yield socket


async def receive(socket, count):
    async with asyncio.timeout(5):
        return [await socket.receive_json() for _ in range(count)]


async def receive_end(socket):
    """Return the last message, the close code and its reason."""
    async with asyncio.timeout(5):
        last = None
        while (message := await socket.receive()).type is WSMsgType.TEXT:
            last = json.loads(message.data)
    assert message.type is WSMsgType.CLOSE
    return last, message.data, message.extra


async def test_a_subscription_begins_behind_the_last_block(client, node):
    async with stream(client, ["block"]) as socket:
        [welcome] = await receive(socket, 1)
        await node.mine(node.report())
        [event] = await receive(socket, 1)

    assert welcome == {"subscribed": ["block"], "cursor": "1:4"}
    assert (event["type"], event["cursor"]) == ("block", "2:0")
    assert event["data"]["header"]["hash"] == node.chain.tip.header.hash.hex()
    assert event["data"]["transaction_count"] == 1


async def test_everything_comes_in_the_order_of_the_chain(client, node):
    await node.mine(node.report(0))

    async with stream(client, ["block", "transaction"], **{"from": "0:0"}) as socket:
        events = (await receive(socket, 7))[1:]

    assert [(event["type"], event["cursor"]) for event in events] == [
        ("block", "1:0"),
        ("transaction", "1:1"),
        ("transaction", "1:2"),
        ("transaction", "1:3"),
        ("block", "2:0"),
        ("transaction", "2:1"),
    ]
    assert events[1]["data"]["id"] == node.chain.block(1).transactions[0].id.hex()
    assert events[1]["data"]["kind"] == "device.register"


@pytest.mark.parametrize("cut", range(1, 11))
async def test_a_stream_that_breaks_anywhere_goes_on_without_a_gap(client, node, cut):
    await node.mine(node.report(0, FLOW), node.report(1, FLOW))
    await node.mine(*(node.verdict(2, (0, 999_999), miner=miner) for miner in range(3)))
    expected = await everything(client)

    async with stream(client, **{"from": "0:0"}) as socket:
        before = (await receive(socket, cut + 1))[1:]
    after = await everything(client, before[-1]["cursor"])

    seen = [event["data"] for event in before]
    assert [event["data"] for event in expected] == seen + [
        event["data"] for event in after if event["data"] not in seen
    ]


async def everything(client, cursor="0:0"):
    """Return all events behind `cursor` up to the last block's last transaction."""
    async with stream(client, **{"from": cursor}) as socket:
        await receive(socket, 1)
        events: list[Any] = []
        while not events or events[-1]["cursor"] != "3:3":
            events += await receive(socket, 1)
        return events


async def test_verdicts_and_what_they_bring_about_are_events(client, node):
    await node.mine(node.report(0, FLOW))
    await node.mine(*(node.verdict(2, (999_999,), miner=miner) for miner in range(3)))

    async with stream(client, ["verdict", "event"], **{"from": "2:1"}) as socket:
        events = (await receive(socket, 5))[1:]

    assert [event["type"] for event in events] == ["verdict", "verdict", "verdict", "event"]
    assert events[0]["data"]["scores_ppm"] == [999_999]
    assert events[0]["data"]["threshold_ppm"] == 500_000
    assert events[0]["data"]["miner"] == address_of(MINERS[0].public).hex()
    assert events[3]["data"]["name"] == "block_judged"
    assert events[3]["data"]["values"][:3] == ["2", "1", "1"]
    # The verdict and the event are of one transaction: only the last carries its position.
    assert [event["cursor"] for event in events] == ["3:1", "3:2", "3:2", "3:3"]


async def test_what_the_end_of_a_block_brings_about_is_an_event_of_no_transaction(client, node):
    state, height = node.chain.state, Height(2)
    eligible = eligible_miners(state, miner_sets_of(state)[0], height)
    blamed = proposer_of(eligible, height, Round(0))
    await node.mine(node.report(0), node.report(1), round=1)

    async with stream(client, ["transaction", "event"], **{"from": "2:1"}) as socket:
        events = (await receive(socket, 3))[1:]
    async with stream(client, ["event"], **{"from": "2:3"}) as socket:
        await receive(socket, 1)
        await node.mine(node.report(2), round=1)
        [later] = await receive(socket, 1)

    assert [(event["type"], event["cursor"]) for event in events] == [
        ("transaction", "2:2"),
        ("event", "2:3"),
    ]
    assert events[1]["data"] == {
        "name": "miner_passed_over",
        "values": [blamed.hex(), "11"],
        "transaction_id": None,
        "height": 2,
        "index": None,
    }
    assert later["data"]["height"] == 3, "what was seen does not come again"


async def test_several_events_of_a_blocks_end_are_not_cut_apart(client, node):
    # Were a cursor between them to name the end, whoever resumes there would miss the second.
    node.chain.block_receipt = lambda height: BlockReceipt(
        events=(Event(name="first", values=()), Event(name="second", values=()))
    )

    async with stream(client, ["event"], **{"from": "1:3"}) as socket:
        events = (await receive(socket, 3))[1:]

    assert [(event["data"]["name"], event["cursor"]) for event in events] == [
        ("first", "1:3"),
        ("second", "1:4"),
    ]


async def test_whoever_follows_blocks_alone_has_no_transaction_decoded(client, node, monkeypatch):
    def fail(*_):
        raise AssertionError("nothing of it is asked for")

    for name in ("block", "receipts", "block_receipt", "verdict_transactions"):
        monkeypatch.setattr(node.chain, name, fail)

    async with stream(client, ["block"], **{"from": "0:0"}) as socket:
        events = await receive(socket, 2)

    assert events[1]["data"]["transaction_count"] == 3


async def test_many_subscribers_share_what_is_rendered(client, node, monkeypatch):
    calls = []
    original = render.transaction

    def counted(*of):
        calls.append(of)
        return original(*of)

    monkeypatch.setattr(render, "transaction", counted)

    async with stream(client) as a, stream(client) as b, stream(client) as c:
        for socket in (a, b, c):
            await receive(socket, 1)
        calls.clear()
        await node.mine(node.report())
        received = [await receive(socket, 2) for socket in (a, b, c)]

    assert received[0] == received[1] == received[2]
    assert len(calls) == 1


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "[]",
        "1",
        "{}",
        '{"subscribe": []}',
        '{"subscribe": ["poem"]}',
        '{"subscribe": "block"}',
        '{"subscribe": ["block"], "from": 1}',
        '{"subscribe": ["block"], "from": "1"}',
        '{"subscribe": ["block"], "from": "-1:0"}',
        '{"subscribe": ["block"], "from": "1:99999999999"}',
        '{"subscribe": ["block"], "more": 1}',
        '{"subscribe": ["\\ud800"]}',
        "[" * 4_000,
    ],
)
async def test_a_first_message_out_of_form_ends_the_stream(client, message):
    async with client.ws_connect(PATH) as socket:
        await socket.send_str(message)
        last, code, _ = await receive_end(socket)

    assert last["error"]["code"] == "malformed"
    assert code == 1008


async def test_a_binary_first_message_ends_the_stream(client):
    async with client.ws_connect(PATH) as socket:
        await socket.send_bytes(b'{"subscribe": ["block"]}')
        last, code, _ = await receive_end(socket)

    assert (last["error"]["code"], code) == ("malformed", 1008)


async def test_a_first_message_too_large_ends_the_stream(client):
    async with client.ws_connect(PATH) as socket:
        await socket.send_str("x" * (SUBSCRIBE_SIZE_MAX + 1))
        message = await socket.receive(timeout=5)

    assert (message.type, message.data) == (WSMsgType.CLOSE, 1009)


async def test_a_second_message_ends_the_stream_with_the_last_cursor(client):
    async with stream(client, ["block"], **{"from": "0:0"}) as socket:
        await receive(socket, 2)
        await socket.send_json({"subscribe": ["verdict"]})
        last, code, reason = await receive_end(socket)

    assert (last["error"]["code"], code) == ("malformed", 1008)
    assert last["cursor"] == "1:4"
    assert reason == "malformed 1:4"


async def test_a_cursor_ahead_of_the_chain_is_refused(client):
    async with stream(client, **{"from": "2:0"}) as socket:
        last, code, _ = await receive_end(socket)

    assert (last["error"]["code"], code) == ("ahead", 4004)


async def test_a_cursor_behind_the_end_of_a_block_goes_on_with_the_next(client, node):
    async with stream(client, ["block"], **{"from": "1:4294967295"}) as socket:
        await receive(socket, 1)
        await node.mine(node.report())
        [event] = await receive(socket, 1)

    assert event["cursor"] == "2:0"


def forget(chain, gone, monkeypatch):
    for name in ("block", "wires"):
        read = getattr(chain, name)

        def answer(height, read=read):
            if height == gone:
                raise Pruned(f"body of block {gone}", first=gone + 1)
            return read(height)

        monkeypatch.setattr(chain, name, answer)


@pytest.mark.parametrize("type_", ALL)
async def test_a_block_that_is_gone_ends_the_stream_and_is_not_skipped(
    client, node, monkeypatch, type_
):
    await node.mine(node.report(0))
    await node.mine(node.report(1))
    forget(node.chain, 2, monkeypatch)

    async with stream(client, [type_], **{"from": "0:0"}) as socket:
        last, code, reason = await receive_end(socket)

    assert (last["error"]["code"], code) == ("pruned", 4010)
    assert reason == "pruned 1:4"


async def test_a_fault_of_the_node_ends_the_stream_and_shows_nothing(client, node, monkeypatch):
    def fail(height):
        raise ZeroDivisionError("secret words")

    monkeypatch.setattr(node.chain, "receipts", fail)

    async with stream(client, ["event"], **{"from": "0:0"}) as socket:
        last, code, _ = await receive_end(socket)

    assert (last["error"]["code"], code) == ("internal", 1011)
    assert "secret" not in json.dumps(last)


async def test_a_damaged_block_ends_the_stream_and_is_named(client, node, monkeypatch):
    def fail(height):
        raise DamagedEntry(Path("x"), entry=f"receipts of block {height}", key=b"r", cause="torn")

    monkeypatch.setattr(node.chain, "receipts", fail)

    async with stream(client, ["event"], **{"from": "0:0"}) as socket:
        last, code, _ = await receive_end(socket)

    assert (last["error"]["code"], code) == ("damaged", 1011)
    assert "receipts of block" in last["error"]["detail"]
    assert "securenet_storage_damaged_total 1.0" in node.metrics.render().decode()


async def test_a_plain_request_is_told_that_it_is_a_websocket(client):
    answer = await client.get(PATH)

    assert (answer.status, (await answer.json())["code"]) == (400, "malformed")


async def test_a_page_of_another_origin_gets_no_stream(client):
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Origin": "http://evil.example"}

    answer = await client.get(PATH, headers=headers)

    assert (answer.status, (await answer.json())["code"]) == (403, "forbidden_origin")


async def test_a_page_of_this_node_gets_a_stream(client):
    origin = str(client.make_url("/")).rstrip("/")

    async with client.ws_connect(PATH, origin=origin) as socket:
        await socket.send_json({"subscribe": ["block"]})
        [welcome] = await receive(socket, 1)

    assert welcome["subscribed"] == ["block"]
