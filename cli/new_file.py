"""Files that a command writes: whole or not at all, and never over another."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.errors import AlreadyThere, BadInput


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield where to write what becomes `path` once the block has ended well.

    Raises
    ------
    AlreadyThere
        Something has the name, before the block or after it.
    BadInput
        The directory is not there.
    """
    if path.exists():
        raise AlreadyThere(path)
    if not path.parent.is_dir():
        raise BadInput(f"{path.parent} is no directory", "make it, or choose another --out")
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        yield draft
        os.link(draft, path)
    except FileExistsError as error:
        raise AlreadyThere(path) from error
    finally:
        draft.unlink(missing_ok=True)
