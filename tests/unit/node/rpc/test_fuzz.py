"""Whatever is sent, the answer is never a fault of the node."""

import asyncio
import json
from contextlib import contextmanager
from urllib.parse import quote

import msgpack
import pytest
from aiohttp import WSMsgType
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import example, given, settings
from hypothesis import strategies as st

from node.rpc import RpcLimits, create_app
from node.rpc.bodies import render_transaction
from node.rpc.routes import ROUTES
from tests.unit.node.rpc.chain_node import FLOW, ChainNode

EXAMPLES = settings(max_examples=100)
LIMITS = RpcLimits(commit_wait_ms=1, slow_consumer_ms=2_000)


class World:
    """One node and a client, for all examples of a test."""

    def __init__(self, runner, node, client):
        self.run = runner.run
        self.node = node
        self.client = client

    async def post(self, path, body, media):
        headers = {"Content-Type": f"application/{media}"}
        answer = await self.client.post(path, data=body, headers=headers)
        return answer.status, await answer.read()

    async def get(self, path):
        answer = await self.client.get(path)
        return answer.status, await answer.read()


@contextmanager
def world():
    with asyncio.Runner() as runner:

        async def start():
            node = ChainNode()
            await node.register()
            server = TestServer(create_app(node, limits=LIMITS))
            await server.start_server(auto_decompress=False)
            client = TestClient(server)
            await client.start_server()
            return World(runner, node, client)

        made = runner.run(start())
        try:
            yield made
        finally:
            runner.run(made.client.close())


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=40).map(bytes.hex),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=10,
)
PATHS = st.sampled_from(
    ["/v1/transactions", "/v1/transactions?wait=commit", "/v1/transactions/batch"]
)


def is_answer(status, body):
    return status < 500 and (status < 400 or json.loads(body)["code"])


@pytest.mark.attack("D6")
def test_any_bytes_are_answered():
    with world() as here:

        @EXAMPLES
        @given(PATHS, st.binary(max_size=300), st.sampled_from(["msgpack", "json"]))
        def check(path, body, media):
            assert is_answer(*here.run(here.post(path, body, media)))

        check()


def test_any_messagepack_is_answered():
    with world() as here:
        values = st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**63), 2**64 - 1)
            | st.floats()
            | st.binary(max_size=80)
            | st.text(max_size=10),
            lambda inner: st.lists(inner, max_size=5),
            max_leaves=12,
        )

        @EXAMPLES
        @given(PATHS, values)
        def check(path, value):
            assert is_answer(*here.run(here.post(path, msgpack.packb(value), "msgpack")))

        check()


def test_a_transaction_with_a_flipped_byte_is_answered():
    with world() as here:
        wire = here.node.report(0, FLOW).wire

        @EXAMPLES
        @given(st.integers(0, len(wire) - 1), st.integers(1, 255))
        def check(index, flip):
            changed = wire[:index] + bytes([wire[index] ^ flip]) + wire[index + 1 :]
            status, body = here.run(here.post("/v1/transactions", changed, "msgpack"))
            assert 400 <= status < 500
            assert json.loads(body)["code"]

        check()


@pytest.mark.parametrize("field", ["body", "kind", "sender", "time_ms", "nonce", "signature"])
def test_a_json_form_with_anything_in_a_field_is_answered(field):
    with world() as here:
        form = render_transaction(here.node.report(0, FLOW))

        @settings(max_examples=60)
        @given(JSON_VALUES)
        def check(value):
            body = json.dumps({**form, field: value})
            assert is_answer(*here.run(here.post("/v1/transactions", body, "json")))

        check()


@pytest.mark.attack("D17")
def test_any_json_is_answered():
    with world() as here:

        @EXAMPLES
        @given(PATHS, JSON_VALUES)
        def check(path, value):
            assert is_answer(*here.run(here.post(path, json.dumps(value), "json")))

        check()


@pytest.mark.attack("D17")
def test_any_path_and_query_are_answered():
    text = (
        st.text(max_size=70)
        | st.integers(-(2**70), 2**70).map(str)
        | st.binary(min_size=32, max_size=32).map(bytes.hex)
    )
    routes = st.sampled_from([r for r in ROUTES if r.method == "GET" and r.path != "/health/ready"])
    names = st.sampled_from(["cursor", "limit", "status", "order", "organisation", "x"])
    with world() as here:

        @settings(max_examples=250)
        @given(routes, text, st.dictionaries(names, text, max_size=2))
        @example(ROUTES[2], "", {"cursor": "1" * 5_000})
        def check(route, name, query):
            path = route.path
            for part in ("{id}", "{block}", "{name}"):
                path = path.replace(part, quote(name, safe="", errors="replace"))
            asked = "&".join(
                f"{key}={quote(value, errors='replace')}" for key, value in query.items()
            )
            assert is_answer(*here.run(here.get(f"{path}?{asked}")))

        check()


def test_any_subscription_is_answered():
    fields = st.fixed_dictionaries(
        {},
        optional={
            "subscribe": JSON_VALUES
            | st.lists(st.sampled_from(["block", "event", "x"]), max_size=5),
            "from": JSON_VALUES | st.sampled_from(["0:0", "1:3", "9:9", ":", "-1:0"]),
        },
    )
    with world() as here:

        async def subscribe(message):
            async with here.client.ws_connect("/v1/events") as socket:
                await socket.send_str(message)
                first = await socket.receive(timeout=5)
                if first.type is WSMsgType.CLOSE:
                    return first.data
                document = json.loads(first.data)
                return "error" not in document or document["error"]["code"]

        @settings(max_examples=60)
        @given(st.text(max_size=30) | fields.map(json.dumps))
        def check(message):
            assert here.run(subscribe(message)) not in ("internal", 1011)

        check()
