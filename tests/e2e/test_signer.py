"""A miner whose key is in a process of its own: lost, it is missed and comes back by itself."""

import asyncio
import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.client import Client
from cli.processes import python_command
from node.home import Home
from node.signer.home import SignerHome
from tests.e2e.network import (
    POLL_S,
    LiveNetwork,
    commit,
    free_ports,
    live_network,
    patience,
    reading,
)

REMOTE = 3
"""The node whose key is elsewhere."""


class SignerProcess:
    """A signer that is a child of this process."""

    def __init__(self, home: Path) -> None:
        self.home = SignerHome(home)
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = python_command("cli", "signer", "run", "--home", str(self.home.path))
        with (self.home.path / "log").open("ab") as log:
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def end(self, number: int) -> int:
        """Send it a signal, and return its status."""
        assert self._child is not None, "it was started"
        self._child.send_signal(number)
        return self._child.wait(30)


@contextmanager
def away(network: LiveNetwork, directory: Path, port: int) -> Iterator[SignerProcess]:
    """Take a node's key away from it, to a signer that runs meanwhile."""
    node = Home(network.home(REMOTE))
    command = ("signer", "init", "--home", str(directory), "--from", str(node.path), "--json")
    made = subprocess.run(
        python_command("cli", *command, "--port", str(port)),
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    document = json.loads(made.stdout)
    node.miner_key.rename(directory / "spare.json")
    text = node.config.read_text().replace("# remote =", f'remote = "{document["remote"]}"  #', 1)
    text = text.replace("# remote_key =", f'remote_key = "{document["signer_key"]}"  #', 1)
    node.config.write_text(text)
    signer = SignerProcess(directory)
    signer.start()
    try:
        yield signer
    finally:
        signer.end(signal.SIGKILL)


async def signing(client: Client, *words: str) -> None:
    """Return once the node says one of these of its miner's signing."""
    async with patience(f"the miner's signing is one of {words}"):
        while (await client.get("/v1/consensus"))["signing"] not in words:
            await asyncio.sleep(POLL_S)


async def test_a_miner_with_a_remote_signer_is_missed_without_it_and_comes_back(tmp_path: Path):
    async with live_network(tmp_path, start=()) as network:
        with free_ports(1) as port, away(network, tmp_path / "signer", port) as signer:
            network.start()
            await network.wait_ready()
            client, others = await network.client(REMOTE), await network.client(0)
            await signing(client, "yes")
            (device,) = await network.register_devices(1)
            await commit(others, reading(device, 1))

            signer.end(signal.SIGKILL)
            await signing(client, "signer-unreachable")
            why = await client.get("/v1/consensus")
            assert why["diagnosis"] == "signing_nothing"
            await commit(others, reading(device, 2))

            signer.start()
            await signing(client, "yes")
            # Three are a quorum of four: from here on nothing is committed without its vote.
            network.kill(2)
            await commit(others, reading(device, 3))
            network.kill(REMOTE)
            network.start(REMOTE)
            await network.wait_ready()
            await signing(client, "yes")
            await commit(others, reading(device, 4))

            network.start(2)
            await network.wait_ready()
            assert signer.end(signal.SIGTERM) == 0
            signer.home.log.unlink()
            signer.start()
            await signing(client, "lost-memory", "floor")
            for number in range(5, 10):
                await commit(others, reading(device, number))
            await signing(client, "yes")
            network.kill(2)
            await commit(others, reading(device, 10))
