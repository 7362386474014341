"""Joining by snapshot: the state and the look-back from peers, nothing of the blocks before.

What to fetch is one block that a peer has a snapshot of. It is trusted because certificates lead to
it from the genesis document, or from a block that the operator named; after that everything proves
itself (`node.storage.staging`), so that it may come from anybody, in parts, from several peers at
once, and again after a restart from where it stopped. Whoever sends what does not prove itself is
banned, and the others are asked.

docs/spec/p2p.md, section "Joining by snapshot", and docs/adr/0019 say more.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import structlog

from chain.blocks import Header
from chain.errors import (
    DecodeError,
    InvalidCertificate,
    InvalidProof,
    SecureNetError,
    UntrustedHeader,
)
from chain.light_client import LightClient, verify_header
from chain.state_range import decode_piece
from chain.types import TIME_MS_MAX, Address, Digest, Height
from node.light_walk import Decided, walk
from node.past import PastBlock, unpack_decided
from node.ports import Clock, Executor, Transport
from node.progress import Progress
from node.protocol import (
    SYNC_BLOCKS_MAX,
    DecidedAnswer,
    GetDecided,
    GetPast,
    GetPiece,
    PastAnswer,
    PieceAnswer,
)
from node.questions import Questions
from node.storage.adoption import SEGMENTS
from node.storage.chain_store import ChainStore
from node.storage.staging import Staging

BEYOND_BLOCKS_DEFAULT: Final = 2_000
"""So far ahead peers are where an empty node takes a snapshot rather than every block."""
RETRY_S: Final = 1.0
"""How long to wait after an attempt that failed."""
LOOK_AGAIN_S: Final = 5.0
"""How often to look whether a snapshot is wanted, even without news."""
IDLE_S: Final = 0.05
WORKERS: Final = 2
"""For each peer: while one checks a piece, the other waits for the next."""
RANGES_AHEAD: Final = 4
"""Ranges of past blocks that are fetched at one time."""
RANGE_SIZE_MAX: Final = 16 * 1024 * 1024
"""A range ends with the answer that brings it to so many bytes: nothing of it has proven itself
yet, so this bounds what peers can make the node hold."""
LIE_POINTS: Final = 100
"""No honest node sends what does not prove itself: whoever does is banned at once."""
LATE_POINTS: Final = 10

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """A block that the operator knows to be of the chain."""

    height: int
    hash: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncSettings:
    """How a node that is behind catches up.

    Parameters
    ----------
    mode : {"auto", "blocks", "snapshot"}
        By every block; by snapshot wherever the node starts from nothing; or by what is better.
    beyond_blocks : int
        What "far ahead" means to "auto".
    trusted : Trusted, optional
        Believed instead of genesis.
    """

    mode: Literal["auto", "blocks", "snapshot"] = "auto"
    beyond_blocks: int = BEYOND_BLOCKS_DEFAULT
    trusted: Trusted | None = None


class _Unhelpful(SecureNetError):
    """A peer did not answer, or not with what was asked for."""


class StateSync:
    """Fetches a snapshot where that is better than blocks, or the only way.

    Parameters
    ----------
    first_header : Header
        That of genesis.
    on_released : callable
        Told when blocks may be fetched again, or for the first time.

    Attributes
    ----------
    is_active : bool
        Whether a snapshot is being fetched.
    """

    def __init__(
        self,
        *,
        chain: ChainStore,
        staging: Staging,
        transport: Transport,
        executor: Executor,
        clock: Clock,
        progress: Progress,
        first_header: Header,
        settings: SyncSettings,
        on_released: Callable[[], None],
    ) -> None:
        self._chain = chain
        self._staging = staging
        self._transport = transport
        self._executor = executor
        self._clock = clock
        self._progress = progress
        self._first_header = first_header
        self._settings = settings
        self._on_released = on_released
        self.questions = Questions(transport)
        self.is_active = False
        self._changed = asyncio.Event()
        # Whom not to ask in this attempt any more.
        self._unhelpful: set[Address] = set()
        # The staging area is written by one at a time.
        self._turn = asyncio.Lock()
        # How many past blocks the next ranges have; large blocks make it less.
        self._range_count = SYNC_BLOCKS_MAX
        self._asked_count = 0

    def holds_blocks(self) -> bool:
        """Tell whether no blocks may be fetched now: a snapshot is, or may prove to be better."""
        if self.is_active:
            return True
        undecided = self._settings.mode != "blocks" and not self._progress.is_settled
        return undecided and self._chain.height == 0

    def on_progress(self) -> None:
        """Look again: a peer has moved on, or this node has."""
        self._changed.set()

    async def run(self) -> None:
        """Return once a whole chain is staged: the node has to be started again, on that.

        Where no snapshot is wanted it runs until it is cancelled.
        """
        while not self._progress.is_settled:
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S):
                    await self._changed.wait()
            self._changed.clear()
        self._on_released()
        while True:
            height = self._wanted()
            if height is not None:
                self.is_active = True
                if await self._fetch(height):
                    return
                await asyncio.sleep(RETRY_S)
                continue
            if self.is_active:
                self.is_active = False
                self._on_released()
            await self._drop_overtaken()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_S):
                    await self._changed.wait()
            self._changed.clear()

    async def _drop_overtaken(self) -> None:
        """Free the disk of what was staged of a block that has come by other ways meanwhile."""
        begun = self._staging.target
        if begun is not None and begun.header.height <= self._chain.height:
            await self._executor.run(self._staging.clear)

    # What to fetch

    def _wanted(self) -> int | None:
        """Return the height of the snapshot to fetch, or None where blocks are better."""
        mode, own = self._settings.mode, self._chain.height
        trusted = self._settings.trusted
        highest = self._progress.highest_seen
        lowest = max(own + 1, 0 if trusted is None else trusted.height)
        offered = [
            height
            for height in self._progress.snapshots()
            if height >= lowest and self._helpers(height)
        ]
        if mode == "blocks" or not offered:
            # Those that did not help before are asked again.
            self._unhelpful.clear()
            return None
        is_empty = own == 0
        # One peer's word would not do: it could name any height, and so hold up the blocks.
        are_blocks_gone = highest > own and not self._progress.holders(own + 1)
        is_far = highest - own > self._settings.beyond_blocks
        if not (are_blocks_gone or (is_empty and (mode == "snapshot" or is_far))):
            return None
        begun = self._staging.target
        if begun is not None and begun.header.height in offered:
            return begun.header.height
        return max(offered)

    def _helpers(self, height: int) -> list[Address]:
        """Return who has the snapshot and may be asked."""
        return [
            peer
            for peer in self._progress.snapshots().get(height, [])
            if peer not in self._unhelpful
        ]

    async def _fetch(self, height: int) -> bool:
        """Fetch everything; return whether it is whole."""
        if not await self._begin(height):
            return False
        log.info("state is fetched from peers", height=height)
        if not await self._fetch_state(height):
            return False
        log.info("state fetched and proven; now the blocks that rules look back at", height=height)
        if not await self._fetch_lookback():
            return False
        await self._executor.run(self._staging.finish)
        log.info("snapshot complete; the node starts again on it", height=height)
        return True

    # The trusted header

    async def _begin(self, height: int) -> bool:
        """Find the trusted block of a height, unless it is that of the staged chain."""
        begun = self._staging.target
        if begun is not None and begun.header.height == height:
            return True
        for peer in self._helpers(height):
            try:
                target, steps = await self._walk(peer, height)
            except _Unhelpful as error:
                self._blame(peer, LATE_POINTS, str(error))
            except (DecodeError, InvalidCertificate, UntrustedHeader) as error:
                self._blame(peer, LIE_POINTS, str(error))
            else:
                await self._executor.run(self._staging.begin, target, steps)
                return True
        return False

    async def _walk(self, peer: Address, height: int) -> tuple[Decided, list[Decided]]:
        """Return the trusted block of `height`, and what led to it; one peer tells all of it."""
        light = await self._light_client(peer)
        target = await self._decided(peer, height)
        if target.header.height != height:
            raise _Unhelpful("it does not have the block of its snapshot")
        if light.trusted.hash == target.header.hash:
            if target.miners.hash != target.header.miner_set_hash:
                raise UntrustedHeader("the trusted header names other miners")
            verify_header(target.header, target.certificate, target.miners)
            return target, []
        # A clock of this node that is behind must not make liars of all others: certificates vouch
        # for the time of a header too.
        now_ms = max(self._clock.wall_ms(), target.header.time_ms)
        decided = partial(self._decided, peer)
        return target, await walk(light, target, decided=decided, now_ms=now_ms)

    async def _light_client(self, peer: Address) -> LightClient:
        """Return a light client that trusts what the operator does: genesis, or a later block."""
        # Certificates prove a way from there, whatever its age; docs/spec/light_client.md says
        # what genesis alone cannot promise.
        trusted = self._settings.trusted
        if trusted is None:
            return LightClient(self._first_header, trusting_period_ms=TIME_MS_MAX)
        named = await self._decided(peer, trusted.height)
        if named.header.hash != trusted.hash:
            raise UntrustedHeader(f"its block {trusted.height} is not the one that is trusted")
        return LightClient(named.header, trusting_period_ms=TIME_MS_MAX)

    async def _decided(self, peer: Address, height: int) -> Decided:
        answer = await self.questions.ask(peer, GetDecided(height=Height(height)))
        if not isinstance(answer, DecidedAnswer) or answer.found is None:
            raise _Unhelpful(f"no header of block {height}")
        decided = unpack_decided(answer.found)
        if decided.header.height < height:
            raise UntrustedHeader(f"block {decided.header.height} instead of {height}")
        return decided

    # The state

    async def _fetch_state(self, height: int) -> bool:
        """Fetch the pieces of the state, from all peers that have them at once."""
        segments = deque(range(SEGMENTS))
        async with asyncio.TaskGroup() as group:
            working: dict[tuple[Address, int], asyncio.Task[None]] = {}
            while not self._staging.has_state:
                for peer in self._helpers(height):
                    for key in ((peer, number) for number in range(WORKERS)):
                        if key not in working or working[key].done():
                            task = group.create_task(self._fetch_pieces(peer, height, segments))
                            working[key] = task
                running = [task for task in working.values() if not task.done()]
                if not running:
                    return False
                await asyncio.wait(running, timeout=RETRY_S, return_when=asyncio.FIRST_COMPLETED)
            for task in working.values():
                task.cancel()
        return True

    async def _fetch_pieces(self, peer: Address, height: int, segments: deque[int]) -> None:
        """Ask one peer for pieces until there is nothing left, or it does not help."""
        while not self._staging.has_state and peer in self._helpers(height):
            if not segments:
                # Others fetch all that is missing, but may fail.
                await asyncio.sleep(IDLE_S)
                continue
            segment = segments.popleft()
            path = self._staging.wanted(segment)
            if path is None:
                continue
            try:
                await self._fetch_piece(peer, height, path)
            finally:
                segments.append(segment)

    async def _fetch_piece(self, peer: Address, height: int, path: Digest) -> None:
        answer = await self.questions.ask(peer, GetPiece(height=Height(height), path=path))
        if not isinstance(answer, PieceAnswer) or not answer.piece:
            self._blame(peer, LATE_POINTS, "no piece of its snapshot")
            return
        try:
            async with self._turn:
                await self._executor.run(self._add_piece, answer.piece, path)
        except (DecodeError, InvalidProof) as error:
            self._blame(peer, LIE_POINTS, str(error))

    def _add_piece(self, data: bytes, path: Digest) -> None:
        piece = decode_piece(data)
        if not piece.first <= path <= piece.last:
            raise InvalidProof("a piece of elsewhere")
        if not piece.is_full:
            raise InvalidProof("a piece that ends too early")
        self._staging.add_piece(piece)

    # The look-back

    async def _fetch_lookback(self) -> bool:
        """Fetch past blocks in several ranges at once, and take them in from the highest down."""
        ranges: deque[tuple[int, int, asyncio.Task[_Range]]] = deque()
        async with asyncio.TaskGroup() as group:
            try:
                while not await self._executor.run(lambda: self._staging.has_lookback):
                    if ranges and ranges[0][0] != self._staging.next_block:
                        # One before has failed or come short; what follows does not fit.
                        _cancel(ranges)
                    top = ranges[-1][1] if ranges else self._staging.next_block
                    while len(ranges) < RANGES_AHEAD and top > 0:
                        bottom = max(0, top - self._range_count)
                        task = group.create_task(self._fetch_range(top, bottom))
                        ranges.append((top, bottom, task))
                        top = bottom
                    found = await ranges.popleft()[2]
                    if not found:
                        return False
                    await self._add_range(found)
                    self._range_count = _count_for(found)
            finally:
                _cancel(ranges)
        return True

    async def _fetch_range(self, top: int, bottom: int) -> "_Range":
        """Return blocks from `top` down to above `bottom`, and who sent them.

        Fewer if nobody can, or if they are large. Peers are asked in turn, each for the rest of
        what the one before has sent.
        """
        found: _Range = []
        while top > bottom and _size_of(found) < RANGE_SIZE_MAX:
            peer = self._next_helper(top)
            if peer is None:
                break
            question = GetPast(height=Height(top), count=top - bottom)
            answer = await self.questions.ask(peer, question)
            if not isinstance(answer, PastAnswer) or not answer.blocks:
                self._blame(peer, LATE_POINTS, "no past blocks")
                continue
            blocks = answer.blocks[: question.count]
            found.append((peer, blocks))
            top -= len(blocks)
        return found

    def _next_helper(self, height: int) -> Address | None:
        """Return a peer that has the block, another one the next time."""
        peers = [peer for peer in self._progress.holders(height) if peer not in self._unhelpful]
        self._asked_count += 1
        return peers[self._asked_count % len(peers)] if peers else None

    async def _add_range(self, found: "_Range") -> None:
        """Take in a range, as far as it is right."""
        for peer, blocks in found:
            try:
                await self._executor.run(self._staging.add_blocks, blocks)
            except (DecodeError, InvalidProof, InvalidCertificate) as error:
                self._blame(peer, LIE_POINTS, str(error))
                return

    def _blame(self, peer: Address, points: int, reason: str) -> None:
        """Ask a peer no more in this attempt."""
        log.warning("peer did not help with a snapshot", peer=peer.hex(), reason=reason)
        self._unhelpful.add(peer)
        if peer in self._transport.connected():
            self._transport.penalise(peer, points, reason)


def _cancel(ranges: "deque[tuple[int, int, asyncio.Task[_Range]]]") -> None:
    for _, _, task in ranges:
        task.cancel()
    ranges.clear()


def _size_of(found: "_Range") -> int:
    return sum([past.size for _, blocks in found for past in blocks])


def _count_for(found: "_Range") -> int:
    """Return how many blocks like these fill half of what a range may have."""
    count = sum([len(blocks) for _, blocks in found])
    return min(SYNC_BLOCKS_MAX, max(1, RANGE_SIZE_MAX // 2 * count // _size_of(found)))


_Range = list[tuple[Address, Sequence[PastBlock]]]
