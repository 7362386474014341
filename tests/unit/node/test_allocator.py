"""Memory that is given back leaves the process; in one of its own, for the settings last."""

import subprocess
import sys

import pytest

from node.allocator import MMAP_THRESHOLD_BYTES

PROGRAM = """
import ctypes, sys
from pathlib import Path

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if sys.argv[1] == "tamed":
    from node.allocator import give_back_memory
    assert give_back_memory(), "a C library of another kind"

size = {size}
large = bytes(16 << 20)
del large                        # glibc's own threshold is above this size from now on
kept, gone = [], []
for _ in range(100):
    gone.append(bytearray(size))
    kept.append(bytes(100_000))  # holds the top of the heap where it is
before = resident()
gone.clear()
print((before - resident()) / (100 * size))
"""


def share_given_back(how: str) -> float:
    program = PROGRAM.replace("{size}", str(2 * MMAP_THRESHOLD_BYTES))
    result = subprocess.run(
        [sys.executable, "-c", program, how], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return float(result.stdout)


@pytest.mark.attack("D18")
def test_large_pieces_that_are_freed_leave_the_process():
    assert share_given_back("tamed") > 0.9
    assert share_given_back("as it is") < 0.5, "then the settings would not be needed"
