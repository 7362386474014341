"""What the machine itself could do: the bound that signatures set to any such network on it.

Every node verifies every signature once, so nodes that share a machine commit at most its
verifications per second divided by their number. Measured beside the load, it tells a slow machine
from a slow network.
"""

import asyncio
import os
from concurrent.futures import Executor
from typing import Final

from chain.crypto import SEED_SIZE, signing_key, verify
from node.clock import SystemClock

SECONDS: Final = 1.0
_TAG: Final = b"securenet/bench"
_STEP: Final = 64


async def verifications_per_s(workers: Executor, *, size_bytes: int) -> float:
    """Return how many signatures over `size_bytes` all cores together verify in a second."""
    loop = asyncio.get_running_loop()
    cores = os.cpu_count() or 1
    calls = [loop.run_in_executor(workers, verify_for, SECONDS, size_bytes) for _ in range(cores)]
    return sum(await asyncio.gather(*calls))


def verify_for(seconds: float, size_bytes: int) -> float:
    """Verify for so long on one core; return the verifications per second."""
    key = signing_key("ed25519", bytes(SEED_SIZE))
    message = bytes(size_bytes)
    signature = key.sign(_TAG, message)
    clock = SystemClock()
    count, started = 0, clock.monotonic_ns()
    while (taken_ns := clock.monotonic_ns() - started) < seconds * 1e9:
        for _ in range(_STEP):
            verify(key.public, _TAG, message, signature)
        count += _STEP
    return count * 1e9 / taken_ns
