"""A device's file is sent at one node and read at another, also by way of one that was down."""

import asyncio
import json
import subprocess
from pathlib import Path
from random import Random

import pytest

from cli.exit_codes import ExitCode
from cli.processes import python_command
from tests.e2e.network import PATIENCE_S, POLL_S, live_network, patience
from tests.e2e.test_membership import Operators

FILE = Random(1).randbytes(5_000_000)


async def run(*words: str, rpc: str) -> subprocess.CompletedProcess[str]:
    """Run a command, whatever it ends with."""
    command = python_command("cli", *words, "--rpc", rpc, "--json")
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=PATIENCE_S
    )


@pytest.mark.timeout(300)
async def test_a_file_sent_at_one_node_is_read_at_all_others_and_later_at_one_that_was_down(
    tmp_path: Path,
) -> None:
    (tmp_path / "image.bin").write_bytes(FILE)
    device, reader, stranger = (str(tmp_path / f"{name}.json") for name in ("d", "r", "s"))
    async with live_network(tmp_path) as network:
        operators = Operators(network, tmp_path)
        nodes = [node.rpc for node in network.layout.nodes]
        registrar = str(network.layout.registrar_key)
        subprocess.run(python_command("cli", "keys", "new", "--out", device), check=True)
        for key in (reader, stranger):
            new = ("keys", "new", "--algorithm", "x25519", "--out", key)
            subprocess.run(python_command("cli", *new), check=True)
        shown = subprocess.run(
            python_command("cli", "keys", "show", reader, "--json"), check=True, capture_output=True
        )
        to = json.loads(shown.stdout)["public_key"]
        camera = ("--key", registrar, "--name", "camera", "--device-key", device)
        await operators.run("device", "register", *camera)
        network.stop(3)

        send = ("tx", "submit", "--key", device, "--file", str(tmp_path / "image.bin"))
        sent = await operators.run(*send, "--to", to)
        trust = network.genesis.hash.hex()
        fetch = ("tx", "fetch", sent["id"])
        for number in (1, 2):
            out = tmp_path / f"copy-{number}"
            proven = (*fetch, "--key", reader, "--out", str(out), "--trust", trust)
            async with patience(f"node{number} has the file"):
                while (ended := await run(*proven, rpc=nodes[number])).returncode:
                    assert ended.returncode == ExitCode.NOT_FOUND, ended.stderr
                    await asyncio.sleep(POLL_S)
            assert out.read_bytes() == FILE
        refused = await run(*fetch, "--out", "none", "--key", stranger, rpc=nodes[1])
        assert refused.returncode == ExitCode.KEY

        network.start(3)
        await network.wait_ready()
        network.stop(0)
        late = (*fetch, "--key", reader, "--out", str(tmp_path / "late"))
        async with patience("the node that was down has the file"):
            while (ended := await run(*late, rpc=nodes[3])).returncode:
                assert ended.returncode == ExitCode.NOT_FOUND, ended.stderr
                await asyncio.sleep(POLL_S)
        assert (tmp_path / "late").read_bytes() == FILE
        held = list((network.home(3) / "data" / "blobs").iterdir())
        assert FILE[:64] not in b"".join(path.read_bytes() for path in held)
