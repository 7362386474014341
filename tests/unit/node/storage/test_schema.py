"""Keys and values of the database: where they stand, in which order, and how they are read."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain import codec
from chain.blocks import HEADER, BlockReceipt, Event, Receipt, encode_block
from chain.errors import DecodeError
from chain.lookback import BlockSummary
from chain.types import Address
from node.storage import schema
from tests.builders import Chain, digest_of
from tests.unit.node.storage.stored_chain import StoredChain, dump

PLACES = st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1))


@given(PLACES, PLACES)
def test_places_are_in_the_order_of_their_bytes_and_read_back(one, other):
    assert (one < other) == (schema.place_bytes(*one) < schema.place_bytes(*other))
    assert schema.read_place(schema.place_bytes(*one)) == one


def test_every_class_has_a_letter_of_its_own_and_a_name():
    letters = [
        value
        for name, value in vars(schema).items()
        if name.isupper() and isinstance(value, bytes) and len(value) == 1 and name[0] != "_"
    ]

    assert len(set(letters)) == len(letters)
    assert set(letters) == schema.CLASSES.keys()
    assert len(set(schema.CLASSES.values())) == len(letters)


async def test_every_class_of_what_is_committed_and_not_pruned_is_in_a_chain_with_verdicts():
    stored = StoredChain()
    await stored.fill()

    assert {key[:1] for key in dump(stored.kv)} == schema.CLASSES.keys() - {
        schema.PROPOSED,
        schema.REMAINS,
        schema.EVIDENCE,
        schema.SNAPSHOT,
        schema.WAYPOINT,
        schema.INCOMING,
    }


async def test_no_key_of_one_sender_stands_among_those_of_another():
    a, b = Address(bytes(31) + b"\x01"), Address(bytes(31) + b"\x02")

    places = schema.place_bytes(2**40, 9), schema.place_bytes(1, 0)
    keys = [schema.sender_key(a, places[0]), schema.sender_key(b, places[1])]

    assert keys == sorted(keys)


def test_the_bytes_of_a_block_follow_from_its_two_entries():
    chain = Chain()
    device = chain.register()
    for block in (
        chain.block(chain.by_device(device)),
        chain.block(*[chain.by_device(device) for _ in range(40)]),
        chain.block(time_ms=chain.tip.header.time_ms + 60_000),
    ):
        wires = [transaction.wire for transaction in block.transactions]
        header = HEADER.encode(block.header)

        assert schema.join_block(header, schema.encode_body(wires)) == encode_block(block)
        assert list(schema.decode_body(schema.encode_body(wires))) == wires


def test_receipts_are_read_together_or_alone():
    receipts = tuple(
        Receipt(
            transaction_id=digest_of(f"{index}"),
            index=index,
            events=(Event(name="something", values=("a", str(index))),) * index,
        )
        for index in range(4)
    )
    block_receipt = BlockReceipt(events=receipts[1].events)
    data = schema.encode_receipts(receipts, block_receipt)

    assert schema.decode_receipts(data) == receipts
    assert schema.decode_block_receipt(data) == block_receipt
    assert tuple(schema.decode_receipt(data, index) for index in range(4)) == receipts


def test_receipts_are_read_however_many_devices_a_block_quarantines():
    # As many blocks as verdicts may be late for, each full of flows of other devices.
    event = Event(name="device_quarantined", values=("ab" * 32, "1700000000000"))
    receipts = tuple(
        Receipt(transaction_id=digest_of("verdict"), index=index, events=(event,) * 4_000)
        for index in range(20)
    )

    data = schema.encode_receipts(receipts, BlockReceipt(events=()))

    assert schema.decode_receipts(data) == receipts


def test_the_receipt_of_the_block_is_none_of_a_transaction():
    data = schema.encode_receipts((), BlockReceipt(events=()))

    assert schema.decode_receipts(data) == ()
    with pytest.raises(DecodeError):
        schema.decode_receipt(data, 0)
    for read in (schema.decode_receipts, schema.decode_block_receipt):
        with pytest.raises(DecodeError):
            read(b"\x90")


def all_receipts(data):
    return schema.decode_receipts(data), schema.decode_block_receipt(data)


def make_summary(**changes):
    subject, other = Address(digest_of("subject")), Address(digest_of("other"))
    summary = BlockSummary(
        height=7,
        time_ms=1_000,
        ids=(digest_of("a"), digest_of("b")),
        sent={subject: 3, other: 1},
        flows=(subject, subject),
        judged=digest_of("flows"),
    )
    return replace(summary, **changes)


@pytest.mark.parametrize("changes", [{"flows": ()}, {"judged": None}])
def test_a_summary_has_the_digest_of_its_flows_if_it_has_any(changes):
    with pytest.raises(DecodeError):
        schema.decode_summary(schema.encode_summary(make_summary(**changes)), 7, ids_after_ms=0)


@pytest.mark.parametrize("changes", [{}, {"ids": (), "sent": {}, "flows": (), "judged": None}])
def test_a_summary_is_read_as_it_was_written(changes):
    summary = make_summary(**changes)

    assert schema.decode_summary(schema.encode_summary(summary), 7, ids_after_ms=999) == summary


def test_the_order_in_which_subjects_were_charged_changes_no_byte_of_a_summary():
    summary = make_summary()
    other = make_summary(sent=dict(reversed(summary.sent.items())))

    assert schema.encode_summary(other) == schema.encode_summary(summary)


def test_ids_that_no_rule_asks_for_are_not_read():
    data = schema.encode_summary(make_summary())

    assert schema.decode_summary(data, 7, ids_after_ms=1_000) == make_summary(ids=())


@pytest.mark.parametrize(
    "fields",
    [
        [0, b"", b"", []],
        [0, bytes(31), b"", [], b""],
        [0, b"", bytes(32), [], b""],
        [0, b"", bytes(32), [1, 1], b""],
        [0, b"", bytes(32), [0], b""],
        [0, b"", bytes(64), [1, 1], b""],
        [0, b"", bytes(31) + b"\x01" + bytes(32), [1, 1], b""],
        [0, b"", b"", [], bytes(33)],
        [-1, b"", b"", [], b""],
    ],
)
def test_what_is_no_summary_is_refused(fields):
    with pytest.raises(DecodeError):
        schema.decode_summary(codec.encode(fields), 7, ids_after_ms=-1)


@pytest.mark.parametrize("read", [schema.decode_body, all_receipts])
@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x91", b"\x91\xc0", b"\xff" * 9, b"\x92\xc4\x00"])
def test_what_is_no_list_of_theirs_is_refused(read, data):
    with pytest.raises(DecodeError):
        read(data)
