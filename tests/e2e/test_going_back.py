"""A miner whose database goes back follows until it is where it was, and only then signs again."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from cli.exit_codes import ExitCode
from cli.processes import python_command
from node.home import Home
from tests.e2e.network import commit, live_network, reading, wait_committed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

VICTIM: Final = 3
BLOCKS: Final = 15


def securenet(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = python_command("cli", *map(str, words))
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def inspect(home: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        securenet("node", "inspect", "--home", home, "--json").stdout
    )
    return document


async def test_a_miner_goes_back_and_signs_nothing_twice(tmp_path):
    async with live_network(tmp_path) as network:
        client = await network.client(0)
        home = network.home(VICTIM)
        (device,) = await network.register_devices(1)
        for number in range(BLOCKS):
            await commit(client, reading(device, number))
        await network.wait_equal()
        running = securenet("node", "rollback", "--home", home, "--to", "3")
        assert running.returncode == ExitCode.STORAGE
        assert "in use by process" in running.stderr
        network.stop(VICTIM)
        before = inspect(home)

        back = securenet("node", "rollback", "--home", home, "--to", "3")

        assert back.returncode == 0, back.stderr
        after = inspect(home)
        assert (after["height"], before["height"]) == (3, (await client.status())["height"])
        assert after["signer_last"] == before["signer_last"]
        assert after["signer_last"]["height"] > 3
        # Three of four are needed, and it is one of the three: it has to sign again.
        network.stop(2)
        network.start(VICTIM)
        await network.wait_ready()
        await commit(client, reading(device, BLOCKS))
        network.start(2)
        await network.wait_ready()
        status = await network.wait_equal()
        assert status["height"] > before["height"]
        assert (await client.get("/v1/evidence"))["items"] == []


async def test_a_quorum_that_goes_back_makes_no_other_history(tmp_path):
    async with live_network(tmp_path) as network:
        (device,) = await network.register_devices(1)
        sent = [reading(device, number) for number in range(BLOCKS)]
        for transaction in sent:
            await commit(await network.client(0), transaction)
        tip = await network.wait_equal()
        network.stop(0, 1, 2, 3)
        archive = tmp_path / "chain.archive"
        exported = securenet("db", "export", "--home", network.home(0), "--out", archive)
        assert exported.returncode == 0, exported.stderr
        for number in range(4):
            back = securenet("node", "rollback", "--home", network.home(number), "--to", "4")
            assert back.returncode == 0, back.stderr

        network.start()
        client = await network.client(0)
        other = reading(device, BLOCKS)
        await network.wait_ready()
        await client.submit(other.wire)
        answer = await client.submit(other.wire, wait=True)
        assert answer["status"] == "pending", "nobody signs where it has signed"
        network.stop(0, 1, 2, 3)
        brought = securenet("db", "import", archive, "--home", network.home(0))
        assert brought.returncode == 0, brought.stderr
        network.start()
        await network.wait_ready()

        for number in range(4):
            for transaction in sent:
                await wait_committed(await network.client(number), transaction)
        again = (await (await network.client(0)).get(f"/v1/blocks/{tip['height']}"))["header"]
        assert again["hash"] == tip["block_hash"]


async def test_a_new_home_gets_the_chain_from_an_archive(tmp_path):
    async with live_network(tmp_path, miners=1) as network:
        (device,) = await network.register_devices(1)
        for number in range(BLOCKS):
            await commit(await network.client(0), reading(device, number))
        status = await (await network.client(0)).status()
        network.stop(0)
        archive, home = tmp_path / "chain.archive", Home(network.home(0))
        exported = securenet("db", "export", "--home", home.path, "--out", archive)
        assert exported.returncode == 0, exported.stderr
        verified = securenet("db", "verify", "--archive", archive, "--genesis", home.genesis)
        assert verified.returncode == 0, verified.stderr
        shutil.rmtree(home.chain)

        imported = securenet("db", "import", archive, "--home", home.path)

        assert imported.returncode == 0, imported.stderr
        assert inspect(home.path)["block_hash"] == status["block_hash"]
        network.start(0)
        await network.wait_ready()
        await commit(await network.client(0), reading(device, BLOCKS))
