"""The exit codes of ``securenet``, for scripts. docs/operating.md explains each of them."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command ended with."""

    OK = 0
    FAILED = 1
    """Something failed that has no code of its own; the message says what."""
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
    CONFIGURATION = 8
    """A configuration, genesis or home directory that nobody can start from."""
    KEY = 9
    """A key file that cannot be made or used, or a wrong passphrase."""
    STORAGE = 10
    """The disk is full or failing, files are in use by another process, or damaged."""
    PORT_TAKEN = 11
    """Another program listens where a node should."""
    ALREADY_THERE = 12
    """It would overwrite what is there."""
    NOT_RUNNING = 13
    """A process that should run does not."""
    MISSED = 14
    """It ran, but what it checks or measures is not as it should be."""
    INTERRUPTED = 130
    """Ended by Ctrl-C."""
