"""A miner's part in one federated round: to say which updates are here, and what they come to.

Everything it knows is on the chain and in the blobs, so it goes on after a restart where the round
is. What it sends is sent again until the chain has it; the chain takes it once.
docs/spec/federated.md, sections 2 and 4.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog

from chain.blobs import CHUNK_SIZE, chunk_count, digest_of_root
from chain.eligibility import is_active
from chain.errors import InvalidProof
from chain.federated.records import (
    REVEAL_TABLE,
    ROUND_TABLE,
    FederatedRound,
    Member,
    RevealRecord,
)
from chain.kinds.base import Kind
from chain.kinds.rounds import AGGREGATE, ATTEST, RoundAggregate, RoundAttest
from chain.merkle import leaf_hash, root_of_hashes
from chain.state import miner_sets_of
from chain.types import Address, Digest
from ml_validator.errors import InvalidUpdate, ModelError, VoidGroup
from ml_validator.federated import Contribution
from node.blobs.fetcher import BlobFetcher
from node.blobs.store import BlobStore
from node.damage import report_damage
from node.errors import BlobRefused, DamagedEntry, MissingBlob, StorageError
from node.metrics import Metrics
from node.own_transactions import OwnTransactions
from node.ports import Clock, Executor
from node.round_sums import RoundSums
from node.storage.chain_store import ChainStore
from node.tasks import first_error

PAUSE_S: Final = 0.5
"""Before it is looked again for what is missing; so often, at most, a miner attests."""
PAUSE_S_MAX: Final = 2.0
"""The same when nothing has come for a while: pauses double until something does."""
SAY_NS: Final = 2 * 10**9
"""While updates come, it says so often which are here."""
LOOKED_FOR_AT_ONCE: Final = 4
"""Updates that are fetched beside each other, so that who is slow holds up no others."""
LOOK_S: Final = 4.0
LOOK_S_MAX: Final = 32.0
"""After so long without any chunk, or twice as long with some, an update makes way for others; the
next time it has twice as long. Chunks that have come stay."""
RESCAN_S: Final = 5.0
"""How often it looks without a block."""
RESEND_NS: Final = 20 * 10**9
"""What is not on the chain so long after it was sent got lost, and is sent again."""
SOURCE: Final = "federated rounds"
"""From where aggregates come into the blob store."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What the work in all rounds of a node is done with.

    Parameters
    ----------
    turn : asyncio.Lock
        Held by the round that computes: one at a time is in memory.
    on_named : callable
        Told when a round has computed an aggregate, which is to find room.
    """

    chain: ChainStore
    blobs: BlobStore
    fetcher: BlobFetcher
    executor: Executor
    own: OwnTransactions
    miner: Address
    clock: Clock
    metrics: Metrics
    turn: asyncio.Lock
    on_named: Callable[[], None]


class RoundWork:
    """Works in one round until it is closed.

    Attributes
    ----------
    id : Digest
        Of the federated round.
    aggregate : Digest or None
        What has been computed here, as a blob.
    missing_count : int
        Updates that are named and were not here when it was looked last.
    """

    def __init__(self, id: Digest, bench: Bench) -> None:
        self.id = id
        self.aggregate: Digest | None = None
        self.missing_count = 0
        self._bench = bench
        # Places of members whose updates were seen, and whether those are sound.
        self._seen: dict[int, bool] = {}
        self._root: Digest | None = None
        self._abstains = False
        # What was sent last, and when.
        self._sent: tuple[object, int] = (None, 0)
        self._changed = asyncio.Event()
        self._changed.set()

    def on_committed(self) -> None:
        """Look again after a block."""
        self._changed.set()

    async def run(self) -> None:
        """Do what there is to do until the round is closed."""
        pause_s = PAUSE_S
        while (found := self._record()) is not None and found.is_open:
            self._changed.clear()
            missing = self.missing_count
            if self._may_act() and not await self._act(found):
                await asyncio.sleep(pause_s)
                has_come = self.missing_count < missing
                pause_s = PAUSE_S if has_come else min(2 * pause_s, PAUSE_S_MAX)
                continue
            pause_s = PAUSE_S
            with suppress(TimeoutError):
                async with asyncio.timeout(RESCAN_S):
                    await self._changed.wait()
        self.missing_count = 0
        if found is not None:
            self._tell_end(found)

    async def _act(self, found: FederatedRound) -> bool:
        """Do this phase's part; return whether nothing is left of it for now."""
        try:
            match found.phase:
                case "attest":
                    return await self._attest(found)
                case "reveal":
                    # What others have attested, and is not here, is needed next.
                    return await self._gather(found)
                case "aggregate":
                    return await self._vote(found)
            return True
        except DamagedEntry as error:
            # The store has dropped it; it is fetched again.
            report_damage(error, self._bench.metrics)
        except MissingBlob as error:
            log.debug("an update was lost a moment ago", reason=str(error))
        except StorageError as error:
            # The chain goes on without blobs; a failing disk stops it where it must.
            log.warning("an update cannot be read", round=self.id.hex(), reason=str(error))
        return False

    # --- attest -----------------------------------------------------------------------------------

    async def _attest(self, found: FederatedRound) -> bool:
        turns = asyncio.Semaphore(LOOKED_FOR_AT_ONCE)
        looks = [
            self._see(place, member, found, turns)
            for place, member in enumerate(found.members)
            if member.status == "committed"
            and member.group in found.groups
            and place not in self._seen
        ]
        said_ns, count = self._clock_ns(), len(self._seen)

        async def say(now: FederatedRound) -> None:
            nonlocal said_ns, count
            # At once where no more come, lest it is said of each by itself.
            if len(self._seen) == count or self._clock_ns() - said_ns > SAY_NS:
                await self._say_held(now)
                said_ns = self._clock_ns()
            count = len(self._seen)

        await self._look("attest", looks, say)
        if (now := self._at("attest")) is not None:
            await self._say_held(now)
        return True

    async def _see(
        self, place: int, member: Member, found: FederatedRound, turns: asyncio.Semaphore
    ) -> None:
        await self._look_for(member, found, turns)
        self._seen[place] = await self._is_sound(member, found)

    async def _is_sound(self, member: Member, found: FederatedRound) -> bool:
        """Tell whether an update may be included; a masked one tells nothing of itself."""
        if not found.terms.is_masked:
            try:
                await self._bench.executor.run(self._sums(found).check, member)
            except InvalidUpdate as error:
                self._bench.metrics.round_update_seen(is_sound=False)
                log.warning(
                    "an update is not attested",
                    round=self.id.hex(),
                    device=member.device.hex(),
                    reason=str(error),
                )
                return False
        self._bench.metrics.round_update_seen(is_sound=True)
        return True

    async def _say_held(self, found: FederatedRound) -> None:
        said = sum(
            [
                int.from_bytes(entry.held, "big")
                for entry in found.attestations
                if entry.miner == self._bench.miner
            ]
        )
        held = said | sum([1 << place for place, is_sound in self._seen.items() if is_sound])
        if held == said:
            return
        body = RoundAttest(round=self.id, held=held.to_bytes((len(found.members) + 7) // 8, "big"))
        if await self._send(ATTEST, body):
            log.info(
                "updates attested",
                round=self.id.hex(),
                held=held.bit_count(),
                committed=sum([member.update is not None for member in found.members]),
            )

    # --- aggregate --------------------------------------------------------------------------------

    async def _vote(self, found: FederatedRound) -> bool:
        if self._abstains or any(vote.miner == self._bench.miner for vote in found.votes):
            return True
        if self._root is None and not await self._compute(found):
            return self._abstains
        assert self._root is not None, "it was computed"
        if await self._send(AGGREGATE, RoundAggregate(round=self.id, root=self._root)):
            self._bench.metrics.round_aggregate("sent")
        return True

    async def _compute(self, found: FederatedRound) -> bool:
        """Make sure that the aggregate is computed and held; return whether it is."""
        if not await self._gather(found):
            return False
        async with self._bench.turn:
            started_ns = self._bench.clock.monotonic_ns()
            try:
                contributions = await self._contributions(found)
                if not self._is_at("aggregate"):
                    # Others were faster; what was revealed is forgotten.
                    return False
                data = await self._bench.executor.run(self._sums(found).join, contributions)
            except ModelError as error:
                self._abstains = True
                self._bench.metrics.round_aggregate("abstained")
                log.warning("no aggregate", round=self.id.hex(), reason=str(error))
                return False
            self._bench.metrics.round_computed(self._bench.clock.monotonic_ns() - started_ns)
            return await self._publish(data, groups=len(contributions))

    async def _contributions(self, found: FederatedRound) -> list[Contribution]:
        sums, run = self._sums(found), self._bench.executor.run
        contributions: list[Contribution] = []
        for group in found.groups:
            if not self._is_at("aggregate"):
                break
            try:
                revealed = self._revealed(found, group)
                contributions.append(await run(sums.contribution_of, group, revealed))
            except VoidGroup as error:
                self._bench.metrics.round_group_void()
                log.warning(
                    "a group is left out of the aggregate",
                    round=self.id.hex(),
                    group=group,
                    reason=error.reason,
                )
        return contributions

    async def _publish(self, data: bytes, *, groups: int) -> bool:
        """Hold the aggregate: who says its digest hands it out."""
        root = await self._bench.executor.run(_root_of, data)
        self.aggregate = digest_of_root(len(data), root)
        self._bench.on_named()
        if self._bench.blobs.find(self.aggregate) is None:
            try:
                await self._bench.executor.run(_put, self._bench.blobs, data, self.aggregate)
            except (BlobRefused, InvalidProof, StorageError) as error:
                # As everywhere with blobs, the chain goes on; a full disk stops it where it must.
                log.warning("the aggregate cannot be kept", round=self.id.hex(), reason=str(error))
                return False
        self._root = root
        log.info(
            "aggregate computed",
            round=self.id.hex(),
            aggregate=self.aggregate.hex(),
            groups=groups,
        )
        return True

    def _revealed(self, found: FederatedRound, group: int) -> Mapping[Address, RevealRecord]:
        """Return what the chain has of a group's shares; a group at a time, for they are many."""
        records = {
            member.device: self._bench.chain.state.get(REVEAL_TABLE, self.id + member.device)
            for member in found.members_of(group)
        }
        return {device: record for device, record in records.items() if record is not None}

    # --- all --------------------------------------------------------------------------------------

    async def _gather(self, found: FederatedRound) -> bool:
        """Look for all updates that count; return whether they are here."""
        turns = asyncio.Semaphore(LOOKED_FOR_AT_ONCE)
        looks = [
            self._look_for(member, found, turns)
            for member in found.members
            if member.status == "included" and member.group in found.groups
        ]
        return await self._look(found.phase, looks)

    async def _look(
        self,
        phase: str,
        looks: Iterable[Coroutine[Any, Any, None]],
        meanwhile: Callable[[FederatedRound], Awaitable[None]] | None = None,
    ) -> bool:
        """Look for updates beside each other, until all are here or the phase is over.

        Parameters
        ----------
        meanwhile : callable, optional
            Called now and then with the round as it is by then.

        Returns
        -------
        bool
            Whether all are here.
        """
        with first_error():
            async with asyncio.TaskGroup() as group:
                left = {group.create_task(look) for look in looks}
                while left:
                    _, left = await asyncio.wait(left, timeout=PAUSE_S)
                    self.missing_count = len(left)
                    found = self._at(phase)
                    if found is None:
                        self.missing_count = 0
                        for look in left:
                            look.cancel()
                        return False
                    if meanwhile is not None:
                        await meanwhile(found)
        return True

    async def _look_for(
        self, member: Member, found: FederatedRound, turns: asyncio.Semaphore
    ) -> None:
        """Look for an update until it is here.

        Whoever answers slowly, be it that it has nothing, is not waited for longer than it takes
        until the update may have come to somebody else.
        """
        pause_s, patience_s = PAUSE_S, LOOK_S
        while True:
            async with turns:
                if await self._bring(member, found, patience_s):
                    return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)
            patience_s = min(2 * patience_s, LOOK_S_MAX)

    async def _bring(self, member: Member, found: FederatedRound, patience_s: float) -> bool:
        """Return whether an update is held, fetching it where a peer has it."""
        assert member.update is not None, "who has committed has an update"
        return await self._bench.fetcher.fetch(
            member.update, size_max=found.terms.update_size, patience_s=patience_s
        )

    async def _send(self, kind: Kind, body: Any) -> bool:
        """Send a transaction unless it is on its way; return whether it was sent."""
        now_ns = self._clock_ns()
        sent, sent_ns = self._sent
        if sent == body and now_ns - sent_ns < RESEND_NS:
            return False
        self._sent = (body, now_ns)
        refusal = await self._bench.own.send(kind, body)
        if refusal is not None:
            log.info(
                "not taken in a federated round",
                round=self.id.hex(),
                kind=kind.name,
                reason=str(refusal),
            )
        return refusal is None

    def _clock_ns(self) -> int:
        return self._bench.clock.monotonic_ns()

    def _record(self) -> FederatedRound | None:
        return self._bench.chain.state.get(ROUND_TABLE, self.id)

    def _at(self, phase: str) -> FederatedRound | None:
        found = self._record()
        return found if found is not None and found.phase == phase else None

    def _is_at(self, phase: str) -> bool:
        return self._at(phase) is not None

    def _may_act(self) -> bool:
        state, miner = self._bench.chain.state, self._bench.miner
        current, _ = miner_sets_of(state)
        return miner in current and is_active(state, miner)

    def _sums(self, found: FederatedRound) -> RoundSums:
        return RoundSums(id=self.id, found=found, blobs=self._bench.blobs)

    def _tell_end(self, found: FederatedRound) -> None:
        own = [vote.digest for vote in found.votes if vote.miner == self._bench.miner]
        if found.aggregate is not None and own not in ([], [found.aggregate]):
            self._bench.metrics.round_aggregate("overruled")
            log.error(
                "this miner's aggregate was overruled; its disk, memory or programs are damaged",
                round=self.id.hex(),
                aggregate=found.aggregate.hex(),
                own=own[0].hex(),
            )
        log.info(
            "federated round closed",
            round=self.id.hex(),
            phase=found.phase,
            reason=found.reason,
            aggregate=None if found.aggregate is None else found.aggregate.hex(),
        )


def _chunks(data: bytes) -> list[bytes]:
    return [
        data[index * CHUNK_SIZE : (index + 1) * CHUNK_SIZE]
        for index in range(chunk_count(len(data)))
    ]


def _root_of(data: bytes) -> Digest:
    return root_of_hashes([leaf_hash(chunk) for chunk in _chunks(data)])


def _put(blobs: BlobStore, data: bytes, digest: Digest) -> None:
    draft = blobs.begin_upload(len(data), source=SOURCE, digest=digest)
    for index, chunk in enumerate(_chunks(data)):
        draft.write(index, chunk)
    blobs.finish(draft, digest)
