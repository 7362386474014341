"""The node's end: keeps a connection to the signer, and asks it."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from chain.certificate import VOTE_TAG
from chain.crypto import verify
from chain.errors import DecodeError
from chain.transactions import PAYLOAD, SIGNATURE_TAG, Payload
from chain.types import Digest, PublicKey, Signature
from consensus.events import MessageSigned, SignerSeen, SigningRefused
from consensus.messages import Message as ConsensusMessage
from consensus.output import SignMessage, TellFloor
from node.errors import NotSigned
from node.metrics import Metrics
from node.p2p.errors import FrameError, UnknownKey
from node.p2p.tls import ChannelContexts
from node.ports import Clock
from node.signer.channel import HANDSHAKE_TIMEOUT_S, READ_SIZE, Channel
from node.signer.wire import (
    TO_NODE,
    Answer,
    Hello,
    Message,
    Question,
    Refusal,
    SetFloor,
    SignTransaction,
    SignVote,
)

ANSWER_TIMEOUT_NS: Final = 5_000_000_000
"""A signer that does not answer for so long is taken for lost."""
LOOK_S: Final = 0.5
OPEN_MAX: Final = 256
"""Questions without an answer; a signer that lets more come together is taken for lost."""
RETRY_S: Final = 0.25
RETRY_S_MAX: Final = 4.0

_LOSSES: Final = (
    OSError, EOFError, UnicodeError, FrameError, DecodeError, UnknownKey, NotSigned
)  # fmt: skip
"""What ends a connection; a time-out is an `OSError`, a host that is no name a `UnicodeError`."""

SignerEvent = SignerSeen | MessageSigned | SigningRefused

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """A question: of consensus, with its message, or else with somebody who waits."""

    asked_ns: int
    key: PublicKey
    tag: bytes
    signed: bytes
    message: ConsensusMessage | None
    waiter: asyncio.Future[Signature] | None


class SignerLink:
    """A `node.ports.RemoteSigner` over TLS.

    Parameters
    ----------
    key : PublicKey
        The signer's channel key; no other is talked to.
    contexts : ChannelContexts
        Of this node's key, by which the signer knows it.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        key: PublicKey,
        contexts: ChannelContexts,
        genesis_hash: Digest,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._host = host
        self._port = port
        self._key = key
        self._contexts = contexts
        contexts.trust([key])
        self._genesis_hash = genesis_hash
        self._clock = clock
        self._metrics = metrics
        self._channel: Channel | None = None
        self._number = 0
        self._open: dict[int, _Open] = {}

    def is_reached(self) -> bool:
        """Whether a connection stands."""
        return self._channel is not None

    def ask(self, request: SignMessage | TellFloor) -> None:
        """Hand on what consensus wants signed; dropped where no connection stands."""
        if isinstance(request, TellFloor):
            self._put(SetFloor(height=request.height))
            return
        question = SignVote(
            number=self._next_number(), key=request.key, statement=request.statement
        )
        self._put(
            question,
            _Open(
                asked_ns=self._clock.monotonic_ns(),
                key=request.key,
                tag=VOTE_TAG,
                signed=request.statement,
                message=request.message,
                waiter=None,
            ),
        )

    async def sign(self, key: PublicKey, payload: Payload) -> Signature:
        """Return the signature of a transaction's payload.

        Raises
        ------
        NotSigned
            The signer refuses it, or cannot be reached.
        """
        if self._channel is None:
            raise NotSigned("the signer cannot be reached")
        signed = PAYLOAD.encode(payload)
        waiter: asyncio.Future[Signature] = asyncio.get_running_loop().create_future()
        self._put(
            SignTransaction(number=self._next_number(), key=key, payload=signed),
            _Open(
                asked_ns=self._clock.monotonic_ns(),
                key=key,
                tag=SIGNATURE_TAG,
                signed=signed,
                message=None,
                waiter=waiter,
            ),
        )
        return await waiter

    async def run(self, tell: Callable[[SignerEvent], None]) -> None:
        """Keep the connection until cancelled, and tell what comes of it."""
        retry_s, told = RETRY_S, ""
        while True:
            try:
                reader, writer = await asyncio.open_connection(
                    self._host,
                    self._port,
                    limit=READ_SIZE,
                    ssl=self._contexts.dialling,
                    ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                )
                with Channel(reader, writer, TO_NODE) as channel:
                    hello = await self._greet(channel)
                    log.info("signer reached", remembers=hello.remembers)
                    retry_s, told = RETRY_S, ""
                    self._channel = channel
                    tell(SignerSeen(keys=hello.keys, remembers=hello.remembers))
                    await self._listen(channel, tell)
            except _LOSSES as error:
                reason = str(error) or type(error).__name__
                if reason != told:
                    told = reason
                    log.warning("signer unreachable; this miner signs nothing", reason=reason)
            finally:
                self._lose(tell)
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, RETRY_S_MAX)

    async def _greet(self, channel: Channel) -> Hello:
        if channel.peer != self._key:
            raise UnknownKey("the other end is not the signer")
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            while not (messages := await channel.receive()):
                pass
        hello = messages[0]
        if len(messages) != 1 or not isinstance(hello, Hello):
            raise NotSigned("the signer began with something else than its hello")
        if hello.genesis_hash != self._genesis_hash:
            raise NotSigned(f"the signer is for another chain, {hello.genesis_hash.hex()}")
        return hello

    async def _listen(self, channel: Channel, tell: Callable[[SignerEvent], None]) -> None:
        while True:
            messages: list[Message] = []
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    messages = await channel.receive()
            for message in messages:
                self._on_answer(message, tell)
            oldest = next(iter(self._open.values()), None)
            now_ns = self._clock.monotonic_ns()
            if oldest is not None and now_ns - oldest.asked_ns > ANSWER_TIMEOUT_NS:
                raise NotSigned("the signer does not answer")

    def _on_answer(self, message: Message, tell: Callable[[SignerEvent], None]) -> None:
        number = next(iter(self._open), None)
        if not isinstance(message, Answer | Refusal) or message.number != number:
            raise NotSigned("the signer answers what nobody asked")
        question = self._open.pop(message.number)
        if isinstance(message, Refusal):
            self._metrics.signing_refused(message.reason)
            log.warning("the signer refuses", reason=message.reason)
            if question.message is not None:
                tell(SigningRefused(message=question.message))
            elif question.waiter is not None and not question.waiter.done():
                question.waiter.set_exception(NotSigned(f"the signer refuses: {message.reason}"))
            return
        if not verify(question.key, question.tag, question.signed, message.signature):
            raise NotSigned("the signer's signature is wrong")
        if question.message is not None:
            tell(MessageSigned(message=replace(question.message, signature=message.signature)))
        elif question.waiter is not None and not question.waiter.done():
            question.waiter.set_result(message.signature)

    def _put(self, question: Question, entry: _Open | None = None) -> None:
        if self._channel is None:
            return
        if len(self._open) >= OPEN_MAX:
            self._channel.close()
            if entry is not None and entry.waiter is not None:
                entry.waiter.set_exception(NotSigned("too many questions wait for the signer"))
            return
        if entry is not None and not isinstance(question, SetFloor):
            self._open[question.number] = entry
        self._channel.put(question)

    def _lose(self, tell: Callable[[SignerEvent], None]) -> None:
        if self._channel is None:
            return
        self._channel = None
        waiting = [entry.waiter for entry in self._open.values() if entry.waiter is not None]
        self._open.clear()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_exception(NotSigned("the signer was lost"))
        tell(SignerSeen(keys=()))

    def _next_number(self) -> int:
        self._number += 1
        return self._number
