"""Organisations' gateways that learn together: participant processes, each with its own shard."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from chain.kinds.device_registry import DeviceRegister, device_id
from chain.types import Address
from cli.client import Client
from cli.processes import python_command
from cli.signing import Sender
from ml_validator.artifact import Artifact
from ml_validator.bundled import LINEAR_NAME, bundled_model
from ml_validator.federated.linear_update import parameter_count, to_model
from ml_validator.linear import Linear
from ml_validator.nsl_kdd import Record, write_records
from ml_validator.synthetic import generate_mixture
from node.keys import create_key
from node.random_source import SystemRandom
from tests.e2e.network import LiveNetwork, commit, dying_with_parent, patience, reading

ROWS: Final = 200
"""For each profile of traffic, and participant."""
POLL_S: Final = 0.1
ROUND_S: Final = 600
"""For a round in which every phase is waited for to its deadline, on a busy machine."""


def untrained() -> Artifact:
    """Return a linear model of NSL-KDD that knows nothing yet."""
    bundled = bundled_model(LINEAR_NAME)[0]
    assert isinstance(bundled.model, Linear)
    model = to_model(np.zeros(parameter_count(bundled.model)), base=bundled.model)
    return Artifact(model=model, schema=bundled.schema, threshold_ppm=500_001)


class Gateway:
    """A participant: a device, a shard, a home, and a process from time to time."""

    def __init__(
        self, network: LiveNetwork, folder: Path, number: int, rows: Sequence[Record]
    ) -> None:
        self._folder = folder / f"gateway-{number}"
        self._folder.mkdir()
        self._trust = network.genesis.hash.hex()
        self.name = f"gateway-{number}"
        self.number = number
        self.rpc = network.layout.nodes[number % network.size].rpc
        self.key = create_key(self._folder / "key.json", "ed25519", SystemRandom())
        registrar = network.registrar
        self.id: Address = device_id(network.genesis.hash, registrar.address, self.key.public)
        self.shard = self._folder / "flows.txt"
        write_records(self.shard, rows)
        self.process: subprocess.Popen[bytes] | None = None
        self.peak_bytes = 0

    def start(self, round_id: str | None, *options: str, program: Path | None = None) -> None:
        """Start its process, for the first time or again.

        Parameters
        ----------
        round_id : str or None
            The round; None: it takes part in all.
        *options : str
            Further ones of ``securenet fl join``.
        program : Path, optional
            In the place of securenet.
        """
        run = python_command("cli") if program is None else [sys.executable, str(program)]
        which = ["--all"] if round_id is None else ["--round", round_id]
        command = [
            *run, "fl", "join", "--home", str(self._folder), *which, "--json",
            "--key", str(self._folder / "key.json"), "--data", str(self.shard), "--rpc", self.rpc,
            "--trust", self._trust, *options,
        ]  # fmt: skip
        log = (self._folder / "log").open("ab")
        self.process = subprocess.Popen([*dying_with_parent(), *command], stdout=log, stderr=log)
        log.close()

    def kill(self) -> None:
        """Kill its process, as a loss of power would."""
        assert self.process is not None, "it runs"
        self.process.kill()
        self.process.wait()

    async def ended(self) -> int:
        """Return what its process ended with, once it has."""
        assert self.process is not None, "it was started"
        async with patience(f"{self.name} ends", 120):
            while self.process.poll() is None:
                self.measure()
                await asyncio.sleep(POLL_S)
        return self.process.returncode

    @property
    def is_running(self) -> bool:
        """Whether it has a process."""
        return self.process is not None and self.process.poll() is None

    def measure(self) -> None:
        """Note how much memory its process has used at most."""
        assert self.process is not None, "it was started"
        with suppress(FileNotFoundError):
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM"):
                    self.peak_bytes = max(self.peak_bytes, int(line.split()[1]) * 1024)

    def said(self) -> str:
        """Return what its processes have printed."""
        return (self._folder / "log").read_text(errors="replace")


@contextmanager
def gateways(
    network: LiveNetwork, folder: Path, shards: Sequence[Sequence[Record]]
) -> Iterator[list[Gateway]]:
    """Make a participant for each shard, and end their processes whatever happens."""
    made = [Gateway(network, folder, number, rows) for number, rows in enumerate(shards)]
    try:
        yield made
    except BaseException:
        for gateway in made:
            if (folder / gateway.name / "log").exists():
                print(f"--- {gateway.name}\n{gateway.said()[-2_000:]}")
        raise
    finally:
        for gateway in made:
            if gateway.is_running:
                gateway.kill()


def synthetic(count: int) -> list[list[Record]]:
    """Return shards of made-up traffic."""
    return [generate_mixture(ROWS, 100 + number) for number in range(count)]


async def register(network: LiveNetwork, client: Client, made: Sequence[Gateway]) -> None:
    """Register the devices of participants."""
    transactions = [
        network.registrar.sign(
            "device.register",
            DeviceRegister(
                name=gateway.name,
                key=gateway.key.public,
                roles=("participant",),
                gateway=None,
                limits=None,
            ),
        )
        for gateway in made
    ]
    await client.submit_batch([transaction.wire for transaction in transactions])
    for transaction in transactions:
        await client.wait_committed(transaction.id.hex(), timeout_s=60)


def untrained_file(folder: Path) -> Path:
    """Write `untrained` down."""
    base = folder / "base.safetensors"
    base.write_bytes(untrained().data)
    return base


async def at_phase(client: Client, round_id: str, *phases: str) -> dict[str, Any]:
    """Return a round once it is in one of these phases."""
    async with patience(f"the round is at {phases}", ROUND_S):
        while (found := await client.get(f"/v1/rounds/{round_id}"))["phase"] not in phases:
            await asyncio.sleep(POLL_S / 2)
    return found


async def await_only(
    client: Client, round_id: str, phase: str, missing: Gateway, sensor: Sender
) -> None:
    """Return once a round has given up, at a phase's deadline, the one whom alone it waits for.

    Deadlines are heights, of which an idle chain makes one a second: readings make them pass.
    """
    async with patience(f"{phase} waits for {missing.name} alone", ROUND_S):
        while (found := await client.get(f"/v1/rounds/{round_id}"))["phase"] == phase:
            if found["awaited"] == [missing.id.hex()]:
                await commit(client, reading(sensor))
            else:
                await asyncio.sleep(POLL_S / 2)
