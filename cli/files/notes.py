"""What a sending leaves beside its file for the next attempt, and the bar of both ways."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cli.errors import BadInput
from cli.progress import Progress

BAR_CHUNKS: Final = 64
"""From so many chunks on progress is shown."""


def load_private(path: Path, size_max: int) -> bytes | None:
    """Return what a command has left, or None where there is nothing."""
    try:
        with path.open("rb") as file:
            return file.read(size_max + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}", "see to it") from error


@contextmanager
def chunk_bar(text: str, count: int) -> Iterator[Callable[[], None]]:
    """Yield what tells that a chunk is done; a file of few chunks shows nothing."""
    if count < BAR_CHUNKS:
        yield lambda: None
        return
    with Progress().bar(f"{text}, chunks", count) as bar:
        yield bar.advance
