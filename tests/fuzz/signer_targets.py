"""What a signer reads: its log, frames, and a hostile node's questions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from chain import codec
from chain.errors import DecodeError
from consensus.durable import Floor
from consensus.key_memory import (
    SignedStatement,
    decode_key_record,
    encode_key_record,
    place_of,
    read_statement,
    write_statement,
)
from node.p2p.errors import FrameError
from node.p2p.framing import HEADER, FrameDecoder
from node.signer.keeper import KeyKeeper
from node.signer.wire import (
    TO_NODE,
    TO_SIGNER,
    Answer,
    Hello,
    SetFloor,
    SignTransaction,
    SignVote,
    decode_payload,
    encode_frame,
)
from tests.fuzz.target import Check, Target, codec_target, pure, quiet
from tests.interaction.cluster import GENESIS
from tests.unit.consensus.test_key_memory import commit, prepare, round_change
from tests.unit.node.signer.test_keeper import KEY, Disk, payload

SIGNER_LIFE: Final = 400
_STATEMENTS: Final = (
    prepare(), prepare(round=1), prepare(b"x" * 32), commit(), commit(round=1), round_change(),
    round_change(2, prepared=0), round_change(3, prepared=1), prepare(height=2),
)  # fmt: skip


def targets() -> Iterator[Target]:
    """Yield all of them."""
    yield codec_target("statement", lambda: list(_STATEMENTS), read_statement, write_statement)
    yield codec_target("signer record", _records, decode_key_record, encode_key_record)
    yield pure("signer frame", "bytes", _frames, _check_frames)
    yield Target(name="signer", form="msgpack", seeds=_questions, opened=_signer, life=SIGNER_LIFE)


def _records() -> list[bytes]:
    signed = [encode_key_record(SignedStatement(statement=data)) for data in _STATEMENTS]
    return [encode_key_record(Floor(height=7)), *signed]  # type: ignore[arg-type]  # plain


def _asked() -> list[Any]:
    votes = [SignVote(number=1, key=KEY.public, statement=data) for data in _STATEMENTS]
    own = SignTransaction(number=2, key=KEY.public, payload=payload())
    return [*votes, own, SetFloor(height=3)]  # type: ignore[arg-type]  # plain


def _frames() -> list[bytes]:
    hello = Hello(protocol=1, genesis_hash=GENESIS, keys=(KEY.public,), remembers=True)
    answer = Answer(number=1, signature=bytes(64))  # type: ignore[arg-type]  # plain
    frames = [encode_frame(message) for message in (*_asked(), hello, answer)]
    return [*frames, b"".join(frames[:3])]


def _questions() -> list[bytes]:
    frames = [encode_frame(message) for message in _asked()]
    return [codec.encode([frame[HEADER.size - 1], frame[HEADER.size :]]) for frame in frames]


def _check_frames(data: bytes) -> bool:
    """What is read of a stream is written as the same bytes again."""
    decoder = FrameDecoder({**TO_SIGNER, **TO_NODE})
    try:
        messages = [decode_payload(kind, found) for kind, found in decoder.feed(data)]
    except (FrameError, DecodeError):
        return False
    again = b"".join(encode_frame(message) for message in messages)
    assert data.startswith(again), "it is encoded differently"
    return bool(messages)


@contextmanager
def _signer() -> Iterator[Check]:
    """Open a signer; whatever it is asked, it signs one statement in each place, in order."""
    disk: Any = Disk()
    keeper = KeyKeeper(genesis_hash=GENESIS, keys=[KEY], journal=disk)
    said: dict[Any, bytes] = {}

    def check(data: bytes) -> bool:
        try:
            items = codec.decode(data, what="question", size_max=100_000, items_max=2)
            if len(items) != 2 or type(items[1]) is not bytes or items[0] not in TO_SIGNER:
                return False
            question: Any = decode_payload(items[0], items[1])
        except (DecodeError, TypeError):
            return False
        answer = keeper.answer(question)
        if isinstance(question, SignVote) and isinstance(answer, Answer):
            place = place_of(read_statement(question.statement))
            known = said.setdefault(place, question.statement)
            assert known == question.statement, "it contradicts itself"
            highest = max(said)
            assert (place.height, place.round) == (highest.height, highest.round), "it goes back"
        return isinstance(answer, Answer)

    with quiet():
        yield check
