"""That a soak runs; a few seconds of it say nothing of the memory."""

import subprocess
import sys

import pytest

from tests.tidy.tree import ROOT


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_soak_of_seconds_ends_with_its_figures():
    result = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--minutes", "0.1", "--devices", "40"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )

    assert result.stdout.splitlines()[-1].startswith("soak 0.1 min "), result.stderr
    for word in ("do not commit", "refused", "different blocks", "stands still", "Traceback"):
        assert word not in result.stderr
