"""Running the commands of this test suite as a developer does."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_module(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m module`` from the top of the tree, and return what became of it."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
