"""Getting a blob from peers: chunk by chunk, from several at once, and on after a restart.

Every chunk proves itself under the digest, so it does not matter who sends it. Whom to ask, and who
is not waited for, `node.blobs.sources` decides; who does not hold the blob is not asked again in
this attempt, and who sends something else is banned.
"""

import asyncio
from collections import deque

import structlog

from chain.errors import InvalidProof
from chain.types import Address, Digest
from node.blobs.sources import Sources
from node.blobs.store import BlobStore, Draft
from node.errors import BlobRefused, LargerBlob, StorageError
from node.metrics import Metrics
from node.ports import Executor, Transport
from node.tasks import first_error

log = structlog.get_logger(__name__)


class BlobFetcher:
    """Fetches blobs, several at a time, but none twice at once.

    Attributes
    ----------
    questions : Questions
        What it has asked peers; told of their answers.
    """

    def __init__(
        self, *, store: BlobStore, transport: Transport, executor: Executor, metrics: Metrics
    ) -> None:
        self._sources = Sources(transport, executor, metrics)
        self.questions = self._sources.questions
        self._store = store
        self._executor = executor
        self._under_way: set[Digest] = set()

    async def fetch(
        self, digest: Digest, *, size_max: int, patience_s: float | None = None
    ) -> bool:
        """Return whether the blob is held in the end; chunks that came stay for the next time.

        Parameters
        ----------
        size_max : int
            A larger one is not fetched.
        patience_s : float, optional
            It gives up once no chunk of any blob has come for so long, and after twice as
            long in any case.
        """
        try:
            async with self._sources.patience(patience_s):
                return await self.bring(digest, size_max=size_max)
        except TimeoutError:
            return False
        except LargerBlob as error:
            log.warning("a blob is not fetched", digest=digest.hex(), reason=str(error))
            return self._store.find(digest) is not None

    async def bring(self, digest: Digest, *, size_max: int) -> bool:
        """Do as `fetch`, for whom it matters that a blob never will be held.

        Raises
        ------
        LargerBlob
            It has more than `size_max` bytes, as its digest proves.
        """
        held = self._store.find(digest)
        if held is not None:
            _require_size(held.size, size_max)
            return True
        if digest in self._under_way:
            return False
        self._under_way.add(digest)
        try:
            return await self._fetch(digest, size_max)
        finally:
            self._under_way.discard(digest)

    async def _fetch(self, digest: Digest, size_max: int) -> bool:
        peers = self._sources.peers()
        try:
            # The first chunk tells the size.
            first = await self._sources.bring(digest, 0, peers)
            if first is None:
                return False
            _require_size(first.size, size_max)
            draft = await self._executor.run(self._store.begin_part, first.size, digest)
            await self._executor.run(draft.write, first.index, first.data)
            await self._fetch_rest(digest, draft, peers)
            if not draft.is_complete:
                return False
            if not await self._executor.run(self._store.finish, draft, digest):
                return False
        except (BlobRefused, InvalidProof, StorageError) as error:
            # The chain goes on without a blob; a full disk stops the node where it must.
            log.warning("a blob could not be taken in", digest=digest.hex(), reason=str(error))
            return False
        log.info("blob fetched", digest=digest.hex(), size=first.size)
        return True

    async def _fetch_rest(self, digest: Digest, draft: Draft, peers: list[Address]) -> None:
        """Take in chunks until all are there, or one cannot be had."""
        wanted = deque(draft.missing)
        running: set[asyncio.Task[bool]] = set()
        with first_error():
            async with asyncio.TaskGroup() as group:
                while wanted or running:
                    while wanted and len(running) < self._sources.chunks_at_once:
                        chunk = self._take_in(digest, wanted.popleft(), draft, peers)
                        running.add(group.create_task(chunk))
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    if not all(task.result() for task in done):
                        wanted.clear()

    async def _take_in(
        self, digest: Digest, index: int, draft: Draft, peers: list[Address]
    ) -> bool:
        """Take in one chunk; return whether anybody had it."""
        chunk = await self._sources.bring(digest, index, peers)
        if chunk is None:
            return False
        await self._executor.run(draft.write, index, chunk.data)
        return True


def _require_size(size: int, size_max: int) -> None:
    if size > size_max:
        raise LargerBlob(size=size, size_max=size_max)
