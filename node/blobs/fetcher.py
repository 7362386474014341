"""Getting a blob from peers: chunk by chunk, from several at once, and on after a restart.

Every chunk proves itself under the digest, so it does not matter who sends it. Who does not hold
the blob is not asked again in this attempt; who sends something else is banned.
"""

import asyncio
from collections import deque
from typing import Final

import structlog

from chain.blobs import BlobChunk
from chain.errors import InvalidProof
from chain.types import Address, Digest
from node.blobs.store import BlobStore, Draft
from node.errors import BlobRefused, StorageError
from node.metrics import Metrics
from node.p2p.limits import SECOND_NS, TokenBucket
from node.ports import Executor, Transport
from node.protocol import GET_CHUNK, KINDS, ChunkAnswer, GetChunk
from node.questions import Questions
from node.tasks import first_error

LIE_POINTS: Final = 100
"""No honest node sends a chunk that does not prove itself: whoever does is banned at once."""
IDLE_S: Final = 0.05
ASKED_PER_SECOND: Final = KINDS[GET_CHUNK].messages_per_second * 3 // 4
"""Chunks asked of one peer: a peer drops questions beyond its rate, and would seem silent."""
SILENT_S: Final = 15.0
"""Who has not answered is left out so long, so that one who never does holds up no other blob."""

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
        self.questions = Questions(transport)
        self._store = store
        self._transport = transport
        self._executor = executor
        self._metrics = metrics
        # Until when peers are left out, and how fast they are asked; of peers that are connected.
        self._silent_until_s: dict[Address, float] = {}
        self._paces: dict[Address, TokenBucket] = {}
        # Who has sent a chunk last is asked first: it holds the next blob of the kind, too.
        self._helper: Address | None = None
        self._under_way: set[Digest] = set()

    async def fetch(self, digest: Digest, *, size_max: int) -> bool:
        """Return whether the blob is held in the end; chunks that came stay for the next time.

        Parameters
        ----------
        size_max : int
            A larger one is not fetched.
        """
        if self._store.find(digest) is not None:
            return True
        if digest in self._under_way:
            return False
        self._under_way.add(digest)
        try:
            return await self._fetch(digest, size_max)
        finally:
            self._under_way.discard(digest)

    async def _fetch(self, digest: Digest, size_max: int) -> bool:
        peers = deque(self._peers())
        try:
            first = await self._first(digest, peers)
            if first is None:
                return False
            if first.size > size_max:
                raise BlobRefused("too_large", f"it has {first.size} bytes, at most {size_max}")
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

    def _peers(self) -> list[Address]:
        """Return whom to ask, in order."""
        connected = self._transport.connected()
        now_s = asyncio.get_running_loop().time()
        self._silent_until_s = {
            peer: until_s
            for peer, until_s in self._silent_until_s.items()
            if until_s > now_s and peer in connected
        }
        self._paces = {peer: pace for peer, pace in self._paces.items() if peer in connected}
        peers = [peer for peer in connected if peer not in self._silent_until_s]
        return sorted(peers, key=lambda peer: peer != self._helper)

    async def _first(self, digest: Digest, peers: deque[Address]) -> BlobChunk | None:
        """Return the first chunk, which tells the size; who does not have it leaves `peers`."""
        while peers:
            chunk = await self._ask(peers[0], digest, 0)
            if chunk is not None:
                return chunk
            peers.popleft()
        return None

    async def _fetch_rest(self, digest: Digest, draft: Draft, peers: deque[Address]) -> None:
        wanted = deque(draft.missing)
        with first_error():
            async with asyncio.TaskGroup() as group:
                for peer in peers:
                    group.create_task(self._fetch_from(peer, digest, draft, wanted))

    async def _fetch_from(
        self, peer: Address, digest: Digest, draft: Draft, wanted: deque[int]
    ) -> None:
        """Ask one peer for chunks until all are here, or it does not help."""
        while not draft.is_complete:
            if not wanted:
                # Others fetch all that is missing, but may fail.
                await asyncio.sleep(IDLE_S)
                continue
            index = wanted.popleft()
            chunk = await self._ask(peer, digest, index)
            if chunk is None:
                # The others fetch it, if any is left.
                wanted.append(index)
                return
            await self._executor.run(draft.write, index, chunk.data)

    async def _ask(self, peer: Address, digest: Digest, index: int) -> BlobChunk | None:
        """Return a chunk that has proven itself, or None."""
        pace = self._paces.setdefault(peer, TokenBucket(ASKED_PER_SECOND, ASKED_PER_SECOND))
        now_ns = int(asyncio.get_running_loop().time() * SECOND_NS)
        if wait_ns := pace.charge(now_ns, 1):
            await asyncio.sleep(wait_ns / SECOND_NS)
        answer = await self.questions.ask(peer, GetChunk(digest=digest, index=index))
        if not isinstance(answer, ChunkAnswer):
            if peer in self._transport.connected():
                self._silent_until_s[peer] = asyncio.get_running_loop().time() + SILENT_S
            return None
        if answer.chunk is None:
            return None
        try:
            await self._executor.run(answer.chunk.verify, digest, index)
        except InvalidProof as error:
            log.warning("peer sent a false chunk", peer=peer.hex(), reason=str(error))
            self._metrics.peer_refused("false_chunk")
            self._transport.penalise(peer, LIE_POINTS, str(error))
            return None
        self._helper = peer
        return answer.chunk
