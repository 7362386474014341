"""Peers as sources of chunks: whom to ask, how fast, and who is not waited for.

One that takes long costs a moment: another is asked beside it, and the first chunk that proves
itself counts (hedged requests: Dean and Barroso, *The Tail at Scale*, 2013). But on a thin line all
answers take long, for they wait for each other: while chunks come nobody is asked beside, and how
many are asked for at once grows while they come soon. Who was overtaken is asked last for a while;
who says nothing, or takes long to say that it has nothing, not at all.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog

from chain.blobs import BlobChunk
from chain.errors import InvalidProof
from chain.types import Address, Digest
from node.metrics import Metrics
from node.p2p.limits import SECOND_NS, TokenBucket
from node.ports import Executor, Transport
from node.protocol import GET_CHUNK, KINDS, ChunkAnswer, GetChunk
from node.questions import Questions
from node.tasks import first_error

LIE_POINTS: Final = 100
"""No honest node sends a chunk that does not prove itself: whoever does is banned at once."""
ASKED_PER_SECOND: Final = KINDS[GET_CHUNK].messages_per_second * 3 // 4
"""Chunks asked of one peer: a peer drops questions beyond its rate, and would seem silent."""
ASKED_AT_ONCE: Final = 4
"""Peers asked for one chunk at the same time; a further one when one of them has answered."""
HEDGE_S: Final = 0.5
HEDGE_S_MAX: Final = 8.0
"""After so long without a good chunk from anybody a second peer is asked too, after twice as long a
third: the more, the longer good answers take, lest on a thin line, which all share, everything is
sent several times."""
USUAL_TIMES: Final = 3
"""So many times the usual time of an answer is no reason yet to ask another."""
CHUNK_TIMEOUT_S: Final = 10.0
"""Others are asked long before; but what is on its way, if slowly, need not be sent once more."""
SOON_S: Final = 3.0
"""While chunks come sooner than this, more of a blob are asked for at once, up to one of each peer;
half as many when an answer does not come: on a thin line they wait for each other."""
BUSY_TIMES: Final = 2
"""So many times its patience a fetch may last while chunks come: who drips holds nobody up."""
PASSED_OVER_S: Final = 15.0
"""How long who was overtaken is asked last, and who was silent or late is left out."""

_Answer = tuple[Address, BlobChunk | None]

log = structlog.get_logger(__name__)


class Sources:
    """Asks peers for chunks.

    Attributes
    ----------
    questions : Questions
        What it has asked peers; told of their answers.
    chunks_at_once : int
        How many chunks of a blob are to be asked for at once.
    """

    def __init__(self, transport: Transport, executor: Executor, metrics: Metrics) -> None:
        self.questions = Questions(transport)
        self.chunks_at_once = 1
        self._transport = transport
        self._executor = executor
        self._metrics = metrics
        # All of them of peers that are connected, as of the last call of `peers`.
        self._left_out_until_s: dict[Address, float] = {}
        self._last_until_s: dict[Address, float] = {}
        self._paces: dict[Address, TokenBucket] = {}
        # Since when peers owe answers, oldest first; never empty.
        self._open: dict[Address, list[float]] = {}
        # Who has sent a chunk last is asked first: it holds the next blob of the kind, too.
        self._helper: Address | None = None
        self._usual_s: float | None = None
        # When a good chunk came last, from anybody; who gives up so long after it, and when in any
        # case.
        self._good_s = 0.0
        self._limits: dict[asyncio.Timeout, tuple[float, float]] = {}

    def peers(self) -> list[Address]:
        """Return who may be asked for a blob."""
        connected = self._transport.connected()
        now_s = _now_s()
        for until_s in (self._left_out_until_s, self._last_until_s):
            for peer in [p for p, s in until_s.items() if s <= now_s or p not in connected]:
                del until_s[peer]
        self._paces = {peer: pace for peer, pace in self._paces.items() if peer in connected}
        return [
            peer
            for peer in connected
            if peer not in self._left_out_until_s and not self._is_late(peer, now_s)
        ]

    @asynccontextmanager
    async def patience(self, seconds: float | None) -> AsyncIterator[None]:
        """Raise `TimeoutError` once no chunk has come from anybody for so long; None: never.

        A busy line is none that is dead: to give up there means to have the same sent once more.
        After `BUSY_TIMES` as long it is given up all the same.
        """
        async with asyncio.timeout(seconds) as limit:
            if seconds is not None:
                self._limits[limit] = (seconds, _now_s() + BUSY_TIMES * seconds)
            try:
                yield
            finally:
                self._limits.pop(limit, None)

    async def bring(self, digest: Digest, index: int, peers: list[Address]) -> BlobChunk | None:
        """Return a chunk from one of `peers`, or None; who did not have it has left them then."""
        answers: asyncio.Queue[_Answer] = asyncio.Queue()

        async def ask(peer: Address) -> None:
            answers.put_nowait((peer, await self._ask(peer, digest, index)))

        asked: set[Address] = set()
        # In the order in which they were asked.
        running: dict[Address, asyncio.Task[None]] = {}
        with first_error():
            async with asyncio.TaskGroup() as group:
                while True:
                    left = [peer for peer in peers if peer not in asked]
                    if left and len(running) < ASKED_AT_ONCE:
                        peer = min(left, key=self._rank)
                        asked.add(peer)
                        running[peer] = group.create_task(ask(peer))
                    if not running:
                        return None
                    is_next = len(left) > 1 and len(running) < ASKED_AT_ONCE
                    patience_s = self._patience_s * 2 ** (len(running) - 1) if is_next else None
                    answer = await self._next_answer(answers, patience_s)
                    if answer is None:
                        continue
                    peer, chunk = answer
                    if chunk is not None:
                        self._overtake(list(running), peer)
                        for task in running.values():
                            task.cancel()
                        return chunk
                    del running[peer]
                    if peer in peers:
                        peers.remove(peer)

    async def _next_answer(
        self, answers: asyncio.Queue[_Answer], patience_s: float | None
    ) -> _Answer | None:
        """Return the next answer, or None where it is time to ask another peer."""
        begun_s = _now_s()
        while patience_s is not None:
            # While chunks come, be it other ones, the line is busy: to ask more makes that worse.
            until_s = max(begun_s, self._good_s) + patience_s
            if until_s <= _now_s():
                return None
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until_s):
                    return await answers.get()
        return await answers.get()

    @property
    def _patience_s(self) -> float:
        return min(HEDGE_S_MAX, max(HEDGE_S, USUAL_TIMES * (self._usual_s or 0.0)))

    def _rank(self, peer: Address) -> tuple[bool, int, bool]:
        """Return what decides who is asked next: the lowest, and of equals the first."""
        open_count = len(self._open.get(peer, ()))
        return peer in self._last_until_s, open_count, peer != self._helper

    def _is_late(self, peer: Address, now_s: float) -> bool:
        """Tell whether an answer is overdue: a further question would wait behind that."""
        asked_s = self._open.get(peer)
        # It answers one question after the other.
        return asked_s is not None and now_s - asked_s[0] > self._patience_s * len(asked_s)

    def _overtake(self, asked: Sequence[Address], winner: Address) -> None:
        """Take note of who was asked before the one that has answered."""
        self._helper = winner
        until_s = _now_s() + PASSED_OVER_S
        self._last_until_s |= dict.fromkeys(asked[: asked.index(winner)], until_s)

    async def _ask(self, peer: Address, digest: Digest, index: int) -> BlobChunk | None:
        """Return a chunk that has proven itself, or None."""
        open_s = self._open.setdefault(peer, [])
        opened_s = _now_s()
        open_s.append(opened_s)
        allowed_s = self._patience_s * len(open_s)
        try:
            await self._keep_pace(peer)
            begun_s = _now_s()
            question = GetChunk(digest=digest, index=index)
            answer = await self.questions.ask(peer, question, timeout_s=CHUNK_TIMEOUT_S)
        finally:
            open_s.remove(opened_s)
            if not open_s:
                del self._open[peer]
        took_s = _now_s() - begun_s
        chunk = answer.chunk if isinstance(answer, ChunkAnswer) else None
        if chunk is None:
            is_silent = answer is None and peer in self._transport.connected()
            if is_silent:
                self.chunks_at_once = max(1, self.chunks_at_once // 2)
            if is_silent or took_s > allowed_s:
                self._left_out_until_s[peer] = _now_s() + PASSED_OVER_S
            return None
        try:
            await self._executor.run(chunk.verify, digest, index)
        except InvalidProof as error:
            log.warning("peer sent a false chunk", peer=peer.hex(), reason=str(error))
            self._metrics.peer_refused("false_chunk")
            self._transport.penalise(peer, LIE_POINTS, str(error))
            return None
        self._good_s = _now_s()
        for limit, (seconds, end_s) in self._limits.items():
            if not limit.expired():
                limit.reschedule(min(self._good_s + seconds, end_s))
        usual_s = took_s if self._usual_s is None else self._usual_s
        self._usual_s = usual_s + (took_s - usual_s) / 8
        if took_s < SOON_S and self.chunks_at_once < len(self._transport.connected()):
            self.chunks_at_once += 1
        return chunk

    async def _keep_pace(self, peer: Address) -> None:
        pace = self._paces.setdefault(peer, TokenBucket(ASKED_PER_SECOND, ASKED_PER_SECOND))
        if wait_ns := pace.charge(int(_now_s() * SECOND_NS), 1):
            await asyncio.sleep(wait_ns / SECOND_NS)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
