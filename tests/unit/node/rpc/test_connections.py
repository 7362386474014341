"""How many connections clients have, and how many of them one machine."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from node.rpc.connections import Connections
from node.rpc.limits import RpcLimits
from node.rpc.metrics import RpcMetrics

CROWD, OTHER = "192.0.2.1", "192.0.2.2"


class Line(asyncio.Transport):
    """The node's end of a connection from an address; real ones all come from this machine."""

    def __init__(self, host):
        super().__init__({"peername": (host, 50_000)})
        self.sent = b""
        self.is_open = True

    def write(self, data):
        self.sent += data

    def close(self):
        self.is_open = False

    def abort(self):
        self.is_open = False


@pytest.fixture
async def connections():
    async with asyncio.TaskGroup() as group:
        yield Connections(
            asyncio.Protocol,
            RpcLimits(connections_max=10),
            RpcMetrics(CollectorRegistry()),
            group=group,
        )


def connect(connections, host, *, count=1, is_busy=True):
    """Return both ends of so many connections; a busy one has sent the headers of a request."""
    found = []
    for _ in range(count):
        guard, line = connections(), Line(host)
        guard.connection_made(line)
        if line.is_open and is_busy:
            guard.begin()
        found.append((guard, line))
    return found


@pytest.mark.attack("D10")
async def test_slow_bodies_of_one_machine_keep_no_other_out(connections):
    lines = [line for _, line in connect(connections, CROWD, count=20)]
    [(_, other)] = connect(connections, OTHER)

    assert [line.is_open for line in lines] == [True] * 5 + [False] * 15
    assert lines[5].sent.startswith(b"HTTP/1.1 503")
    assert other.is_open


async def test_one_machine_has_its_half_again_once_it_has_hung_up(connections):
    [(guard, _), *_] = connect(connections, CROWD, count=5)

    guard.connection_lost(None)
    [(_, line), (_, beyond)] = connect(connections, CROWD, count=2)

    assert line.is_open
    assert not beyond.is_open


async def test_at_its_half_an_idle_one_of_the_same_machine_gives_way(connections):
    [(_, other)] = connect(connections, OTHER, is_busy=False)
    [(_, idle)] = connect(connections, CROWD, is_busy=False)
    connect(connections, CROWD, count=4)

    [(_, newcomer)] = connect(connections, CROWD)

    assert newcomer.is_open
    assert not idle.is_open
    assert other.is_open


@pytest.mark.parametrize("network", ["2001:db8:0:1::", "::ffff:192.0.2."])
async def test_addresses_of_one_site_count_as_one_and_those_of_ipv4_by_themselves(
    connections, network
):
    lines = [connect(connections, f"{network}{number}")[0][1] for number in range(1, 9)]

    assert sum(line.is_open for line in lines) == (5 if "db8" in network else 8)


async def test_a_proxy_on_this_machine_may_have_them_all(connections):
    lines = [line for _, line in connect(connections, "127.0.0.1", count=11)]

    assert [line.is_open for line in lines] == [True] * 10 + [False]
