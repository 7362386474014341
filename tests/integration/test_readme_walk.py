"""The first walk of the README, command by command, with real nodes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


def walk() -> str:
    (block,) = [b for b in BLOCK.findall((ROOT / "README.md").read_text()) if "testnet init" in b]
    commands = [line for line in block.splitlines() if line.startswith("securenet ")]
    assert len(commands) > 10
    return "\n".join(commands)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_command_of_the_first_walk_succeeds(tmp_path):
    # The ports of the page may be in use here: free ones, and the address that follows from them.
    script = walk().replace("--dir net ", "--dir net --base-port 0 ", 1)
    first_rpc = "import json; print(json.load(open('net/testnet.json'))['nodes'][0]['rpc_port'])"
    lines = script.splitlines()
    lines.insert(1, f'export SECURENET_RPC=http://127.0.0.1:$(python -c "{first_rpc}")')
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    program = "set -ex\ntrap 'securenet testnet down --dir net' EXIT\n" + "\n".join(lines)

    result = subprocess.run(
        ["bash", "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert len(re.findall(r"^status +committed$", result.stdout, flags=re.MULTILINE)) == 3
    assert "no damage found" in result.stdout
