"""Writing files so that they are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from node.errors import FileTaken
from node.storage.files import FILE_MODE, storage_error, sync_directory

PUBLIC_MODE: Final = 0o644


def create_file(path: Path, data: bytes) -> None:
    """Create `path` with `data`, synced; never replaces what is there.

    Raises
    ------
    FileTaken
        It exists already.
    StorageError
        It cannot be written; nothing is left of it.
    """
    with new_file(path) as file:
        file.write(data)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file that only its owner reads, synced, in the place of one before.

    Raises
    ------
    StorageError
        It cannot be written; the one before is as it was.
    """
    draft = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        # One that a crash has left may be anybody's.
        draft.unlink(missing_ok=True)
        try:
            with open(os.open(draft, flags, FILE_MODE), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write, and to read back, which is `path`, synced, once the block ended well.

    Raises
    ------
    FileTaken
        It exists already.
    StorageError
        It cannot be written; nothing is left of it.
    """
    if path.exists():
        raise _taken(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        try:
            with open(_open(draft), "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            # A link refuses to replace, which a rename would do.
            os.link(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        try:
            sync_directory(path.parent)
        except OSError:
            path.unlink()
            raise
    except FileExistsError as error:
        raise _taken(path) from error
    except OSError as error:
        raise storage_error(path, error) from error


def _open(path: Path) -> int:
    return os.open(
        path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, PUBLIC_MODE
    )


def _taken(path: Path) -> FileTaken:
    return FileTaken(str(path), "exists already; it is not replaced")
