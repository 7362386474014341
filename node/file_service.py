"""The files of devices: kept for a time, within shares, and fetched by every node.

The chain names a file by a transaction (`chain.payloads.Chunked`); whoever sent it hands its blobs
in at some node, and the others fetch them from there, so that no file has one holder only. What
nobody has brought yet is asked for again after pauses that double.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

import structlog

from chain.blocks import Block
from chain.kinds.device_data import file_of
from chain.records.devices import DEVICE_TABLE
from chain.transactions import Transaction
from chain.types import Address, Digest
from node.blobs.fetcher import BlobFetcher
from node.blobs.ledger import FileLedger, FileLimits, NamedFile
from node.blobs.store import BlobStore
from node.damage import report_damage
from node.errors import DamagedEntry, StorageError
from node.metrics import Metrics
from node.ports import Clock, Executor
from node.storage.chain_store import ChainStore
from node.tasks import first_error

RETRY_S: Final = 1.0
"""After so long a blob is asked for again the first time."""
RETRY_S_MAX: Final = 640.0
FETCHED_AT_ONCE: Final = 4
ATTEMPT_S: Final = 120.0
"""After so long the next has its turn: a peer that alone holds a file may hand it out as slowly as
it likes. Chunks that have come stay. And it is the turn of an organisation of whose files fewest
are under way, so that many slow files of one hold up none of another."""
EXPIRY_S: Final = 600.0
"""How often is looked for files that are too old."""

_SECOND_NS: Final = 1_000_000_000

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Attempt:
    """When a blob is asked for next, whose it is, and how long the pause before was."""

    due_ns: int
    owner: Address
    pause_s: float = RETRY_S / 2


class FileService:
    """Keeps what devices have registered at hand."""

    def __init__(
        self,
        *,
        chain: ChainStore,
        blobs: BlobStore,
        fetcher: BlobFetcher,
        clock: Clock,
        executor: Executor,
        metrics: Metrics,
        limits: FileLimits,
    ) -> None:
        self._chain = chain
        self._blobs = blobs
        self._fetcher = fetcher
        self._clock = clock
        self._executor = executor
        self._metrics = metrics
        self._limits = limits
        self._ledger = FileLedger(limits)
        self._missing: dict[Digest, _Attempt] = {}
        # Heaps: when which attempt falls due, and by organisation those that are, in their order.
        # What is not missing any more, or waits for a later moment, is passed over.
        self._moments: list[tuple[int, Digest]] = []
        self._due: dict[Address, list[tuple[float, int, Digest]]] = {}
        self._under_way: Counter[Address] = Counter()
        self._is_due = asyncio.Event()
        self._changed = asyncio.Event()
        # Before the store is swept for the first time, which spares what is named.
        self._blobs.files = self._ledger.named
        oldest_ms = clock.wall_ms() - limits.keep_ms
        for time_ms, transaction in self._registered(oldest_ms):
            if time_ms > oldest_ms:
                self._register(transaction, time_ms)

    @property
    def count(self) -> int:
        """How many files are named."""
        return self._ledger.count

    def on_committed(self, block: Block) -> None:
        """Name the files of a block."""
        for transaction in block.transactions:
            self._register(transaction, block.header.time_ms)

    async def run(self) -> None:
        """Fetch, and let go what is too old, until cancelled."""
        with first_error():
            async with asyncio.TaskGroup() as group:
                for _ in range(FETCHED_AT_ONCE):
                    group.create_task(self._fetch_due())
                while True:
                    self._changed.clear()
                    await self._expire()
                    self._look_for_due()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._pause_s()):
                            await self._changed.wait()

    def _register(self, transaction: Transaction, time_ms: int) -> None:
        file = file_of(transaction)
        if file is None:
            return
        device = transaction.payload.sender
        record = self._chain.state.get(DEVICE_TABLE, device)
        assert record is not None, "a committed report comes from a registered device"
        entry = NamedFile(
            file=file, device=device, organisation=record.organisation, time_ms=time_ms
        )
        if not self._ledger.register(entry):
            self._metrics.file_beyond_share()
            log.debug("a file is beyond its owner's share", device=device.hex())
            return
        if self._limits.fetches:
            now_ns = self._clock.monotonic_ns()
            for digest, size in entry.blobs.items():
                # Not at once: whoever has sent the transaction hands it in now.
                if size <= self._blobs.limits.blob_size_max:
                    due_ns = now_ns + int(RETRY_S * _SECOND_NS)
                    attempt = _Attempt(due_ns=due_ns, owner=record.organisation)
                    self._missing[digest] = attempt
                    heappush(self._moments, (attempt.due_ns, digest))
        self._changed.set()

    def _registered(self, oldest_ms: int) -> Iterator[tuple[int, Transaction]]:
        """Yield what earlier blocks have named after `oldest_ms`, with the times of the blocks."""
        first = self._chain.first_after(oldest_ms, self._chain.height)
        for place in self._chain.files_from(first):
            try:
                found = self._chain.file_at(place)
            except DamagedEntry as error:
                report_damage(error, self._metrics)
                continue
            if found is not None:
                yield found

    async def _expire(self) -> None:
        gone = self._ledger.expire(self._clock.wall_ms() - self._limits.keep_ms)
        for digest in gone:
            self._missing.pop(digest, None)
        if gone:
            try:
                removed = await self._executor.run(self._blobs.forget, gone)
            except StorageError as error:
                log.warning("blobs could not be removed", reason=str(error))
            else:
                log.info("files of devices are too old", blobs_removed=removed)

    def _look_for_due(self) -> None:
        now_ns = self._clock.monotonic_ns()
        while self._moments and self._moments[0][0] <= now_ns:
            due_ns, digest = heappop(self._moments)
            attempt = self._missing.get(digest)
            if attempt is not None and attempt.due_ns == due_ns:
                # What has failed least first, and the small: a large one takes its time.
                size = self._ledger.named.get(digest, 0)
                queue = self._due.setdefault(attempt.owner, [])
                heappush(queue, (attempt.pause_s, size, digest))
                self._is_due.set()

    async def _fetch_due(self) -> None:
        """Fetch one blob after the other, of whoever has fewest under way."""
        while True:
            while not self._due:
                self._is_due.clear()
                await self._is_due.wait()
            # Of several the one whose turn was longest ago: it stands first.
            owner = min(self._due, key=lambda owner: self._under_way[owner])
            queue = self._due.pop(owner)
            _, _, digest = heappop(queue)
            if queue:
                self._due[owner] = queue
            if digest in self._missing:
                self._under_way[owner] += 1
                try:
                    await self._fetch(digest)
                finally:
                    self._under_way[owner] -= 1
            # What is here already waits for nothing, and after a start that may be all.
            await asyncio.sleep(0)

    async def _fetch(self, digest: Digest) -> None:
        is_here = False
        size = self._ledger.named.get(digest)
        if size is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(ATTEMPT_S):
                    is_here = await self._fetcher.fetch(digest, size_max=size)
        if size is None or is_here:
            self._missing.pop(digest, None)
        elif (attempt := self._missing.get(digest)) is not None:
            attempt.pause_s = min(2 * attempt.pause_s, RETRY_S_MAX)
            attempt.due_ns = self._clock.monotonic_ns() + int(attempt.pause_s * _SECOND_NS)
            heappush(self._moments, (attempt.due_ns, digest))
            self._changed.set()

    def _pause_s(self) -> float | None:
        """Return how long there is nothing to do; None until something changes."""
        if not self._ledger.count:
            return None
        if not self._moments:
            return EXPIRY_S
        left_s = (self._moments[0][0] - self._clock.monotonic_ns()) / _SECOND_NS
        return min(EXPIRY_S, max(0.0, left_s))
