"""Stalls of a network of real processes: `consensus why` names each rightly."""

import asyncio
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli.processes import python_command
from cli.signing import Sender
from tests.e2e.network import PATIENCE_S, LiveNetwork, commit, live_network, patience, reading
from tests.e2e.relay import linked

LOOK_S = 1.0
DELAY_US = 2_000_000
AHEAD_S = 90
FAKETIME = "/usr/$LIB/faketime/libfaketimeMT.so.1"
"""Where Debian has it; the linker puts the architecture in the place of ``$LIB``."""


class Clients:
    """Send readings to a node that cannot commit them, and ask why."""

    def __init__(self, network: LiveNetwork, device: Sender) -> None:
        self._network = network
        self._device = device
        self._sent = 0

    async def send(self, number: int) -> None:
        """Hand a reading to a node, without waiting for its receipt."""
        self._sent += 1
        client = await self._network.client(number)
        await client.submit(reading(self._device, self._sent).wire, wait=False)

    async def goes_on(self) -> None:
        self._sent += 1
        client = await self._network.client(0)
        await commit(client, reading(self._device, self._sent))

    async def becomes(self, code: str, *numbers: int) -> None:
        """Return once each of these nodes gives this reason; the answer of all is the same."""
        async with patience(f"nodes {numbers} say {code}"):
            while await self.codes(*numbers) != {code}:
                await self.send(numbers[0])
                await asyncio.sleep(LOOK_S)
        document = await self.together()
        assert document["diagnosis"] == code, document["explanation"]

    async def codes(self, *numbers: int) -> set[str]:
        """Return the reasons that nodes give."""
        clients = await self._network.clients(numbers)
        return {(await client.get("/v1/consensus"))["diagnosis"] for client in clients}

    async def together(self) -> Any:
        """Return what the command line makes of the answers of all nodes."""
        where = ("--all", "--dir", str(self._network.layout.directory))
        command = python_command("cli", "consensus", "why", *where, "--json")
        ended = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)


@contextmanager
def slow_disk(process: int) -> Iterator[None]:
    """Let each call of a process that makes something durable take two seconds."""
    calls = "fsync,fdatasync"
    delay = f"inject={calls}:delay_enter={DELAY_US}"
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", "signal=none",
         "-e", delay, "-p", str(process)]
    )  # fmt: skip
    try:
        yield
    finally:
        tracer.send_signal(signal.SIGTERM)
        tracer.wait(PATIENCE_S)


def clock_ahead() -> tuple[str, ...]:
    """Return the command that runs another under a wall clock which is ahead of all others."""
    # Not the command `faketime`: it stays between, and signals would be for it.
    return (
        "env",
        f"LD_PRELOAD={FAKETIME}",
        f"FAKETIME=+{AHEAD_S}s",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_each_stall_of_a_real_network_is_named_rightly(tmp_path: Path):
    async with live_network(tmp_path, start=()) as network, linked(network) as links:
        network.start()
        await network.wait_ready()
        (device,) = await network.register_devices(1)
        clients = Clients(network, device)
        await clients.goes_on()

        links.cut((0, 1), (2, 3))
        await clients.becomes("partition", 0, 1, 2, 3)
        links.heal()
        await clients.goes_on()

        network.stop(2, 3)
        await clients.becomes("quorum_lost", 0, 1)
        network.start(2, 3)
        await network.wait_ready()
        await clients.goes_on()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_slow_disks_of_a_real_network_are_named(tmp_path: Path):
    async with live_network(tmp_path) as network:
        (device,) = await network.register_devices(1)
        clients = Clients(network, device)
        with slow_disk(network.process_id(2)), slow_disk(network.process_id(3)):
            # Two of four hold the others up, and then a block gets through: no moment shows all.
            found: set[str] = set()
            async with patience("the disks are found slow"):
                while await clients.codes(2, 3) != {"slow_disk"} or "slow_disk" not in found:
                    await clients.send(0)
                    await asyncio.sleep(LOOK_S)
                    assert "slow_disk" not in await clients.codes(0, 1)
                    found.add((await clients.together())["diagnosis"])
        await clients.goes_on()


@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed")
@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_wrong_clocks_of_a_real_network_are_named(tmp_path: Path):
    async with live_network(tmp_path) as network:
        (device,) = await network.register_devices(1)
        clients = Clients(network, device)
        await clients.goes_on()

        network.stop(2, 3)
        network.start(2, 3, through=clock_ahead())
        await network.wait_ready()
        await clients.becomes("clock_skew", 0, 1, 2, 3)

        network.stop(2, 3)
        network.start(2, 3)
        await network.wait_ready()
        await clients.goes_on()
