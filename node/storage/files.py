"""What the stores need of the file system: durable directories, and errors in our own words."""

import errno
import os
from pathlib import Path
from typing import Final

from node.errors import DiskFull, StorageError, StorageFailed

FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers which mean that no room is left."""


def storage_error(path: Path, error: OSError) -> StorageError:
    """Return what the system's `error` at `path` means to a node."""
    said = error.strerror or str(error)
    if error.errno in NO_ROOM:
        return DiskFull(path, f"{said}; make room, then start again")
    return StorageFailed(path, f"{said}; see the system's log about the disk and its permissions")


def sync_directory(path: Path) -> None:
    """Make the entries of the directory `path` durable: files created, renamed or removed in it.

    Raises
    ------
    OSError
        The system refused.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Create the directory `path` durably, and those above it; one that is there is left alone.

    Raises
    ------
    StorageFailed
        The system refused, or a file is in the way.
    """
    if path.is_dir():
        return
    make_directory(path.parent)
    try:
        path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error
