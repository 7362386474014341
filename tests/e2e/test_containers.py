"""The four miners of docker/compose.yaml: they commit, and outlive a cut cable and a kill.

Started by ``make e2e``, which sets ``CONTAINERS=1``; skipped where no container engine answers.
``CUT_S`` is how long a miner is off its network. The containers, their network and their volumes
are of a project of their own, and are removed at the end.
"""

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from chain.kinds.device_registry import DeviceRegister
from cli.client import connect
from cli.load.fleet import make_device
from cli.signing import registrar_sender
from cli.testnet.network import LOCALHOST
from node.keys import load_key
from tests.e2e.network import (
    POLL_S,
    all_blocks,
    commit,
    free_ports,
    patience,
    reading,
    wait_committed,
)

ROOT: Final = Path(__file__).parents[2]
COMPOSE_FILE: Final = ROOT / "docker" / "compose.yaml"
CUT_S: Final = float(os.environ.get("CUT_S", "60"))
BUILD_S: Final = 1_200
COMMAND_S: Final = 120
NODES: Final = 4
CATCH_UP_S: Final = 120.0


class Compose:
    """The project of compose.yaml under a name, an address range and ports of its own."""

    def __init__(self, command: Sequence[str], ports: Sequence[int]) -> None:
        self._command = [*command, "--project-name", f"securenet-e2e-{os.getpid()}"]
        self._environment = dict(
            os.environ,
            SECURENET_TAG=f"e2e-{os.getpid()}",
            SECURENET_SUBNET=f"10.26.{os.getpid() % 250}",
            **{f"SECURENET_RPC{number}": str(port) for number, port in enumerate(ports)},
        )
        self.image = f"securenet:e2e-{os.getpid()}"

    def run(self, *arguments: str, timeout_s: float = COMMAND_S) -> str:
        """Run a compose command and return what it printed."""
        command = [*self._command, "--file", str(COMPOSE_FILE), *arguments]
        return run(command, timeout_s=timeout_s, environment=self._environment)

    def container(self, node: int) -> str:
        """Return the id of a node's container."""
        return self.run("ps", "--quiet", f"node{node}").strip()

    def address(self, node: int) -> str:
        """Return the fixed address of a node in the chain's network."""
        return f"{self._environment['SECURENET_SUBNET']}.{10 + node}"


@contextmanager
def running_project(command: Sequence[str]) -> Iterator[Compose]:
    """Build the image, start the miners, and remove all of it at the end."""
    with free_ports(NODES) as first:
        project = Compose(command, range(first, first + NODES))
        try:
            project.run("build", timeout_s=BUILD_S)
            project.run("up", "--detach", timeout_s=BUILD_S)
            yield project
        except BaseException:
            print(project.run("logs", "--tail=40"))
            raise
        finally:
            project.run("down", "--volumes", "--timeout", "30", timeout_s=BUILD_S)
            run(["docker", "image", "rm", "--force", project.image])


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(3_600)
async def test_miners_in_containers_commit_and_catch_up_after_a_cut_and_a_kill(tmp_path, capsys):
    if os.environ.get("CONTAINERS") != "1":
        pytest.skip("make e2e starts containers (CONTAINERS=1)")
    with running_project(_compose_command()) as compose:
        figures = await _scene(compose, tmp_path)
    with capsys.disabled():
        print(figures)


async def _scene(compose: Compose, tmp_path: Path) -> str:
    """Commit, cut, kill and compare; return the line of figures."""
    registrar_file = tmp_path / "registrar.json"
    registrar_file.touch(mode=0o600)
    registrar_file.write_text(_cli(compose, "cat", "/network/testnet/registrar.json"))
    ports = [int(compose.run("port", f"node{n}", "26757").rpartition(":")[2]) for n in range(NODES)]
    containers = [compose.container(node) for node in range(NODES)]
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connect(f"http://{LOCALHOST}:{port}", timeout_s=20))
            for port in ports
        ]

        async def ready(*nodes: int, peers: int) -> None:
            async with patience(f"nodes {nodes} get ready", CATCH_UP_S):
                for node in nodes:
                    while not await clients[node].is_ready(min_peers=peers):
                        await asyncio.sleep(POLL_S)

        await ready(*range(NODES), peers=3)
        genesis = await clients[0].genesis()
        registrar = registrar_sender(genesis, load_key(registrar_file), organisation=None)
        device = make_device(genesis, registrar)
        registration = DeviceRegister(
            name="thermometer", key=device.key.public, roles=("sensor",), gateway=None, limits=None
        )
        transaction = registrar.sign("device.register", registration)
        await clients[0].submit(transaction.wire)
        for client in clients:
            await wait_committed(client, transaction)
            await commit(client, reading(device))

        network = _network_of(containers[3])
        run(["docker", "network", "disconnect", network, containers[3]])
        cut = time.monotonic()
        alone = json.loads(_inside(containers[3], "securenet", "query", "status", "--json"))
        sent = 0
        while time.monotonic() < cut + CUT_S:
            await commit(clients[sent % 3], reading(device, sent))
            sent += 1
            await asyncio.sleep(1)
        still = json.loads(_inside(containers[3], "securenet", "query", "status", "--json"))
        assert still["height"] == alone["height"], "it commits nothing alone"
        height = (await clients[0].status())["height"]
        assert height >= alone["height"] + sent
        run(["docker", "network", "connect", "--ip", compose.address(3), network, containers[3]])
        back = time.monotonic()
        async with patience("the miner that was cut off catches up", CATCH_UP_S):
            while _height_inside(containers[3]) < height:
                await asyncio.sleep(0.5)
        caught_up_s = time.monotonic() - back
        await ready(3, peers=3)
        await commit(clients[3], reading(device, sent))

        run(["docker", "kill", containers[1]])
        await commit(clients[0], reading(device, sent + 1))
        run(["docker", "start", containers[1]])
        await ready(*range(NODES), peers=3)
        await commit(clients[1], reading(device, sent + 2))

        async with patience("all nodes are equal"):
            while len({(s["height"], s["state_root"]) for s in await _states(clients)}) > 1:
                await asyncio.sleep(POLL_S)
        final = (await _states(clients))[0]
        chains = [[block["header"] for block in await all_blocks(client)] for client in clients]
        lowest = min(map(len, chains))
        assert all(chain[:lowest] == chains[0][:lowest] for chain in chains)

    for container in containers:
        assert _inside(container, "id", "-u").strip() != "0"
        modes = _inside(container, "sh", "-c", "stat -c %a:%U /var/lib/securenet/keys/*").split()
        assert set(modes) == {"600:securenet"}
    async with patience("the engine finds all healthy", 180):
        while {_health(container) for container in containers} != {"healthy"}:
            await asyncio.sleep(1)
    return (
        f"\ncontainers: four miners commit; one was off its network for {CUT_S:g} s and "
        f"{height - alone['height']} blocks, and had them {caught_up_s:.1f} s after; one was "
        f"killed and started again; height {final['height']}, all equal, all healthy"
    )


def run(
    command: Sequence[str],
    *,
    timeout_s: float = COMMAND_S,
    environment: dict[str, str] | None = None,
) -> str:
    """Run a command that has to succeed, and return what it printed."""
    done = subprocess.run(
        list(command), env=environment, capture_output=True, text=True, timeout=timeout_s
    )
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr[-2_000:] or done.stdout[-2_000:]}")
    return done.stdout


def _compose_command() -> list[str]:
    """Return how compose is called here, or skip where there is no engine to call it with."""
    if shutil.which("docker") is None:
        pytest.skip("there is no docker command")
    info = subprocess.run(["docker", "info"], capture_output=True, text=True, timeout=COMMAND_S)
    if info.returncode:
        said = info.stderr.strip().splitlines()
        pytest.skip(f"no container engine answers: {said[-1] if said else 'docker info failed'}")
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is not None:
            found = subprocess.run([*command, "version"], capture_output=True, timeout=COMMAND_S)
            if found.returncode == 0:
                return command
    pytest.skip("there is neither docker compose nor docker-compose")


def _cli(compose: Compose, *command: str) -> str:
    return compose.run("run", "--rm", "-T", "cli", *command)


def _inside(container: str, *command: str) -> str:
    return run(["docker", "exec", container, *command])


def _height_inside(container: str) -> int:
    status = json.loads(_inside(container, "securenet", "query", "status", "--json"))
    return int(status["height"])


def _network_of(container: str) -> str:
    networks = run(["docker", "inspect", "-f", "{{json .NetworkSettings.Networks}}", container])
    (name,) = json.loads(networks)
    return str(name)


def _health(container: str) -> str:
    return run(["docker", "inspect", "-f", "{{.State.Health.Status}}", container]).strip()


async def _states(clients: Sequence[Any]) -> list[dict[str, Any]]:
    return [await client.status() for client in clients]
