"""`securenet testnet perturb`: a network under blows, and what the command says of it."""

import json
import subprocess
from pathlib import Path

import pytest

from cli.exit_codes import ExitCode
from cli.processes import python_command
from tests.e2e.network import free_ports


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        python_command("cli", "testnet", *words), capture_output=True, text=True, timeout=400
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nodes_are_struck_as_the_seed_has_it_and_the_chain_goes_on(tmp_path: Path):
    directory = str(tmp_path / "network")
    with free_ports(4) as base_port:
        assert run("init", "--dir", directory, "--base-port", str(base_port)).returncode == 0
        refused = run("perturb", "--dir", directory, "--count", "1")
        assert refused.returncode == ExitCode.NOT_RUNNING
        assert "testnet up" in refused.stderr
        assert run("up", "--dir", directory, "--detach").returncode == 0
        try:
            # First node0 is wiped; then another is away, for whom it has to vote again.
            actions = [word for name in ("kill", "pause", "wipe") for word in ("--action", name)]
            struck = run(
                *("perturb", "--dir", directory, "--count", "4", "--seed", "134", "--away-s", "1"),
                *(*actions, "--json"),
            )
            state = json.loads(run("status", "--dir", directory, "--json").stdout)
        finally:
            run("down", "--dir", directory)

    assert struck.returncode == 0, struck.stderr
    document = json.loads(struck.stdout)
    assert (document["went_on"], document["of"]) == (4, 4)
    assert all(blow["commit_s"] is not None for blow in document["blows"])
    assert all(node["running"] for node in state["nodes"])
