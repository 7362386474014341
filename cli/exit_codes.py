"""The exit codes of ``securenet``, for scripts. docs/operating.md explains each of them.

Those that a node ends with are the node's own.
"""

from enum import IntEnum

from node.exit_codes import NodeExit


class ExitCode(IntEnum):
    """What a command ended with."""

    OK = NodeExit.OK
    FAILED = NodeExit.FAILED
    USAGE = 2
    """Unknown command or option, a value out of range, a file that is not what it should be."""
    UNREACHABLE = 3
    """No node answered at the RPC's address."""
    REFUSED = 4
    """The node refused: a step of Algorithm 1, a rule of the kind, a malformed request."""
    NOT_FOUND = 5
    """The node knows nothing of that name, id or height."""
    BUSY = 6
    """A limit is used up or the pool is full: the same may succeed later."""
    TIMED_OUT = 7
    """What was waited for did not happen in time; it may still."""
    CONFIGURATION = NodeExit.CONFIGURATION
    KEY = NodeExit.KEY
    STORAGE = NodeExit.STORAGE
    PORT_TAKEN = NodeExit.PORT_TAKEN
    ALREADY_THERE = 12
    """It would overwrite what is there, or propose what is proposed."""
    NOT_RUNNING = 13
    """A process that should run does not."""
    MISSED = 14
    """It ran, but what it checks or measures is not as it should be."""
    INTERRUPTED = NodeExit.INTERRUPTED
