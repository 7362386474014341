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
from collections.abc import Sequence
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
RETRY_S_MAX: Final = 640.0
"""How often a missing aggregate or base is asked for, in pauses that double."""

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
        self._closed = asyncio.Event()
        self._named: dict[Digest, int] = {}
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
            self._closed.set()
        for work in self._works.values():
            work.on_committed()

    async def run(self) -> None:
        """Take part until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_blobs())
            while True:
                self._changed.clear()
                for id, found in self._rounds.items():
                    if found.is_open and id not in self._works:
                        self._works[id] = RoundWork(id, self._bench)
                        group.create_task(self._work(self._works[id]))
                await self._changed.wait()

    async def _work(self, work: RoundWork) -> None:
        await work.run()
        del self._works[work.id]

    async def _keep_blobs(self) -> None:
        """Fetch what every node is to have, and let go what no round names any more."""
        pause_s = RETRY_S
        while True:
            if self._closed.is_set():
                pause_s = RETRY_S
            self._closed.clear()
            await self._forget()
            fetched = [
                await self._fetcher.fetch(digest, size_max=size_max)
                for digest, size_max in _of_all(tuple(self._rounds.values())).items()
            ]
            with suppress(TimeoutError):
                async with asyncio.timeout(None if all(fetched) else pause_s):
                    await self._closed.wait()
            pause_s = min(2 * pause_s, RETRY_S_MAX)

    def _name(self) -> None:
        """Tell the store which blobs are to be here."""
        limit = self._blobs.limits.store_size_max // PAST_SHARE
        named = _names(tuple(self._rounds.values()), limit) | self._computed()
        self._gone = (self._gone | self._named.keys()) - named.keys()
        self._named = named
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
            wanted[found.aggregate] = found.terms.update_size
        is_used = found.is_open or found.aggregate is not None
        if is_used and bundled_name(found.terms.base) is None:
            wanted[found.terms.base] = ARTIFACT_SIZE_MAX
    return wanted


def _names(rounds: Sequence[FederatedRound], past_size_max: int) -> dict[Digest, int]:
    """Return the blobs that rounds name, with the size of each; the latest rounds come last.

    Parameters
    ----------
    past_size_max : int
        Of the updates of closed rounds together; older ones are not named any more.
    """
    named = _of_all(rounds)
    past_size = 0
    for found in reversed(rounds):
        updates = [
            member.update
            for member in found.members
            if member.update is not None and (found.is_open or member.status == "included")
        ]
        if found.aggregate is not None:
            past_size += len(updates) * found.terms.update_size
        if found.is_open or (found.aggregate is not None and past_size <= past_size_max):
            named |= dict.fromkeys(updates, found.terms.update_size)
    return named
