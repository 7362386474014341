"""How many blobs may come in at a time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from node.rpc.errors import Busy


class Uploads:
    """Uploads under way; each holds a chunk in memory and a draft on the disk.

    Parameters
    ----------
    count_max : int
        Beyond it an upload is refused with `Busy`.
    """

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._count = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Take part for as long as the block runs."""
        if self._count >= self._count_max:
            raise Busy("too many blobs come in")
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
