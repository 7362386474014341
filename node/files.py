"""Writing files so that they are there whole or not at all."""

import os
from pathlib import Path
from typing import Final

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
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        try:
            _write(draft, data)
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
        raise FileTaken(str(path), "exists already; it is not replaced") from error
    except OSError as error:
        raise storage_error(path, error) from error


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(
        path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, PUBLIC_MODE
    )
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
