"""Catching up: fetching committed blocks from peers, and answering those that are behind.

A node learns from its peers' statuses how far they are. While it is behind it asks one of them
for the next blocks; the driver verifies each block and its certificate before it is committed, so
that a lying peer costs time and its own standing, never a wrong block.

Blocks are read, decoded and encoded in the executor, one answer at a time: a small question must
not stop the event loop for a large answer.
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
from node.damage import report_damage
from node.errors import DamagedEntry, Pruned
from node.members import Members
from node.metrics import Metrics
from node.ports import Executor, Transport
from node.protocol import (
    BLOCKS,
    GET_BLOCKS,
    STATUS,
    SYNC_BLOCKS_MAX,
    SYNC_SIZE_MAX,
    Blocks,
    GetBlocks,
    Status,
    SyncBlock,
    encode_body,
)
from node.storage.chain_store import ChainStore

ANSWER_TIMEOUT_S: Final = 5.0
"""How long a peer may take to answer before another is asked, for fewer blocks."""
PATIENCE_S: Final = 2.0
"""A peer that is one block ahead is left alone for so long: consensus will bring that block."""
PATIENCE_BEHIND_S: Final = 0.3
"""The same for peers that are further ahead, unless blocks are being fetched already."""
PATIENCE_OBSERVER_S: Final = 0.1
"""An observer hears no votes and waits for no block; but it fetches those of a moment together."""
COUNT_STEP: Final = 2
"""How many blocks more are asked for after an answer in time; half as many after a late one."""
LATE_POINTS: Final = 10
LIE_POINTS: Final = 50

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedBlock:
    """A block from a peer, unverified, with its certificate."""

    peer: Address
    block: Block
    certificate: CommitCertificate


class BlockSync:
    """Keeps this node from falling behind.

    Parameters
    ----------
    members : Members
        Whose word counts: one liar must not make a node believe that it is behind.
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
        metrics: Metrics,
        pooled: Callable[[Digest], Transaction | None],
        commit: Callable[[Sequence[FetchedBlock]], Awaitable[None]],
    ) -> None:
        self._chain = chain
        self._transport = transport
        self._executor = executor
        self._members = members
        self._metrics = metrics
        self._pooled = pooled
        self._commit = commit
        # Both hold at most one entry for each connected peer.
        self._heights: dict[Address, int] = {}
        self._questions: dict[Address, GetBlocks] = {}
        self._questioned = asyncio.Event()
        self._changed = asyncio.Event()
        # How many blocks are asked for at once: fewer where the last answer came too late.
        self._count = SYNC_BLOCKS_MAX
        # The peer that was asked last, for which height, and where its answer goes.
        self._asked: tuple[Address, int] | None = None
        self._answer: asyncio.Future[Blocks | None] | None = None
        # The last that was too late, how far it had said to be, and its answer once that has come.
        self._late: tuple[Address, int] | None = None
        self._late_height = 0
        self._late_answer: Blocks | None = None

    @property
    def highest_seen(self) -> int:
        """The highest committed height that peers have told of, as far as one of them is honest.

        With fewer than f + 1 miners connected it is what all of those have reached; without any,
        what observers say.
        """
        told = [h for peer, h in self._heights.items() if self._members.miner_of(peer) is not None]
        told = sorted(told or self._heights.values(), reverse=True)
        return told[min(self._members.weak_quorum, len(told)) - 1] if told else 0

    @property
    def is_behind(self) -> bool:
        """Whether peers are more than one block ahead."""
        return self.highest_seen > self._chain.height + 1

    def on_connected(self, peer: Address) -> None:
        """Tell a new peer how far this node is."""
        self._tell(peer)

    def on_disconnected(self, peer: Address) -> None:
        """Forget what a peer said, and wait for its answer no longer."""
        self._heights.pop(peer, None)
        self._questions.pop(peer, None)
        if self._asked is not None and self._asked[0] == peer:
            self._settle(None)
        self._changed.set()

    def on_status(self, peer: Address, status: Status) -> None:
        """Learn how far a peer is."""
        self._heights[peer] = status.height
        self._changed.set()

    def on_committed(self) -> None:
        """Tell all peers of the new height."""
        for peer in self._transport.connected():
            self._tell(peer)
        self._changed.set()

    def catch_up_with(self, peer: Address, height: Height) -> None:
        """Take note that `peer` has shown to have committed up to `height`."""
        if height > self._heights.get(peer, 0) and peer in self._transport.connected():
            self._heights[peer] = height
            self._changed.set()

    def on_get_blocks(self, peer: Address, request: GetBlocks) -> None:
        """Answer with committed blocks, as many as fit into one message, when it is its turn.

        A peer has one question open: a further one takes the place of the one before.
        """
        self._questions[peer] = request
        self._questioned.set()

    def send_block(self, peer: Address, height: Height) -> None:
        """Send a peer that works on `height` that block, unless it has asked for some itself."""
        self._questions.setdefault(peer, GetBlocks(height=height, count=1))
        self._questioned.set()

    def on_blocks(self, peer: Address, answer: Blocks) -> None:
        """Take an answer; one that nobody waits for says at least that its sender is ahead."""
        if self._asked == (peer, answer.height):
            self._settle(answer)
        elif answer.blocks:
            shown = answer.height + len(answer.blocks) - 1
            if self._late == (peer, answer.height):
                self._late_answer = answer
                shown = max(shown, self._late_height)
            self.catch_up_with(peer, Height(shown))

    async def run(self) -> None:
        """Ask and answer until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._catch_up())
            group.create_task(self._answer_all())

    async def _catch_up(self) -> None:
        """Ask for blocks whenever a peer is ahead."""
        turn = 0
        while True:
            await self._changed.wait()
            self._changed.clear()
            is_catching_up = False
            while ahead := self._ahead():
                if not is_catching_up and await self._moves_on_by_itself():
                    continue
                height = self._chain.height
                if not await self._use_late_answer():
                    await self._fetch(ahead[turn % len(ahead)])
                    turn += 1
                is_catching_up = self.is_behind and self._chain.height > height

    async def _answer_all(self) -> None:
        """Answer the peers in the order of their questions."""
        while True:
            await self._questioned.wait()
            self._questioned.clear()
            while self._questions:
                peer = next(iter(self._questions))
                request = self._questions.pop(peer)
                answer = await self._executor.run(self._read, request)
                self._transport.send(peer, BLOCKS, answer)

    def _read(self, request: GetBlocks) -> bytes:
        """Return the message with the blocks asked for, as far as they are here; runs aside."""
        found: list[SyncBlock] = []
        size = 0
        for height in range(max(1, request.height), request.height + request.count):
            try:
                stored = self._chain.encoded(height)
            except DamagedEntry as error:
                # Others hold it, and a node that stopped here would take its vote with it.
                report_damage(error, self._metrics)
                break
            except Pruned:
                break
            if stored is None:
                break
            found.append(SyncBlock(block=stored[0], certificate=stored[1]))
            size += len(stored[0]) + len(stored[1])
            if size >= SYNC_SIZE_MAX:
                break
        return encode_body(BLOCKS, Blocks(height=request.height, blocks=tuple(found)))

    def _ahead(self) -> list[Address]:
        height = self._chain.height
        return sorted(peer for peer, theirs in self._heights.items() if theirs > height)

    async def _moves_on_by_itself(self) -> bool:
        """Wait whether consensus brings the next block: it does where the load is high."""
        before = self._chain.height
        await asyncio.sleep(self._patience_s())
        return self._chain.height > before

    def _patience_s(self) -> float:
        if not self._members.is_member:
            return PATIENCE_OBSERVER_S
        return PATIENCE_BEHIND_S if self.is_behind else PATIENCE_S

    async def _fetch(self, peer: Address) -> None:
        before = self._chain.height
        request = GetBlocks(height=Height(before + 1), count=self._count)
        self._asked = (peer, before + 1)
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.send(peer, GET_BLOCKS, encode_body(GET_BLOCKS, request))
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                answer = await self._answer
        except TimeoutError:
            # On a slow link even an honest answer is late, unless it is short.
            self._late, self._late_height = self._asked, self._heights.get(peer, 0)
            self._count = max(1, self._count // 2)
            self._distrust(peer, LATE_POINTS, "no blocks in time")
            return
        finally:
            self._asked = self._answer = None
        if answer is None:
            return
        self._count = min(self._count + COUNT_STEP, SYNC_BLOCKS_MAX)
        await self._take(peer, answer)
        if not answer.blocks and self._chain.height == before:
            self._distrust(peer, LATE_POINTS, "it does not have what it said")

    async def _use_late_answer(self) -> bool:
        """Take what came too late, if it still leads on; what crossed a slow link was dear."""
        late, answer = self._late, self._late_answer
        if late is None or answer is None:
            return False
        self._late = self._late_answer = None
        if answer.height != self._chain.height + 1:
            return False
        await self._take(late[0], answer)
        return True

    async def _take(self, peer: Address, answer: Blocks) -> None:
        try:
            blocks = await self._executor.run(_decode, peer, answer, self._pooled)
        except DecodeError as error:
            self._distrust(peer, LIE_POINTS, str(error))
        else:
            await self._commit(blocks)

    def _settle(self, answer: Blocks | None) -> None:
        """End the wait for an answer; None where none will come."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def _distrust(self, peer: Address, points: int, reason: str) -> None:
        """Forget what the peer claimed; it is asked again once it has said how far it is."""
        log.warning("peer did not help to catch up", peer=peer.hex(), reason=reason)
        self._heights.pop(peer, None)
        self._transport.penalise(peer, points, reason)

    def _tell(self, peer: Address) -> None:
        status = Status(height=Height(self._chain.height))
        self._transport.send(peer, STATUS, encode_body(STATUS, status))


def _decode(
    peer: Address, answer: Blocks, pooled: Callable[[Digest], Transaction | None]
) -> list[FetchedBlock]:
    return [
        FetchedBlock(
            peer=peer,
            block=decode_block(item.block, pooled),
            certificate=decode_certificate(item.certificate),
        )
        for item in answer.blocks
    ]
