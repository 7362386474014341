"""Writing files so that they are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from node.errors import FileTaken
from node.storage.files import storage_error, sync_directory

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


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write to, which is `path`, synced, once the block has ended well.

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
            with open(_open(draft), "wb") as file:
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
        path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, PUBLIC_MODE
    )


def _taken(path: Path) -> FileTaken:
    return FileTaken(str(path), "exists already; it is not replaced")
