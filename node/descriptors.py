"""How many files and sockets the node may have open.

A node without a free descriptor cannot rewrite its log, and stops. So it asks for as many as its
own bounds come to, where systems give 1,024 at first; and where the system does not let it have
them, clients get fewer connections.
"""

import resource
from typing import Final

DESCRIPTORS_WANTED: Final = 8_192
"""Several times what all bounds come to: clients, peers, tables of the database."""
DESCRIPTORS_KEPT: Final = 768
"""For everything but connections of clients: a hundred peers, the database and the log, strangers
at the door, and whom the RPC has accepted only to refuse it."""
CONNECTIONS_MIN: Final = 16


def raise_descriptor_limit() -> int:
    """Let this process open more files, as far as the system allows; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= DESCRIPTORS_WANTED:
        return DESCRIPTORS_WANTED
    allowed = DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else hard
    raised = min(allowed, DESCRIPTORS_WANTED)
    resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    return raised


def connections_within(descriptors: int, wanted: int) -> int:
    """Return how many clients may be connected where so many descriptors are to be had."""
    return min(wanted, max(CONNECTIONS_MIN, descriptors - DESCRIPTORS_KEPT))
