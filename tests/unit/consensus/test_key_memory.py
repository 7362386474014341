"""consensus.key_memory: a signer's memory lets nothing pass that contradicts what it signed."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chain.errors import DecodeError
from chain.types import Height, Round
from consensus.durable import Floor
from consensus.key_memory import (
    CONFLICT,
    FORGETS_PREPARED,
    KeyMemory,
    SignedStatement,
    decode_key_record,
    encode_key_record,
    place_of,
    read_statement,
    recover_keys,
    write_statement,
)
from consensus.order import FLOOR, LOST_MEMORY, ORDER
from tests.interaction.cluster import GENESIS
from tests.unit.consensus.plain import Commit, Prepare, RoundChange

A, B = b"a" * 32, b"b" * 32
ME = b"m" * 32


def statement(message: Any) -> bytes:
    return bytes(message.statement(GENESIS))


def prepare(digest=A, round=0, height=1) -> bytes:
    return statement(Prepare(sender=ME, height=height, round=round, digest=digest))


def commit(digest=A, round=0, height=1) -> bytes:
    return statement(Commit(sender=ME, height=height, round=round, digest=digest))


def round_change(round=1, prepared=None, digest=A, height=1) -> bytes:
    return statement(
        RoundChange(
            sender=ME,
            height=height,
            round=round,
            prepared_round=prepared,
            prepared_digest=None if prepared is None else digest,
            certificate=None,
        )
    )


def after(*statements: bytes, floor: int | None = 0) -> KeyMemory:
    floors = [] if floor is None else [Floor(height=Height(floor))]
    return recover_keys([*floors, *(SignedStatement(statement=data) for data in statements)])


def fault(memory: KeyMemory, data: bytes) -> str | None:
    return memory.fault(read_statement(data))


@pytest.mark.parametrize(
    ("before", "then", "reason"),
    [
        ((), prepare(), None),
        ((prepare(),), prepare(), None),
        ((prepare(),), prepare(B), CONFLICT),
        ((prepare(),), commit(B), None),
        ((commit(),), prepare(), ORDER),
        ((prepare(round=2),), prepare(round=1), ORDER),
        ((prepare(height=5),), round_change(9, height=4), FLOOR),
        ((commit(),), round_change(1), FORGETS_PREPARED),
        ((commit(),), round_change(1, prepared=0, digest=B), FORGETS_PREPARED),
        ((commit(),), round_change(1, prepared=0), None),
        ((commit(round=3),), round_change(4, prepared=2), FORGETS_PREPARED),
        ((commit(round=3), round_change(4, prepared=3)), round_change(5), FORGETS_PREPARED),
        ((round_change(1, prepared=0), prepare(round=1)), round_change(2), FORGETS_PREPARED),
        ((commit(),), round_change(1, height=2), None),
    ],
)
def test_a_statement_is_signed_only_above_what_was_signed(before, then, reason):
    assert fault(after(*before), then) == reason


def test_without_memory_nothing_is_signed_until_a_floor_is_told():
    memory = after(floor=None)
    assert fault(memory, prepare(height=7)) == LOST_MEMORY

    memory = memory.apply(Floor(height=Height(7)))

    assert fault(memory, prepare(height=6)) == FLOOR
    assert fault(memory, prepare(height=7)) is None


def test_a_floor_is_only_raised():
    memory = after(floor=9)
    assert memory.apply(Floor(height=Height(3))) == memory


@pytest.mark.parametrize(
    "data",
    [b"", b"\x90", prepare()[:-1], prepare() + b"\x00", prepare().replace(b"prepare", b"prepaid")],
)
def test_what_is_no_statement_is_refused(data):
    with pytest.raises(DecodeError):
        read_statement(data)


def test_a_round_change_reports_a_round_and_a_block_or_neither():
    half = RoundChange(
        sender=ME, height=1, round=1, prepared_round=0, prepared_digest=None, certificate=None
    )
    with pytest.raises(DecodeError, match="prepared_digest"):
        read_statement(statement(half))


def test_a_record_that_holds_no_statement_is_refused():
    with pytest.raises(DecodeError):
        decode_key_record(encode_key_record(SignedStatement(statement=b"\x90")))


digests = st.sampled_from([A, B])
rounds = st.integers(0, 3)
heights = st.integers(1, 3)
statements = st.one_of(
    st.builds(prepare, digests, rounds, heights),
    st.builds(commit, digests, rounds, heights),
    st.builds(round_change, rounds, st.none() | rounds, digests, heights),
)


@example(
    [round_change(3, 2, B, 3), commit(A, 3, 3), round_change(3, 2, B, 3)],
    [],
)
@example([commit(A, 0), prepare(B, 2)], [round_change(3), round_change(3, 0, A)])
@given(st.lists(statements, max_size=30), st.lists(statements, max_size=5))
def test_a_rewritten_log_refuses_what_the_whole_one_refuses(asked, then):
    """Whatever was asked, nothing signed contradicts, and a short log remembers as much."""
    memory = after()
    signed: dict[Any, bytes] = {}
    prepared: dict[int, int] = {}
    for data in asked:
        read = read_statement(data)
        if memory.fault(read) is not None:
            continue
        assert signed.get(place_of(read), data) == data
        if place_of(read) in signed:
            continue  # said again, perhaps after a COMMIT that it could not know of
        signed[place_of(read)] = data
        if read.type == "commit":
            prepared[read.height] = read.round
        if read.type == "round-change":
            told = getattr(read, "prepared_round", None)
            assert (-1 if told is None else told) >= prepared.get(read.height, -1)
        memory = memory.apply(SignedStatement(statement=data))
    again = recover_keys(
        decode_key_record(encode_key_record(record)) for record in memory.records()
    )
    assert [fault(again, data) for data in then] == [fault(memory, data) for data in then]
    assert again.last == memory.last


@given(statements)
def test_a_statement_is_written_as_it_was_read(data):
    assert write_statement(read_statement(data)) == data
    assert place_of(read_statement(data)).round == Round(read_statement(data).round)
