"""The real :class:`node.ports.Files`: a directory of its own."""

import os
from pathlib import Path

from node.storage.files import FILE_MODE, make_directory, storage_error, sync_directory


class DirectoryFiles:
    """Files directly within one directory, which is made where it is missing.

    All methods raise `StorageError` where the system refuses.
    """

    def __init__(self, path: Path) -> None:
        make_directory(path)
        self.path = path

    def sizes(self) -> dict[str, int]:
        """Return the size of every file by name."""
        try:
            with os.scandir(self.path) as entries:
                return {
                    entry.name: entry.stat(follow_symlinks=False).st_size
                    for entry in entries
                    if entry.is_file(follow_symlinks=False)
                }
        except OSError as error:
            raise storage_error(self.path, error) from error

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset` on; none where there is no such file."""
        path = self.path / name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise storage_error(path, error) from error
        try:
            return os.pread(descriptor, size, offset)
        except OSError as error:
            raise storage_error(path, error) from error
        finally:
            os.close(descriptor)

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Write at `offset` of a file, which is made where it is missing."""
        path = self.path / name
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, FILE_MODE)
            try:
                view = memoryview(data)
                while view:
                    written = os.pwrite(descriptor, view, offset)
                    view, offset = view[written:], offset + written
            finally:
                os.close(descriptor)
        except OSError as error:
            raise storage_error(path, error) from error

    def sync(self, name: str) -> None:
        """Make what was written to a file durable."""
        path = self.path / name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise storage_error(path, error) from error

    def finish(self, name: str, new_name: str) -> None:
        """Sync a file and give it another name, durably; it takes the place of one of that name."""
        self.sync(name)
        path = self.path / name
        try:
            path.rename(self.path / new_name)
            sync_directory(self.path)
        except OSError as error:
            raise storage_error(path, error) from error

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        path = self.path / name
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(path, error) from error
