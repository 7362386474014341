"""What a node's process ends with, and what it says of the error that ended it.

``python -m node`` and ``securenet node run`` take both from here; the command line adds codes of
its own. docs/operating.md explains each code.
"""

import errno
import re
from enum import IntEnum
from typing import Final

from chain.errors import SecureNetError
from node.errors import (
    ConfigError,
    DiskFull,
    KeyFileError,
    StorageError,
    StorageFailed,
    StoreLocked,
    WrongKey,
    WrongPassphrase,
)

ENDED: Final = re.compile(r"node ended \(exit code (\d+)\)")
"""The last line of a node that was not killed."""

_PORT_ADVICE: Final = "stop the program that uses the port, or choose another in config.toml"


class NodeExit(IntEnum):
    """What a node ended with."""

    OK = 0
    FAILED = 1
    """Something failed that has no code of its own; the message says what."""
    CONFIGURATION = 8
    """A configuration, genesis or home directory that nobody can start from."""
    KEY = 9
    """A key file that cannot be made or used, a wrong passphrase, or the key of another chain."""
    STORAGE = 10
    """The disk is full or failing, files are in use by another process, or damaged."""
    PORT_TAKEN = 11
    """Another program listens where a node should."""
    INTERRUPTED = 130
    """Ended by Ctrl-C."""


def explain(error: SecureNetError | OSError) -> tuple[NodeExit, str, str]:
    """Return the exit code of an error, what is wrong and what to do, in one line each."""
    match error:
        case WrongKey():
            advice = 'put keys and genesis.json of one chain together, or set role = "joiner"'
            return NodeExit.KEY, str(error), advice
        case WrongPassphrase():
            advice = "give its passphrase by --passphrase-file or SECURENET_PASSPHRASE"
            return NodeExit.KEY, str(error), advice
        case KeyFileError():
            advice = "check the file, or make a key with securenet keys new"
            return NodeExit.KEY, str(error), advice
        case ConfigError() if _is_taken_port(error.__cause__):
            return NodeExit.PORT_TAKEN, str(error), _PORT_ADVICE
        case ConfigError() if isinstance(error.__cause__, FileNotFoundError):
            advice = "check the path; securenet init makes a home, its chain has the genesis.json"
            return NodeExit.CONFIGURATION, str(error), advice
        case ConfigError():
            advice = "correct the setting or the file that is named"
            return NodeExit.CONFIGURATION, str(error), advice
        case StoreLocked():
            advice = "securenet testnet down, or stop that process yourself"
            return NodeExit.STORAGE, str(error), advice
        case DiskFull():
            advice = "make room on that disk and start again; nothing acknowledged is lost"
            return NodeExit.STORAGE, str(error), advice
        case StorageFailed():
            advice = "check the permissions of what is named, and the disk"
            return NodeExit.STORAGE, str(error), advice
        case StorageError():
            advice = "docs/operating.md, section Recovery, says what to do"
            return NodeExit.STORAGE, str(error), advice
        case OSError() if _is_taken_port(error):
            return NodeExit.PORT_TAKEN, _os_text(error), _PORT_ADVICE
        case OSError():
            advice = "check the path, its permissions and the room on the disk"
            return NodeExit.STORAGE, _os_text(error), advice
        case _:
            return NodeExit.FAILED, str(error), "see the message; docs/operating.md says more"


def error_text(what: str, advice: str) -> str:
    """Return one line of what is wrong and one of what to do."""
    return f"error: {printable(what)}\n  try: {printable(advice)}\n"


def ended_text(code: int) -> str:
    """Return the line by which others learn how a node ended that is not their child."""
    return f"node ended (exit code {code})\n"


def printable(text: str) -> str:
    """Return `text` in one line without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in text)


def _is_taken_port(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EADDRINUSE


def _os_text(error: OSError) -> str:
    said = error.strerror or str(error)
    return said if error.filename is None else f"{error.filename}: {said}"
