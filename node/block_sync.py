"""Catching up: fetching committed blocks from several peers at once.

A node learns from its peers' statuses how far they are. While it is behind it asks them for ranges
of the next blocks, one range of each peer, and commits what comes in ascending order; the driver
verifies each block and its certificate, so that a lying peer costs time and its own standing, never
a wrong block. Nobody waits for a peer that is slow where others could answer: what is needed next
is asked of another one too, and whoever failed is asked only where nobody else is left.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from chain.blocks import Block, decode_block
from chain.certificate import CommitCertificate, decode_certificate
from chain.errors import DecodeError
from chain.transactions import Transaction
from chain.types import Address, Digest, Height
from consensus.log import HEIGHTS_AHEAD_MAX
from node.members import Members
from node.ports import Executor, Transport
from node.progress import Progress
from node.protocol import GET_BLOCKS, SYNC_BLOCKS_MAX, Blocks, GetBlocks, encode_body
from node.storage.chain_store import ChainStore

ANSWER_TIMEOUT_S: Final = 5.0
"""How long a peer may take to answer before it is asked for fewer blocks the next time."""
SLOW_S: Final = 1.0
"""After so long, what is needed next is asked of another peer as well."""
PATIENCE_S: Final = 2.0
"""A peer that is one block ahead is left alone for so long: consensus will bring that block."""
PATIENCE_NEAR_S: Final = 1.0
"""The same for peers no further ahead than votes are kept for. Under full load the slowest of the
miners is always two blocks behind: to fetch what it is about to decide costs more than it waits."""
PATIENCE_BEHIND_S: Final = 0.3
"""The same for peers that are further ahead, unless blocks are being fetched already; and for all
right after a start: what was voted before it is not told again."""
PATIENCE_OBSERVER_S: Final = 0.1
"""An observer hears no votes and waits for no block; but it fetches those of a moment together."""
COUNT_STEP: Final = 2
"""How many blocks more a peer is asked for after an answer in time; half as many after a late
one."""
ANSWERS_MAX: Final = 8
"""Ranges that are asked for, or wait for those before them, at one time: what bounds the memory."""
LATE_POINTS: Final = 10
LIE_POINTS: Final = 100
"""No honest node sends a block that is not what it is called: whoever does is banned at once."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedBlock:
    """A block from a peer, unverified, with its certificate."""

    peer: Address
    block: Block
    certificate: CommitCertificate


@dataclass(slots=True)
class _Helper:
    """A peer that is asked for blocks.

    Attributes
    ----------
    count : int
        How many blocks it is asked for at once.
    asked : GetBlocks or None
        Its open question, asked at `asked_s`.
    late : GetBlocks or None
        The last question that it did not answer in time, when it claimed `late_height`; on a slow
        link even an honest answer is late, unless it is short.
    failed : bool
        Whether it has failed since it last helped.
    """

    count: int = SYNC_BLOCKS_MAX
    asked: GetBlocks | None = None
    asked_s: float = 0.0
    late: GetBlocks | None = None
    late_height: int = 0
    failed: bool = False


class BlockSync:
    """Keeps this node from falling behind.

    Parameters
    ----------
    progress : Progress
        What peers have said; others keep it up to date and tell `on_progress`.
    is_held : callable
        Tells whether nothing may be fetched now, because a snapshot is, or may be better.
    pooled : callable
        Returns a pending transaction by its full digest: a node that falls behind under load has
        read and verified most of what it fetches. Called from other threads.
    commit : callable
        Awaits that blocks, in ascending order, are verified and committed; returns once they are,
        or once one was refused.
    """

    def __init__(
        self,
        *,
        chain: ChainStore,
        transport: Transport,
        executor: Executor,
        members: Members,
        progress: Progress,
        is_held: Callable[[], bool] = lambda: False,
        pooled: Callable[[Digest], Transaction | None],
        commit: Callable[[Sequence[FetchedBlock]], Awaitable[None]],
    ) -> None:
        self._chain = chain
        self._transport = transport
        self._executor = executor
        self._members = members
        self._progress = progress
        self._is_held = is_held
        self._pooled = pooled
        self._commit = commit
        # At most one for each connected peer.
        self._helpers: dict[Address, _Helper] = {}
        # Answers that have come and wait to be decoded, and those that are: by first height.
        self._arrived: list[tuple[Address, Blocks]] = []
        self._fetched: dict[int, list[FetchedBlock]] = {}
        self._changed = asyncio.Event()
        self._turn = 0
        self._starts = True

    @property
    def is_behind(self) -> bool:
        """Whether peers are more than one block ahead."""
        return self._progress.highest_seen > self._chain.height + 1

    def on_progress(self) -> None:
        """Look again: a peer has moved on, or this node has."""
        self._changed.set()

    def on_disconnected(self, peer: Address) -> None:
        """Wait for a peer's answer no longer."""
        self._helpers.pop(peer, None)
        self._changed.set()

    def catch_up_with(self, peer: Address, height: Height) -> None:
        """Take note that `peer` has shown to have committed up to `height`."""
        self._progress.saw(peer, height)
        self._changed.set()

    def on_blocks(self, peer: Address, answer: Blocks) -> None:
        """Take an answer; one that nobody waits for says at least that its sender is ahead."""
        helper = self._helpers.get(peer)
        if helper is not None and _is_for(helper.asked, answer):
            helper.asked = None
            if answer.blocks:
                helper.count = min(helper.count + COUNT_STEP, SYNC_BLOCKS_MAX)
                helper.failed = False
            self._arrived.append((peer, answer))
            self._changed.set()
        elif answer.blocks:
            shown = answer.height + len(answer.blocks) - 1
            if helper is not None and _is_for(helper.late, answer):
                # What crossed a slow link was dear.
                shown = max(shown, helper.late_height)
                helper.late = None
                if len(self._arrived) < ANSWERS_MAX:
                    self._arrived.append((peer, answer))
            self.catch_up_with(peer, Height(shown))

    async def run(self) -> None:
        """Ask and commit until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while not self._is_held() and self._progress.holders(self._chain.height + 1):
                if not await self._moves_on_by_itself():
                    await self._download()
            self._starts = False

    async def _moves_on_by_itself(self) -> bool:
        """Wait whether consensus brings the next block: it does where the load is high."""
        before = self._chain.height
        await asyncio.sleep(self._patience_s())
        return self._chain.height > before

    def _patience_s(self) -> float:
        if not self._members.is_member:
            return PATIENCE_OBSERVER_S
        if self._starts:
            return PATIENCE_BEHIND_S
        if not self.is_behind:
            return PATIENCE_S
        is_near = self._progress.highest_seen <= self._chain.height + 1 + HEIGHTS_AHEAD_MAX
        return PATIENCE_NEAR_S if is_near else PATIENCE_BEHIND_S

    async def _download(self) -> None:
        """Fetch until nobody has the next block, or is about to send it."""
        fetching = False
        while not self._is_held():
            self._changed.clear()
            await self._decode_arrived()
            if await self._commit_next():
                fetching = True
                continue
            self._expire()
            # Having caught up all but one block, consensus is left to bring that.
            if not fetching or self.is_behind:
                self._ask_all()
            if not any(helper.asked for helper in self._helpers.values()) and not self._arrived:
                self._fetched.clear()
                return
            await self._wait()

    def _ask_all(self) -> None:
        """Ask everybody who has nothing to do for what is missing, the lowest heights first."""
        for peer in self._idle():
            room = ANSWERS_MAX - len(self._fetched) - len(self._arrived)
            room -= sum(helper.asked is not None for helper in self._helpers.values())
            question = self._missing_of(peer)
            if question is None:
                continue
            # What comes next is always asked for, lest what waits for it fill all the room.
            if room > 0 or question.height == self._chain.height + 1:
                helper = self._helpers[peer]
                if self._transport.send(peer, GET_BLOCKS, encode_body(GET_BLOCKS, question)):
                    helper.asked, helper.asked_s = question, asyncio.get_running_loop().time()

    def _idle(self) -> list[Address]:
        """Return whom to ask, in turn; those that failed only where nobody else has the block."""
        holders = self._progress.holders(self._chain.height + 1)
        for peer in holders:
            self._helpers.setdefault(peer, _Helper())
        good = [peer for peer in holders if not self._helpers[peer].failed] or holders
        self._turn += 1
        start = self._turn % len(good) if good else 0
        return [peer for peer in good[start:] + good[:start] if self._helpers[peer].asked is None]

    def _missing_of(self, peer: Address) -> GetBlocks | None:
        """Return the first range that nobody is about to send and that `peer` has."""
        helper = self._helpers[peer]
        at = self._chain.height + 1
        for start, stop in self._covered():
            if at < start:
                break
            at = max(at, stop)
        else:
            start = at + helper.count
        if peer not in self._progress.holders(at):
            return None
        # It may have more by now than it has said.
        count = min(helper.count, start - at)
        return GetBlocks(height=Height(at), count=count)

    def _covered(self) -> list[tuple[int, int]]:
        """Return the ranges that are here or on their way, ascending."""
        now_s, following = asyncio.get_running_loop().time(), self._chain.height + 1
        ranges = [(start, start + len(blocks)) for start, blocks in self._fetched.items()]
        ranges += [(int(a.height), int(a.height) + len(a.blocks)) for _, a in self._arrived]
        for helper in self._helpers.values():
            asked = helper.asked
            # Of what is needed next, a second copy is asked for: everything else waits for it.
            if asked is not None and not (
                asked.height <= following and helper.asked_s + SLOW_S <= now_s
            ):
                ranges.append((int(asked.height), int(asked.height) + asked.count))
        return sorted(ranges)

    def _expire(self) -> None:
        """Give up on those that have had their time."""
        now_s = asyncio.get_running_loop().time()
        for peer, helper in list(self._helpers.items()):
            if helper.asked is not None and helper.asked_s + ANSWER_TIMEOUT_S <= now_s:
                helper.late, helper.late_height = helper.asked, self._progress.height_of(peer)
                helper.asked = None
                helper.count = max(1, helper.count // 2)
                self._distrust(peer, LATE_POINTS, "no blocks in time")

    async def _wait(self) -> None:
        """Wait for news, or for the next moment at which somebody is slow or late."""
        now_s = asyncio.get_running_loop().time()
        moments = [
            helper.asked_s + limit_s
            for helper in self._helpers.values()
            if helper.asked is not None
            for limit_s in (SLOW_S, ANSWER_TIMEOUT_S)
        ]
        coming = [moment - now_s for moment in moments if moment > now_s]
        try:
            async with asyncio.timeout(min(coming, default=None)):
                await self._changed.wait()
        except TimeoutError:
            pass  # the moment has come

    async def _decode_arrived(self) -> None:
        """Decode what has come, beside the event loop."""
        while self._arrived:
            peer, answer = self._arrived[0]
            height = self._chain.height
            try:
                blocks = await self._executor.run(_decode, peer, answer, self._pooled)
            except DecodeError as error:
                self._distrust(peer, LIE_POINTS, str(error))
                blocks = []
            else:
                if not blocks and answer.height > height:
                    self._distrust(peer, LATE_POINTS, "it does not have what it said")
            del self._arrived[0]
            if blocks and answer.height + len(blocks) > self._chain.height + 1:
                known = self._fetched.get(int(answer.height), [])
                self._fetched[int(answer.height)] = max(known, blocks, key=len)

    async def _commit_next(self) -> bool:
        """Commit the fetched blocks that come next; tell whether there were any."""
        following = self._chain.height + 1
        for start in sorted(self._fetched):
            if start > following:
                return False
            blocks = self._fetched.pop(start)
            if start + len(blocks) <= following:
                continue
            await self._commit(blocks[following - start :])
            if self._chain.height < start + len(blocks) - 1:
                # The driver has said why, and has penalised the peer.
                self._fail(blocks[0].peer)
            return True
        return False

    def _distrust(self, peer: Address, points: int, reason: str) -> None:
        """Penalise a peer that did not do what it could have done."""
        log.warning("peer did not help to catch up", peer=peer.hex(), reason=reason)
        self._fail(peer)
        self._transport.penalise(peer, points, reason)

    def _fail(self, peer: Address) -> None:
        """Forget what the peer claimed; it is asked again once it has said how far it is."""
        self._progress.forget(peer)
        if peer in self._helpers:
            self._helpers[peer].failed = True


def _is_for(question: GetBlocks | None, answer: Blocks) -> bool:
    return (
        question is not None
        and question.height == answer.height
        and len(answer.blocks) <= question.count
    )


def _decode(
    peer: Address, answer: Blocks, pooled: Callable[[Digest], Transaction | None]
) -> list[FetchedBlock]:
    blocks = [
        FetchedBlock(
            peer=peer,
            block=decode_block(item.block, pooled),
            certificate=decode_certificate(item.certificate),
        )
        for item in answer.blocks
    ]
    for height, fetched in enumerate(blocks, answer.height):
        if fetched.block.header.height != height:
            raise DecodeError("blocks", f"height {fetched.block.header.height} where {height} was")
    return blocks
