"""How many blobs may come in at a time, and whose."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from node.rpc.errors import Busy


class Uploads:
    """Uploads under way; each holds a chunk in memory and a draft on the disk.

    One may take as long as its chunks come in time, for a large file hours. So half of them at most
    are of one address, this machine apart, and half of what the state does not name: neither slow
    clients nor large files of devices keep out what a federated round waits for.

    Parameters
    ----------
    count_max : int
        Beyond it, or a half of it, an upload is refused with `Busy`.
    """

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._half = max(1, count_max // 2)
        self._sources: Counter[str] = Counter()
        self._unnamed = 0

    @asynccontextmanager
    async def turn(self, source: str, *, is_local: bool, is_named: bool) -> AsyncIterator[None]:
        """Take part for as long as the block runs.

        Parameters
        ----------
        source : str
            Address of the client.
        is_named : bool
            Whether the state names the blob.
        """
        is_beyond = (
            self._sources.total() >= self._count_max
            or (not is_local and self._sources[source] >= self._half)
            or (not is_named and self._unnamed >= self._half)
        )
        if is_beyond:
            raise Busy("too many blobs come in")
        self._sources[source] += 1
        self._unnamed += not is_named
        try:
            yield
        finally:
            self._unnamed -= not is_named
            self._sources[source] -= 1
            if not self._sources[source]:
                del self._sources[source]
