"""One seed is one course of events, in whatever process it is played.

The order of sets and dictionaries of bytes and strings depends on `PYTHONHASHSEED`; code whose
effects depend on that order gives two traces here.
"""

import os
import subprocess
import sys

import pytest

from tests.tidy.tree import ROOT

SEEDS = (3, 17)


@pytest.mark.attack("B17")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_has_one_trace_under_every_hash_seed(seed: int):
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.simulation", "--seeds", "1", "--first", str(seed)],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("0", "4242")
    ]
    traces = set()
    for process in processes:
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
        traces.add(out.splitlines()[-1])

    (trace,) = traces
    assert trace.startswith("trace ")
