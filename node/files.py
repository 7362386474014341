"""Writing files so that they are there whole or not at all."""

import os
from pathlib import Path
from typing import Final

from node.errors import ConfigError

PRIVATE: Final = 0o600
PUBLIC: Final = 0o644


def create_file(path: Path, data: bytes, *, mode: int = PUBLIC) -> None:
    """Create `path` with `data`, synced; never replaces what is there.

    Raises
    ------
    ConfigError
        It exists already, or cannot be written.
    """
    temporary = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            os.fchmod(descriptor, mode)
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            # A link refuses to replace, which a rename would do.
            os.link(temporary, path)
        finally:
            temporary.unlink()
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except FileExistsError as error:
        raise ConfigError(str(path), "exists already; it is not replaced") from error
    except OSError as error:
        raise ConfigError(str(path), f"cannot be written ({error.strerror})") from error
