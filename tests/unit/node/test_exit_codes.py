"""The exit code of each error that ends a node, and the two lines that are said of it."""

import errno
from pathlib import Path

import pytest

from chain.errors import InvalidBlock
from node.errors import (
    ConfigError,
    CorruptLog,
    DamagedEntry,
    DiskFull,
    KeyFileError,
    StorageFailed,
    StoreLocked,
    WrongKey,
    WrongPassphrase,
)
from node.exit_codes import NodeExit, error_text, explain

PATH = Path("home")
TAKEN = OSError(errno.EADDRINUSE, "Address already in use")


def port_error(cause):
    error = ConfigError("p2p.port", "127.0.0.1:1 is not to be had")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("role", "is none"), NodeExit.CONFIGURATION),
        (port_error(OSError(errno.EADDRNOTAVAIL, "no")), NodeExit.CONFIGURATION),
        (port_error(TAKEN), NodeExit.PORT_TAKEN),
        (TAKEN, NodeExit.PORT_TAKEN),
        (KeyFileError(PATH, "damaged"), NodeExit.KEY),
        (WrongPassphrase(PATH, "wrong"), NodeExit.KEY),
        (WrongKey(PATH, "another chain's"), NodeExit.KEY),
        (StoreLocked(PATH, holder=7), NodeExit.STORAGE),
        (DiskFull(PATH, "no room"), NodeExit.STORAGE),
        (StorageFailed(PATH, "no"), NodeExit.STORAGE),
        (CorruptLog(PATH, "bad", offset=3), NodeExit.STORAGE),
        (DamagedEntry(PATH, entry="header of block 1", key=b"h", cause="x"), NodeExit.STORAGE),
        (PermissionError(errno.EACCES, "Permission denied", "home/data"), NodeExit.STORAGE),
        (InvalidBlock("a fault of the node"), NodeExit.FAILED),
    ],
)
def test_each_error_has_its_code_and_says_what_is_wrong_and_what_to_do(error, code):
    found, what, advice = explain(error)

    assert found is code
    assert what
    assert advice


def test_the_text_is_one_line_of_what_is_wrong_and_one_of_what_to_do():
    assert error_text("bad\nname\x1b[0m", "correct it") == (
        "error: bad name [0m\n  try: correct it\n"
    )
