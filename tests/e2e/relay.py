"""Links between real nodes that a test can cut without any rights: relays of bytes.

Each node dials the others through relays of its own, which its configuration names instead of the
addresses in the registry. A link that is cut swallows everything and closes nothing, as a network
does.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from cli.testnet.network import LOCALHOST
from tests.e2e.network import LiveNetwork

CHUNK_BYTES = 64 * 1024


class Links:
    """All links of a network, by the numbers of the dialling and the dialled node."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self, *groups: Iterable[int]) -> None:
        """Let nothing pass between nodes of different groups."""
        group_of = {number: index for index, group in enumerate(groups) for number in group}
        for (source, target), passable in self._open.items():
            if group_of[source] != group_of[target]:
                passable.clear()

    def heal(self) -> None:
        """Let everything pass again, what was held back first."""
        for passable in self._open.values():
            passable.set()

    async def listen(self, source: int, target: int, port: int) -> asyncio.Server:
        """Serve the link from one node to the port of another."""
        passable = self._open[source, target] = asyncio.Event()
        passable.set()

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await passable.wait()
            try:
                far_reader, far_writer = await asyncio.open_connection(LOCALHOST, port)
            except OSError:
                writer.close()
                return
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pump(reader, far_writer, passable))
                    group.create_task(_pump(far_reader, writer, passable))
            except* OSError:
                pass  # one end is gone, and so the other goes
            finally:
                writer.close()
                far_writer.close()

        return await asyncio.start_server(relay, LOCALHOST, 0)

    async def close(self) -> None:
        """End what is still being relayed."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def linked(network: LiveNetwork) -> AsyncIterator[Links]:
    """Put relays between nodes that do not run yet."""
    links = Links()
    keys = {miner.port: miner.node_key.hex() for miner in network.genesis.miners}
    ports = [node.p2p_port for node in network.layout.nodes]
    async with AsyncExitStack() as stack:
        stack.push_async_callback(links.close)
        for source in range(network.size):
            peers = []
            for target in range(network.size):
                if source != target:
                    server = await links.listen(source, target, ports[target])
                    stack.callback(server.close)
                    port = _port_of(server.sockets[0])
                    peers.append(
                        f'[[p2p.peers]]\nnode_key = "{keys[ports[target]]}"\n'
                        f'host = "{LOCALHOST}"\nport = {port}\n'
                    )
            with (network.home(source) / "config.toml").open("a") as config:
                config.write("\n" + "\n".join(peers))
        yield links


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passable: asyncio.Event
) -> None:
    while data := await reader.read(CHUNK_BYTES):
        await passable.wait()
        writer.write(data)
        await writer.drain()
    raise ConnectionResetError("one end has closed")


def _port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port
