"""A node's part in federated rounds: it keeps their blobs, and as a miner works in each.

For every open round there is one task (`node.round_work`). Blobs of rounds are taken in from the
moment in which the chain names them: updates once they are committed to, and what comes out. How
long they are kept follows from the state alone: updates while the round is open; of the finished
rounds that the state remembers the aggregates, and the updates of as many, latest first, as fit
into a part of the store. Every node fetches aggregates, so that none has one holder only, and the
models that these rounds start from, which participants and publishers ask their own node for.
docs/spec/federated.md; docs/operating.md.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

import structlog

from chain.federated.progress import open_round_ids
from chain.federated.records import CLOSED_ROUNDS, ROUND_TABLE, FederatedRound
from chain.types import Address, Digest
from ml_validator.artifact import ARTIFACT_SIZE_MAX
from ml_validator.bundled import bundled_name
from node.blobs.fetcher import BlobFetcher
from node.blobs.store import BlobStore
from node.errors import StorageError
from node.metrics import Metrics
from node.own_transactions import OwnTransactions
from node.ports import Clock, Executor
from node.round_work import Bench, RoundWork
from node.storage.chain_store import ChainStore

PAST_SHARE: Final = 16
"""Updates of closed rounds may have the store's size, divided by this."""
RETRY_S: Final = 5.0
RETRY_S_MAX: Final = 60.0
"""How often a missing aggregate or base is asked for, in pauses that double."""
FETCHED_AT_ONCE: Final = 4
ATTEMPT_S: Final = 30.0
"""After so long the next has its turn; chunks that have come stay."""

_PART: Final = "federated rounds"

log = structlog.get_logger(__name__)


class Federation:
    """Follows the federated rounds of the chain.

    Parameters
    ----------
    own : OwnTransactions
        Sends what `miner`, this node, has to say.
    """

    def __init__(
        self,
        *,
        chain: ChainStore,
        blobs: BlobStore,
        fetcher: BlobFetcher,
        executor: Executor,
        own: OwnTransactions,
        miner: Address,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._chain = chain
        self._blobs = blobs
        self._fetcher = fetcher
        self._executor = executor
        self._bench = Bench(
            chain=chain,
            blobs=blobs,
            fetcher=fetcher,
            executor=executor,
            own=own,
            miner=miner,
            clock=clock,
            metrics=metrics,
            turn=asyncio.Lock(),
            on_named=self._name,
        )
        self._works: dict[Digest, RoundWork] = {}
        self._rounds: dict[Digest, FederatedRound] = {}
        self._changed = asyncio.Event()
        # What is fetched for its own sake, by digest and bound of its size.
        self._fetches: dict[tuple[Digest, int], asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(FETCHED_AT_ONCE)
        # What members and miners have made in rounds.
        self._made: dict[Digest, int] = {}
        # What is not named any more and may still lie on the disk.
        self._gone: set[Digest] = set()
        metrics.watch("rounds_open", "Open federated rounds", lambda: self.open_count)
        metrics.watch(
            "rounds_updates_missing",
            "Updates of open federated rounds that are waited for, and not here",
            lambda: sum([work.missing_count for work in self._works.values()]),
        )
        self.on_committed()

    @property
    def open_count(self) -> int:
        """How many rounds are open."""
        return sum([found.is_open for found in self._rounds.values()])

    def on_committed(self) -> None:
        """Look for what a block has changed in rounds."""
        state = self._chain.state
        past = state.get(CLOSED_ROUNDS)
        ids = (*(() if past is None else past.ids), *open_round_ids(state))
        records = {id: state.get(ROUND_TABLE, id) for id in ids}
        rounds = {id: found for id, found in records.items() if found is not None}
        # The state hands out the same value until it changes.
        if rounds.keys() != self._rounds.keys() or any(
            found is not self._rounds[id] for id, found in rounds.items()
        ):
            self._rounds = rounds
            self._name()
            self._changed.set()
        for work in self._works.values():
            work.on_committed()

    async def run(self) -> None:
        """Take part until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                for id, found in self._rounds.items():
                    if found.is_open and id not in self._works:
                        self._works[id] = RoundWork(id, self._bench)
                        group.create_task(self._work(self._works[id]))
                self._fetch_missing(group)
                await self._forget()
                await self._changed.wait()

    async def _work(self, work: RoundWork) -> None:
        await work.run()
        del self._works[work.id]

    def _fetch_missing(self, group: asyncio.TaskGroup) -> None:
        """Begin to fetch what every node is to have, and end what it need not have any more."""
        wanted = _of_all(tuple(self._rounds.values())).items()
        for gone in self._fetches.keys() - wanted:
            self._fetches.pop(gone).cancel()
        for digest, size_max in wanted:
            if (digest, size_max) not in self._fetches and self._blobs.find(digest) is None:
                task = group.create_task(self._fetch(digest, size_max))
                self._fetches[digest, size_max] = task

    async def _fetch(self, digest: Digest, size_max: int) -> None:
        """Ask for a blob until it is here; one that is slow, or nowhere, holds up no other."""
        pause_s, is_here = RETRY_S, False
        while not is_here:
            async with self._turns:
                with suppress(TimeoutError):
                    async with asyncio.timeout(ATTEMPT_S):
                        is_here = await self._fetcher.fetch(digest, size_max=size_max)
            if not is_here:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_S_MAX)
        self._fetches.pop((digest, size_max), None)

    def _name(self) -> None:
        """Tell the store which blobs are to be here."""
        limit = self._blobs.limits.store_size_max // PAST_SHARE
        rounds = tuple(self._rounds.values())
        made = _made_in(rounds, limit)
        for digest, size in self._computed().items():
            _add(made, [digest], size)
        named = dict(made)
        for digest, size in _of_all(rounds).items():
            _add(named, [digest], size)
        # Not a base: that is no work of the round, and may be of use to others.
        self._gone = (self._gone | self._made.keys()) - named.keys()
        self._made = made
        self._blobs.name(_PART, named)

    async def _forget(self) -> None:
        gone, self._gone = self._gone, set()
        if gone:
            try:
                await self._executor.run(self._blobs.forget, gone)
            except StorageError as error:
                # The store sweeps them once they are old.
                log.warning("blobs of federated rounds could not be removed", reason=str(error))

    def _computed(self) -> dict[Digest, int]:
        """Return the aggregates of open rounds that were computed here."""
        return {
            work.aggregate: self._rounds[work.id].terms.update_size
            for work in self._works.values()
            if work.aggregate is not None and work.id in self._rounds
        }


def _of_all(rounds: Sequence[FederatedRound]) -> dict[Digest, int]:
    """Return the blobs of rounds that every node fetches, with the size of each at most."""
    wanted: dict[Digest, int] = {}
    for found in rounds:
        if found.aggregate is not None:
            _add(wanted, [found.aggregate], found.terms.update_size)
    for found in rounds:
        is_used = found.is_open or found.aggregate is not None
        if is_used and bundled_name(found.terms.base) is None:
            _add(wanted, [found.terms.base], ARTIFACT_SIZE_MAX)
    return wanted


def _made_in(rounds: Sequence[FederatedRound], past_size_max: int) -> dict[Digest, int]:
    """Return what has been made in rounds and is to be kept, with the size of each.

    Parameters
    ----------
    rounds : sequence of FederatedRound
        The latest come last.
    past_size_max : int
        Of the updates of closed rounds together; older ones are not named any more.
    """
    named: dict[Digest, int] = {}
    past_size = 0
    for found in reversed(rounds):
        size = found.terms.update_size
        updates = [
            member.update
            for member in found.members
            if member.update is not None and (found.is_open or member.status == "included")
        ]
        if found.aggregate is not None:
            _add(named, [found.aggregate], size)
            past_size += len(updates) * size
        if found.is_open or (found.aggregate is not None and past_size <= past_size_max):
            _add(named, updates, size)
    return named


def _add(named: dict[Digest, int], digests: Iterable[Digest], size: int) -> None:
    """Name blobs, each with its size at most; that a smaller one is named too keeps nothing out."""
    for digest in digests:
        named[digest] = max(size, named.get(digest, 0))
