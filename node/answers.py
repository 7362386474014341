"""Answering peers that ask for parts of the chain.

Answers are read and encoded in the executor, one at a time: a small question must not stop the
event loop for a large answer. A peer has one question of each kind open; a further one takes the
place of the one before. One that has been answered much for the moment waits, and nobody with it.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, TypeVar

import structlog

from chain.types import Address, Height
from node.blobs.store import BlobStore
from node.damage import report_damage
from node.errors import DamagedEntry, Pruned, StorageError
from node.metrics import Metrics
from node.p2p.limits import SECOND_NS, TokenBucket
from node.past import RECEIPTS_SIZE_MAX, PastBlock, pack_decided
from node.ports import Executor, Transport
from node.protocol import (
    BLOCKS,
    CHUNK,
    DECIDED,
    PAST,
    PIECE,
    SYNC_SIZE_MAX,
    Blocks,
    ChunkAnswer,
    DecidedAnswer,
    GetBlocks,
    GetChunk,
    GetDecided,
    GetPast,
    GetPiece,
    PastAnswer,
    PieceAnswer,
    SyncBlock,
    encode_body,
)
from node.storage.chain_store import ChainStore
from node.storage.snapshots import SnapshotStore

_NOTHING: Final = b""
ANSWERED_PER_SECOND: Final = 48 * 1024 * 1024
ANSWERED_BURST_SIZE: Final = 96 * 1024 * 1024
"""Bytes that one peer is answered; beyond, its questions wait. To encrypt all that the rates of its
questions would allow, some 300 MB a second, would take most of the event loop."""

T = TypeVar("T")

log = structlog.get_logger(__name__)

Question = GetBlocks | GetDecided | GetPiece | GetPast | GetChunk


class Answers:
    """Questions of peers, and their answers in turn."""

    def __init__(
        self,
        *,
        chain: ChainStore,
        snapshots: SnapshotStore,
        blobs: BlobStore,
        transport: Transport,
        executor: Executor,
        metrics: Metrics,
    ) -> None:
        self._chain = chain
        self._snapshots = snapshots
        self._blobs = blobs
        self._transport = transport
        self._executor = executor
        self._metrics = metrics
        # At most one for each connected peer and kind.
        self._questions: dict[tuple[Address, type[Question]], Question] = {}
        self._questioned = asyncio.Event()
        # One for each peer that has asked, and until when those wait that were answered much.
        self._allowances: dict[Address, TokenBucket] = {}
        self._waits_until_s: dict[Address, float] = {}

    def ask(self, peer: Address, question: Question) -> None:
        """Take a question; it is answered when it is its turn."""
        self._questions[peer, type(question)] = question
        self._questioned.set()

    def send_block(self, peer: Address, height: Height) -> None:
        """Send a peer that works on `height` that block, unless it has asked for some itself."""
        self._questions.setdefault((peer, GetBlocks), GetBlocks(height=height, count=1))
        self._questioned.set()

    def on_disconnected(self, peer: Address) -> None:
        """Forget what a peer asked."""
        for key in [key for key in self._questions if key[0] == peer]:
            del self._questions[key]

    async def run(self) -> None:
        """Answer the peers in the order of their questions, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._next_s()):
                    await self._questioned.wait()
            self._questioned.clear()
            while (key := self._next()) is not None:
                question = self._questions.pop(key)
                kind, answer = await self._executor.run(self._answer, question)
                self._transport.send(key[0], kind, answer)
                self._charge(key[0], len(answer))

    def _next(self) -> tuple[Address, type[Question]] | None:
        """Return the question that has waited longest, of those whose peers need not wait."""
        now_s = _now_s()
        return next(
            (key for key in self._questions if self._waits_until_s.get(key[0], 0.0) <= now_s), None
        )

    def _next_s(self) -> float | None:
        """Return when one of the peers that have to wait need not any more; None: nobody asks."""
        return min(
            [self._waits_until_s.get(peer, 0.0) for peer, _ in self._questions], default=None
        )

    def _charge(self, peer: Address, size: int) -> None:
        allowance = self._allowances.setdefault(
            peer, TokenBucket(ANSWERED_PER_SECOND, ANSWERED_BURST_SIZE)
        )
        now_s = _now_s()
        wait_ns = allowance.charge(int(now_s * SECOND_NS), size)
        self._waits_until_s[peer] = now_s + wait_ns / SECOND_NS

    def _answer(self, question: Question) -> tuple[int, bytes]:
        """Return kind and payload of an answer; runs aside."""
        match question:
            case GetBlocks():
                return BLOCKS, encode_body(BLOCKS, self._blocks(question))
            case GetDecided():
                return DECIDED, encode_body(DECIDED, self._decided(question))
            case GetPiece():
                return PIECE, encode_body(PIECE, self._piece(question))
            case GetPast():
                return PAST, encode_body(PAST, self._past(question))
            case GetChunk():
                return CHUNK, encode_body(CHUNK, self._chunk(question))

    def _chunk(self, question: GetChunk) -> ChunkAnswer:
        chunk = None
        try:
            chunk = self._blobs.chunk(question.digest, question.index)
        except DamagedEntry as error:
            report_damage(error, self._metrics)
        except StorageError as error:
            # No promise hangs on a blob: another node holds it too.
            log.warning("a blob could not be read", reason=str(error))
        return ChunkAnswer(digest=question.digest, index=question.index, chunk=chunk)

    def _blocks(self, question: GetBlocks) -> Blocks:
        found: list[SyncBlock] = []
        size = 0
        for height in range(max(1, question.height), question.height + question.count):
            stored = self._held(self._chain.encoded, height)
            if stored is None:
                break
            found.append(SyncBlock(block=stored[0], certificate=stored[1]))
            size += len(stored[0]) + len(stored[1])
            if size >= SYNC_SIZE_MAX:
                break
        return Blocks(height=question.height, blocks=tuple(found))

    def _past(self, question: GetPast) -> PastAnswer:
        found: list[PastBlock] = []
        size = 0
        named = _NOTHING
        for height in range(question.height, max(0, question.height - question.count), -1):
            past = self._held(self._chain.past_block, height)
            if past is None or len(past.receipts) > RECEIPTS_SIZE_MAX:
                break
            miners = past.miners
            found.append(past if miners != named else replace(past, miners=_NOTHING))
            named = miners
            size += len(past.block) + len(past.certificate) + len(past.receipts)
            if size >= SYNC_SIZE_MAX:
                break
        return PastAnswer(height=question.height, blocks=tuple(found))

    def _decided(self, question: GetDecided) -> DecidedAnswer:
        decided = self._held(self._chain.decided_from, max(1, question.height))
        packed = None if decided is None else pack_decided(decided)
        return DecidedAnswer(height=question.height, found=packed)

    def _piece(self, question: GetPiece) -> PieceAnswer:
        found = self._held(
            lambda height: self._snapshots.piece(height, question.path), question.height
        )
        return PieceAnswer(height=question.height, path=question.path, piece=found or _NOTHING)

    def _held(self, read: Callable[[int], T | None], height: int) -> T | None:
        """Return what is read of a block, or None where it is not kept or cannot be read."""
        try:
            return read(height)
        except DamagedEntry as error:
            # Others hold it, and a node that stopped here would take its vote with it.
            report_damage(error, self._metrics)
        except Pruned:
            pass
        return None


def _now_s() -> float:
    return asyncio.get_running_loop().time()
