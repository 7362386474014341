"""What a sending leaves beside its file for the next attempt, and the bar of both ways."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cli.errors import BadInput
from cli.progress import Progress
from node.storage.files import FILE_MODE, storage_error, sync_directory

BAR_CHUNKS: Final = 64
"""From so many chunks on progress is shown."""


def load_private(path: Path, size_max: int) -> bytes | None:
    """Return what `save_private` wrote, or None where there is nothing."""
    try:
        with path.open("rb") as file:
            return file.read(size_max + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}", "see to it") from error


def save_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner reads, whole and synced, in the place of one before.

    Raises
    ------
    StorageError
        The disk refused.
    """
    draft = path.with_name(f"{path.name}.new")
    try:
        draft.unlink(missing_ok=True)
        descriptor = os.open(
            draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE
        )
        try:
            with open(descriptor, "wb") as file:
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
def chunk_bar(text: str, count: int) -> Iterator[Callable[[], None]]:
    """Yield what tells that a chunk is done; a file of few chunks shows nothing."""
    if count < BAR_CHUNKS:
        yield lambda: None
        return
    with Progress().bar(f"{text}, chunks", count) as bar:
        yield bar.advance
