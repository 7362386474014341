"""Asking a peer one thing and waiting for its answer."""

import asyncio
from dataclasses import dataclass, field
from typing import Final, assert_never

from chain.types import Address
from node.ports import Transport
from node.protocol import (
    GET_CHUNK,
    GET_DECIDED,
    GET_PAST,
    GET_PIECE,
    ChunkAnswer,
    DecidedAnswer,
    GetChunk,
    GetDecided,
    GetPast,
    GetPiece,
    PastAnswer,
    PieceAnswer,
    encode_body,
)

ANSWER_TIMEOUT_S: Final = 5.0

Question = GetDecided | GetPiece | GetPast | GetChunk
Answer = DecidedAnswer | PieceAnswer | PastAnswer | ChunkAnswer

_KINDS: Final[dict[type[Question], int]] = {
    GetDecided: GET_DECIDED,
    GetPiece: GET_PIECE,
    GetPast: GET_PAST,
    GetChunk: GET_CHUNK,
}
_ANSWERS: Final[dict[type[Question], type[Answer]]] = {
    GetDecided: DecidedAnswer,
    GetPiece: PieceAnswer,
    GetPast: PastAnswer,
    GetChunk: ChunkAnswer,
}

_Key = tuple[Address, type[Answer]]


@dataclass(slots=True)
class _Turns:
    """Whose turn it is among those who ask one thing of a peer, and how many they are."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    count: int = 0


class Questions:
    """Questions that are open: at most one of each kind for each peer; others wait their turn."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._turns: dict[_Key, _Turns] = {}
        self._open: dict[_Key, tuple[Question, asyncio.Future[Answer | None]]] = {}

    async def ask(
        self, peer: Address, question: Question, *, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> Answer | None:
        """Return a peer's answer to `question`, or None where none came in time."""
        key = (peer, _ANSWERS[type(question)])
        turns = self._turns.setdefault(key, _Turns())
        turns.count += 1
        try:
            async with turns.lock:
                return await self._ask(key, question, timeout_s)
        finally:
            turns.count -= 1
            if not turns.count:
                del self._turns[key]

    async def _ask(self, key: _Key, question: Question, timeout_s: float) -> Answer | None:
        peer = key[0]
        answer: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._open[key] = (question, answer)
        try:
            kind = _KINDS[type(question)]
            if not self._transport.send(peer, kind, encode_body(kind, question)):
                return None
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._open[key]

    def on_answer(self, peer: Address, answer: Answer) -> None:
        """Take an answer; one that nobody waits for, or to something else, is dropped."""
        entry = self._open.get((peer, type(answer)))
        if entry is None:
            return
        question, waiting = entry
        if _about(answer) == _about(question) and not waiting.done():
            waiting.set_result(answer)

    def on_disconnected(self, peer: Address) -> None:
        """Wait no longer for a peer that has gone."""
        for (asked, _), (_, waiting) in self._open.items():
            if asked == peer and not waiting.done():
                waiting.set_result(None)


def _about(body: Question | Answer) -> tuple[object, ...]:
    """Return what a question asks for, and an answer of its kind repeats."""
    match body:
        case GetDecided() | DecidedAnswer() | GetPast() | PastAnswer():
            return (body.height,)
        case GetPiece() | PieceAnswer():
            return (body.height, body.path)
        case GetChunk() | ChunkAnswer():
            return (body.digest, body.index)
        case _:
            assert_never(body)
