"""A signer on a real socket: its node is served, whoever else comes ends its own connection."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chain.certificate import VOTE_TAG
from chain.crypto import signing_key, verify
from chain.transactions import PAYLOAD, SIGNATURE_TAG
from chain.types import Address, Digest, Height, Round
from consensus.durable import Floor
from consensus.events import MessageSigned, SignerSeen, SigningRefused
from consensus.key_memory import encode_key_record
from consensus.messages import Prepare
from consensus.output import SignMessage
from node.clock import SystemClock
from node.errors import NotSigned, StorageFailed
from node.executor_pool import ThreadPool
from node.metrics import Metrics
from node.p2p.framing import HEADER
from node.p2p.tls import ChannelContexts
from node.random_source import SystemRandom
from node.signer.keeper import KeyKeeper
from node.signer.link import SignerLink
from node.signer.server import SignerServer
from node.signer.wire import Answer, Hello, SignVote, encode_frame
from tests.interaction.cluster import GENESIS, Journal
from tests.unit.node.signer.test_keeper import payload

HOST = "127.0.0.1"
KEY = signing_key("ed25519", b"k" * 32)
SIGNER, NODE, TWIN, STRANGER = (bytes([number]) * 32 for number in (1, 2, 3, 4))
BLOCK, OTHER = Digest(b"b" * 32), Digest(b"o" * 32)
PATIENCE_S = 20.0


def contexts(seed: bytes) -> ChannelContexts:
    return ChannelContexts(seed, SystemRandom())


def public(seed: bytes) -> Any:
    return signing_key("ed25519", seed).public


def question(digest: Digest = BLOCK, genesis: Digest = GENESIS) -> SignMessage:
    message = Prepare(sender=Address(b"m" * 32), height=Height(1), round=Round(0), digest=digest)
    return SignMessage(key=KEY.public, message=message, statement=message.statement(genesis))


@asynccontextmanager
async def signer(journal: Any = None) -> AsyncIterator[SignerServer]:
    journal = Journal() if journal is None else journal
    journal.append([encode_key_record(Floor(height=Height(0)))])
    with ThreadPool(1) as executor:
        server = SignerServer(
            keeper=KeyKeeper(genesis_hash=GENESIS, keys=[KEY], journal=journal),
            nodes=[public(NODE), public(TWIN)],
            contexts=contexts(SIGNER),
            executor=executor,
            host=HOST,
            port=0,
        )
        async with running(server.run()):
            yield server


@asynccontextmanager
async def running(work: Any) -> AsyncIterator[None]:
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        task = group.create_task(work)
        yield
        assert not task.done(), "it has ended by itself"
        task.cancel()


class Told:
    """A link of a node, and what it tells consensus."""

    def __init__(self, port: int, *, seed=NODE, key=SIGNER, genesis=GENESIS) -> None:
        self.events: asyncio.Queue[Any] = asyncio.Queue()
        self.metrics = Metrics()
        self.link = SignerLink(
            host=HOST,
            port=port,
            key=public(key),
            contexts=contexts(seed),
            genesis_hash=genesis,
            clock=SystemClock(),
            metrics=self.metrics,
        )

    def running(self) -> Any:
        return running(self.link.run(self.events.put_nowait))

    async def ask(self, digest: Digest) -> Any:
        self.link.ask(question(digest))
        return await self.events.get()


async def test_a_node_gets_what_it_asks_for():
    async with signer() as server:
        told = Told(server.port)
        async with told.running():
            assert await told.events.get() == SignerSeen(keys=(KEY.public,))

            answer = await told.ask(BLOCK)
            assert isinstance(answer, MessageSigned)
            signature = answer.message.signature
            assert verify(KEY.public, VOTE_TAG, question().statement, signature)

            assert isinstance(await told.ask(OTHER), SigningRefused)


async def test_two_nodes_with_one_signer_get_one_signature():
    async with signer() as server:
        first, second = Told(server.port), Told(server.port, seed=TWIN)
        async with first.running(), second.running():
            await first.events.get()
            await second.events.get()
            answers = await asyncio.gather(first.ask(BLOCK), second.ask(OTHER))
        assert sorted(type(answer).__name__ for answer in answers) == [
            "MessageSigned",
            "SigningRefused",
        ]


async def test_a_payload_is_signed_or_refused_and_without_a_connection_there_is_an_error():
    def read(kind: str) -> Any:
        return PAYLOAD.decode(payload(kind), what="payload", size_max=10_000)

    async with signer() as server:
        told = Told(server.port)
        with pytest.raises(NotSigned, match="reached"):
            await told.link.sign(KEY.public, read("verdict"))
        async with told.running():
            await told.events.get()
            signature = await told.link.sign(KEY.public, read("verdict"))
            assert verify(KEY.public, SIGNATURE_TAG, payload(), signature)
            with pytest.raises(NotSigned, match="kind"):
                await told.link.sign(KEY.public, read("miner.vote"))


async def test_a_lost_signer_is_told_of_and_met_again():
    async with signer() as server:
        told = Told(server.port)
        async with told.running():
            await told.events.get()
            (standing,) = server._standing.values()
            standing.close()
            assert await told.events.get() == SignerSeen(keys=())
            assert await told.events.get() == SignerSeen(keys=(KEY.public,))
            assert isinstance(await told.ask(BLOCK), MessageSigned)


@pytest.mark.parametrize(
    "wrong",
    [{"seed": STRANGER}, {"key": STRANGER}, {"genesis": OTHER}],
    ids=["a stranger", "another signer", "another chain"],
)
async def test_ends_that_do_not_belong_together_never_meet(wrong):
    async with signer() as server:
        stranger, node = Told(server.port, **wrong), Told(server.port, seed=TWIN)
        async with stranger.running(), node.running():
            await node.events.get()
            assert isinstance(await node.ask(BLOCK), MessageSigned)
            assert stranger.events.empty()
            assert not stranger.link.is_reached()


HELLO = Hello(protocol=1, genesis_hash=GENESIS, keys=(KEY.public,), remembers=True)
VOTE = encode_frame(SignVote(number=1, key=KEY.public, statement=question().statement))


@pytest.mark.parametrize(
    "data",
    [
        HEADER.pack(2**31 - 1, 2),
        HEADER.pack(1_000_000, 3),
        HEADER.pack(0, 9),
        HEADER.pack(3, 2) + b"\x90\x90\x90",
        encode_frame(HELLO),
        encode_frame(Answer(number=1, signature=bytes(64))),  # type: ignore[arg-type]
        b"GET / HTTP/1.1\r\n\r\n" * 100,
    ],
    ids=["huge", "too large", "unknown", "garbage", "hello", "answer", "http"],
)
async def test_a_node_that_breaks_the_protocol_loses_its_connection_and_the_others_do_not(data):
    async with signer() as server:
        node = Told(server.port, seed=TWIN)
        async with node.running():
            await node.events.get()
            async with opened(server.port, NODE) as (reader, writer):
                await reader.readexactly(HEADER.size)
                writer.write(data)
                await rest(reader)
            assert isinstance(await node.ask(BLOCK), MessageSigned)


async def test_what_was_recorded_and_is_sent_again_gets_the_same_answer():
    async with signer() as server:
        answers = []
        for _ in range(2):
            async with opened(server.port, NODE) as (reader, writer):
                size, _ = HEADER.unpack(await reader.readexactly(HEADER.size))
                await reader.readexactly(size)
                writer.write(VOTE + VOTE)
                size, kind = HEADER.unpack(await reader.readexactly(HEADER.size))
                answers.append((kind, await reader.readexactly(size)))
        assert answers[0] == answers[1]
        assert answers[0][0] == 5


async def test_bytes_without_tls_are_no_connection():
    async with signer() as server:
        reader, writer = await asyncio.open_connection(HOST, server.port)
        writer.write(VOTE * 100)
        await rest(reader)
        writer.close()
        told = Told(server.port)
        async with told.running():
            assert await told.events.get() == SignerSeen(keys=(KEY.public,))


async def test_a_signer_that_does_not_answer_is_left_and_so_is_one_that_lets_questions_pile_up(
    monkeypatch,
):
    async with lying(None) as port:
        told = Told(port)
        async with told.running():
            assert await told.events.get() == SignerSeen(keys=(KEY.public,))
            monkeypatch.setattr("node.signer.link.ANSWER_TIMEOUT_NS", 1_000_000)
            told.link.ask(question())
            assert await told.events.get() == SignerSeen(keys=())
            monkeypatch.setattr("node.signer.link.ANSWER_TIMEOUT_NS", 60 * 10**9)

            assert await told.events.get() == SignerSeen(keys=(KEY.public,))
            monkeypatch.setattr("node.signer.link.OPEN_MAX", 2)
            for _ in range(3):
                told.link.ask(question())
            assert await told.events.get() == SignerSeen(keys=())


async def test_a_payload_that_is_one_question_too_many_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("node.signer.link.OPEN_MAX", 2)
    async with lying(None) as port:
        told = Told(port)
        async with told.running():
            await told.events.get()
            for _ in range(2):
                told.link.ask(question())
            read = PAYLOAD.decode(payload("verdict"), what="payload", size_max=10_000)
            with pytest.raises(NotSigned, match="too many"):
                await asyncio.wait_for(told.link.sign(KEY.public, read), timeout=10)
            assert await told.events.get() == SignerSeen(keys=())


async def test_beyond_the_bound_connections_are_closed_and_the_node_comes_in_after_them(
    monkeypatch,
):
    monkeypatch.setattr("node.signer.server.CONNECTIONS_MAX", 2)
    async with signer() as server:
        idle = [await asyncio.open_connection(HOST, server.port) for _ in range(2)]
        reader, writer = await asyncio.open_connection(HOST, server.port)
        await rest(reader)
        writer.close()
        told = Told(server.port)
        async with told.running():
            for _, waiting in idle:
                waiting.close()
            assert await told.events.get() == SignerSeen(keys=(KEY.public,))


async def test_a_signer_whose_disk_fails_ends():
    class Failing(Journal):
        def append(self, records: Any) -> None:
            if self.kept:
                raise StorageFailed(Path("signer.log"), "the disk refuses")
            super().append(records)

    with pytest.RaisesGroup(StorageFailed, flatten_subgroups=True):
        async with signer(Failing()) as server:
            told = Told(server.port)
            async with told.running():
                await told.events.get()
                told.link.ask(question())
                await told.events.get()
                await asyncio.sleep(PATIENCE_S)


@pytest.mark.parametrize("kind", ["wrong signature", "unasked", "hello again"])
async def test_a_signer_that_lies_is_left(kind):
    """Whoever has its channel key may answer anything; the node believes no wrong signature."""
    lie: Any = {
        "wrong signature": Answer(number=1, signature=bytes(64)),  # type: ignore[arg-type]
        "unasked": Answer(number=99, signature=bytes(64)),  # type: ignore[arg-type]
        "hello again": HELLO,
    }[kind]

    async with lying(lie) as port:
        told = Told(port)
        async with told.running():
            assert await told.events.get() == SignerSeen(keys=(KEY.public,))
            told.link.ask(question())
            assert await told.events.get() == SignerSeen(keys=())


@asynccontextmanager
async def lying(lie: Any) -> AsyncIterator[int]:
    """Listen with the signer's key, and answer any question with `lie`, or not at all."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            writer.write(encode_frame(HELLO))
            await reader.readexactly(HEADER.size)
            if lie is not None:
                writer.write(encode_frame(lie))
            await rest(reader)
        writer.close()

    own = contexts(SIGNER)
    own.trust([public(NODE)])
    async with await asyncio.start_server(serve, HOST, 0, ssl=own.listening) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def opened(port: int, seed: bytes) -> AsyncIterator[Any]:
    """Open a raw channel to the signer with this key."""
    own = contexts(seed)
    own.trust([public(SIGNER)])
    reader, writer = await asyncio.open_connection(HOST, port, ssl=own.dialling)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the other end closes."""
    try:
        return await reader.read()
    except (OSError, ssl.SSLError):
        return b""
