"""A node with registered devices and a client of its RPC."""

import pytest
from aiohttp.test_utils import TestClient, TestServer

from node.rpc import RpcLimits, create_app
from tests.unit.node.rpc.chain_node import ChainNode


@pytest.fixture
async def node():
    node = ChainNode()
    await node.register()
    return node


@pytest.fixture
def limits():
    return RpcLimits(commit_wait_ms=200, body_timeout_ms=2_000)


@pytest.fixture
async def client(node, limits):
    server = TestServer(create_app(node, limits=limits))
    await server.start_server(auto_decompress=False)
    async with TestClient(server) as client:
        yield client
