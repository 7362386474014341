"""How the C library keeps memory that a node gives back.

glibc gives each thread a heap of its own and, once a large piece was freed, takes pieces of that
size from the heaps too. The bodies of blocks, which come and go on several threads, leave holes in
all of them, and the memory of a busy node creeps up for hours though it holds no more.
"""

import ctypes
from typing import Final

ARENAS_MAX: Final = 2
MMAP_THRESHOLD_BYTES: Final = 256 * 1024
"""Larger pieces are given back to the system as soon as they are freed; fixed, it does not grow."""
TRIM_THRESHOLD_BYTES: Final = 1024 * 1024
"""So much that is free at the top of a heap is kept."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""What mallopt(3) calls them."""


def give_back_memory() -> bool:
    """Let freed memory go back to the system; False where the C library knows no such settings.

    To be called before there are threads.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = {
        _ARENA_MAX: ARENAS_MAX,
        _MMAP_THRESHOLD: MMAP_THRESHOLD_BYTES,
        _TRIM_THRESHOLD: TRIM_THRESHOLD_BYTES,
    }
    return all(mallopt(name, value) == 1 for name, value in settings.items())
