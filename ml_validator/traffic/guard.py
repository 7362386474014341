"""Reads of capture files that hold what the format promises, or say that it does not."""

from typing import BinaryIO, Final

BLOCK_SIZE_MAX: Final = 16 * 1024 * 1024
"""Of a packet with its frame; a file that states more is damaged."""


class Damaged(Exception):
    """A file that does not keep what its format promises."""


class Guard:
    """A file whose reads are bounded and whole."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._empty_reads = 0
        self.name = "capture"

    def read(self, size: int) -> bytes:
        """Return so many bytes, or none at the end of the file; raises `Damaged` for fewer."""
        if not 0 <= size <= BLOCK_SIZE_MAX:
            raise Damaged(f"a block of {size} bytes")
        data = self._file.read(size)
        if size and not data:
            self._empty_reads += 1
        elif len(data) < size:
            raise Damaged("the file is cut off here")
        self.check_end()
        return data

    def body(self, size: int) -> bytes:
        """Return so many bytes of a block that has begun; raises `Damaged` for fewer."""
        data = self.read(size)
        if len(data) < size:
            raise Damaged("the file is cut off here")
        return data

    def check_end(self) -> None:
        """Make sure that the file did not end inside a block."""
        # The reader ends where it finds no header; a second time means that a body was missing.
        if self._empty_reads > 1:
            raise Damaged("the file is cut off here")
