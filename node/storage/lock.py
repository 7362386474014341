"""Locks which keep two processes off the same files."""

import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from node.errors import StoreLocked
from node.storage.files import FILE_MODE, make_directory, storage_error

HOME_LOCK_NAME: Final = "node.lock"
_HOLDER_SIZE_MAX: Final = 20


class FileLock:
    """An exclusive lock on a file, held until :meth:`release` or the end of the process.

    The file stays where it is: removing it would let a second process lock a new file of the same
    name while the first still holds the old one. It contains the process id of the holder.

    Parameters
    ----------
    path : Path
        The file to lock; created, with its directory, where it is missing.
    guards : Path, optional
        What the lock stands for, named in the error; `path` itself by default.

    Raises
    ------
    StoreLocked
        Somebody else holds it, in this process or another.

    Notes
    -----
    The lock is ``flock``, which belongs to the open file: a child made by ``fork`` without ``exec``
    would hold it beyond the end of its parent. Worker processes are therefore spawned, not forked.
    """

    def __init__(self, path: Path, *, guards: Path | None = None) -> None:
        guards = guards or path
        make_directory(path.parent)
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise storage_error(path, error) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)
        except OSError as error:
            holder = self._holder()
            os.close(self._descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise StoreLocked(guards, holder=holder) from error
            raise storage_error(path, error) from error
        self._held = True

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._held:
            self._held = False
            os.close(self._descriptor)

    def _holder(self) -> int | None:
        written = os.pread(self._descriptor, _HOLDER_SIZE_MAX, 0).strip()
        return int(written) if written.isdigit() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class HomeLock(FileLock):
    """The lock of a node on its home directory: a second node on the same home is refused.

    Parameters
    ----------
    home : Path
        The home directory.
    """

    def __init__(self, home: Path) -> None:
        super().__init__(home / HOME_LOCK_NAME, guards=home)
