"""Miners come, go, get other keys and move, while real processes go on committing."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cli.exit_codes import ExitCode
from cli.processes import python_command
from tests.e2e.network import (
    PATIENCE_S,
    POLL_S,
    LiveNetwork,
    commit,
    live_network,
    patience,
    reading,
)

JOINER = 4
PAUSE_MAX_S = PATIENCE_S / 2
"""No commit takes longer, whatever happens to the miners meanwhile."""


class Operators:
    """The miners' operators, who use the command line alone."""

    def __init__(self, network: LiveNetwork, directory: Path) -> None:
        self._network = network
        self._directory = directory
        self._rpc = network.layout.nodes[0].rpc

    def key(self, number: int, name: str = "miner.json") -> str:
        return str(self._network.home(number) / "keys" / name)

    async def run(self, *words: str, rpc: str | None = None) -> Any:
        """Run a command, and again where a node is not so far yet; return the JSON it prints."""
        command = python_command("cli", *words, "--rpc", rpc or self._rpc, "--json")
        async with patience(" ".join(words)):
            while True:
                ended = await asyncio.to_thread(
                    subprocess.run, command, capture_output=True, text=True, timeout=PATIENCE_S
                )
                if ended.returncode != ExitCode.BUSY:
                    break
                await asyncio.sleep(POLL_S)
        assert ended.returncode == 0, f"{' '.join(words)}: {ended.stderr}"
        return json.loads(ended.stdout)

    async def file(self, name: str, *words: str, rpc: str | None = None) -> str:
        """Run a command and keep what it prints in a file; return the file."""
        path = self._directory / name
        path.write_text(json.dumps(await self.run(*words, rpc=rpc)))
        return str(path)

    async def agree(self, change: tuple[str, ...], keys: list[str]) -> None:
        """Propose a change with the first key, approve it with the others."""
        opened = await self.run("miner", "propose", "--key", keys[0], *change)
        for key in keys[1:]:
            await self.run("miner", "vote", opened["id"], "--key", key)

    async def miners(self) -> dict[str, dict[str, Any]]:
        """Return the members of the next height, by their ids."""
        client = await self._network.client(0)
        found = await client.get("/v1/miners")
        return {miner["id"]: miner for miner in found["items"] if miner["index"] is not None}

    async def members_become(self, count: int) -> dict[str, dict[str, Any]]:
        async with patience(f"{count} miners decide"):
            while len(members := await self.miners()) != count:
                await asyncio.sleep(POLL_S)
        return members


@asynccontextmanager
async def committing(network: LiveNetwork) -> AsyncIterator[list[float]]:
    """Commit one reading behind the other all the while, and yield how long each took."""
    (device,) = await network.register_devices(1)
    took: list[float] = []

    async def send() -> None:
        client = await network.client(0)
        while True:
            took.append(await commit(client, reading(device, len(took))))

    async with asyncio.TaskGroup() as group:
        task = group.create_task(send())
        yield took
        task.cancel()


def configure(home: Path, name: str, value: str) -> None:
    """Set the first setting of this name in a home's configuration."""
    path = home / "config.toml"
    text, count = re.subn(rf"(?m)^{name} = \S+", f"{name} = {value}", path.read_text(), count=1)
    assert count == 1, f"there is a setting {name}"
    path.write_text(text)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.attack("E1", "E2")
async def test_miners_are_added_removed_rekeyed_and_moved_while_blocks_go_on(tmp_path: Path):
    async with live_network(tmp_path, observers=1, start=()) as network:
        configure(network.home(JOINER), "role", '"joiner"')
        network.start()
        await network.wait_ready()
        operators = Operators(network, tmp_path)
        async with committing(network) as took:
            # A fifth miner joins, once its node is in sync.
            joiner = network.layout.nodes[JOINER]
            accepted = await operators.file(
                "accepted.json",
                *("miner", "accept", "--key", operators.key(JOINER)),
                *("--node-key", operators.key(JOINER, "node.json"), "--name", "joiner"),
                *("--host", "127.0.0.1", "--port", str(joiner.p2p_port)),
                rpc=joiner.rpc,
            )
            keys = [operators.key(number) for number in range(5)]
            await operators.agree(("--add", accepted), keys[:3])
            members = await operators.members_become(5)
            assert "joiner" in {miner["name"] for miner in members.values()}

            # The second leaves.
            gone = miner_of(network, members, 1)
            await operators.agree(("--remove", gone), [keys[0], keys[2], keys[3], keys[4]])
            members = await operators.members_become(4)
            assert gone not in members

            # The third gets another key, and keeps its id.
            rekeyed = miner_of(network, members, 2)
            subprocess.run(
                python_command("cli", "keys", "new", "--out", operators.key(2, "miner.next.json")),
                check=True,
                capture_output=True,
            )
            network.stop(2)
            network.start(2)
            await network.wait_ready(2, min_peers=3)
            replacement = await operators.file(
                "replacement.json",
                *("miner", "replace-keys", "--key", keys[2]),
                *("--new-key", operators.key(2, "miner.next.json")),
                *("--node-key", operators.key(2, "node.json")),
            )
            await operators.agree(("--replace-keys", replacement), [keys[0], keys[3], keys[4]])
            async with patience("the new key signs"):
                while "the next key signs" not in network.layout.log(
                    network.layout.nodes[2]
                ).read_text(errors="replace"):
                    await asyncio.sleep(POLL_S)
            keys[2] = operators.key(2, "miner.next.json")

            # The fourth moves to another port; the new key of the third votes on it.
            moved = miner_of(network, members, 3)
            port = network.layout.nodes[3].p2p_port + 5
            move = ("--move", moved, "--host", "127.0.0.1", "--port", str(port))
            await operators.agree(move, [keys[0], keys[2], keys[4]])
            network.stop(3)
            configure_port(network.home(3), port)
            network.start(3)
            await network.wait_ready(3, min_peers=3)
            before = len(took)
            async with patience("blocks go on"):
                while len(took) < before + 10:
                    await asyncio.sleep(POLL_S)

        members = await operators.miners()
        assert rekeyed in members
        assert (members[moved]["port"], len(members)) == (port, 4)
        assert max(took) < PAUSE_MAX_S
        why = await (await network.client(2)).get("/v1/consensus")
        assert (why["signing"], why["miner"]) == ("yes", rekeyed)
        await network.wait_equal(0, 2, 3, JOINER)


def miner_of(network: LiveNetwork, members: dict[str, dict[str, Any]], number: int) -> str:
    """Return the id of the miner whose node listens where this one does."""
    port = network.layout.nodes[number].p2p_port
    return next(id for id, miner in members.items() if miner["port"] == port)


def configure_port(home: Path, port: int) -> None:
    """Set where peers are met."""
    path = home / "config.toml"
    head, p2p, rest = path.read_text().partition("[p2p]")
    path.write_text(head + p2p + re.sub(r"(?m)^port = \d+", f"port = {port}", rest, count=1))
