"""chain.blocks: headers, blocks, receipts."""

from dataclasses import fields, replace

import pytest

from chain import codec
from chain.blocks import (
    BLOCK_RECEIPT,
    BLOCK_TRANSACTIONS_MAX,
    HEADER,
    HEADER_SIZE_MAX,
    RECEIPT,
    Block,
    BlockReceipt,
    Event,
    Header,
    Receipt,
    decode_block,
    decode_header,
    encode_block,
    receipt_root,
    render_header,
    transaction_root,
)
from chain.errors import DecodeError
from chain.merkle import merkle_root
from chain.types import HEIGHT_MAX, ROUND_MAX, TIME_MS_MAX
from tests.builders import Chain, digest_of


@pytest.fixture(scope="module")
def block():
    chain = Chain()
    device = chain.register()
    return chain.block(chain.by_device(device), chain.by_device(device))


OTHER = {
    "genesis_hash": digest_of("x"),
    "height": 99,
    "time_ms": 99,
    "parent_hash": digest_of("x"),
    "transaction_root": digest_of("x"),
    "receipt_root": digest_of("x"),
    "state_root": digest_of("x"),
    "miner_set_hash": digest_of("x"),
    "next_miner_set_hash": digest_of("x"),
    "proposer": digest_of("x"),
    "proposal_round": 99,
}


@pytest.mark.attack("B14")
def test_every_field_changes_the_hash(block):
    hashes = {replace(block.header, **{name: value}).hash for name, value in OTHER.items()}

    assert set(OTHER) | {"version", "hash"} == {field.name for field in fields(Header)}
    assert len(hashes | {block.header.hash}) == len(OTHER) + 1


def test_equal_values_in_other_fields_have_another_hash(block):
    # A hash over values without their places would not tell these apart.
    a, b = digest_of("a"), digest_of("b")
    first = replace(block.header, transaction_root=a, receipt_root=b)
    second = replace(block.header, transaction_root=b, receipt_root=a)

    assert first.hash != second.hash


def test_a_header_comes_back_from_its_bytes(block):
    data = HEADER.encode(block.header)

    assert decode_header(data) == block.header
    assert decode_header(data).hash == block.header.hash
    assert HEADER.parse(HEADER.render(block.header), "header") == block.header
    assert render_header(block.header)["hash"] == block.header.hash.hex()


def test_the_largest_header_fits_its_bound(block):
    largest = replace(
        block.header, height=HEIGHT_MAX, time_ms=TIME_MS_MAX, proposal_round=ROUND_MAX
    )

    assert len(HEADER.encode(largest)) <= HEADER_SIZE_MAX


def test_a_block_of_another_version_is_not_read(block):
    with pytest.raises(DecodeError):
        decode_header(codec.encode([2, *HEADER.write(block.header)[1:]]))


def test_a_block_comes_back_from_its_bytes(block):
    data = encode_block(block)
    again = decode_block(data)

    assert again.header == block.header
    assert [tx.wire for tx in again.transactions] == [tx.wire for tx in block.transactions]
    assert encode_block(again) == data


@pytest.mark.parametrize(
    "change",
    [
        lambda header, wires: (header,),
        lambda header, wires: (header, wires, b""),
        lambda header, wires: (header, wires[0]),
        lambda header, wires: (wires, header),
        lambda header, wires: (header, [wires]),
        lambda header, wires: (header, [*wires, b""]),
        lambda header, wires: (header, [*wires, None]),
        lambda header, wires: (header, [*wires, wires[0][:-1]]),
        lambda header, wires: (header + b"\x00", wires),
        lambda header, wires: (header, [wires[0]] * (BLOCK_TRANSACTIONS_MAX + 1)),
        lambda header, wires: (header, [wires[0], *([b"\x90"] * BLOCK_TRANSACTIONS_MAX)]),
    ],
)
def test_other_bytes_are_no_block(block, change):
    parts = change(HEADER.encode(block.header), [tx.wire for tx in block.transactions])

    with pytest.raises(DecodeError):
        decode_block(codec.encode(parts))


def test_as_many_transactions_as_allowed_are_read(block):
    wires = [block.transactions[0].wire] * BLOCK_TRANSACTIONS_MAX
    data = codec.encode((HEADER.encode(block.header), wires))

    assert len(decode_block(data).transactions) == BLOCK_TRANSACTIONS_MAX


@pytest.mark.attack("B13")
def test_bytes_do_not_move_between_transactions(block):
    # CVE-2023-46132: the same block hash over other transactions.
    digests = [tx.digest for tx in block.transactions]

    assert transaction_root(digests) != transaction_root(digests[::-1])
    assert transaction_root(digests) != transaction_root([digests[0]])
    assert transaction_root(digests) != transaction_root([*digests, digests[-1]])


def test_receipts_are_under_a_root_of_their_own(block):
    receipt = Receipt(
        transaction_id=block.transactions[0].id,
        index=0,
        events=(Event(name="something", values=("a", "b")),),
    )
    other = replace(receipt, events=(Event(name="something", values=("ab",)),))
    nothing, end = BlockReceipt(events=()), BlockReceipt(events=receipt.events)
    roots = {
        merkle_root(()),
        receipt_root((), nothing),
        receipt_root((), end),
        receipt_root((receipt,), nothing),
        receipt_root((receipt,), end),
        receipt_root((receipt, receipt), nothing),
        receipt_root((replace(receipt, index=1),), nothing),
        receipt_root((replace(receipt, events=()),), nothing),
        receipt_root((other,), nothing),
    }

    assert len(roots) == 9
    assert RECEIPT.parse(RECEIPT.render(receipt), "receipt") == receipt
    assert BLOCK_RECEIPT.parse(BLOCK_RECEIPT.render(end), "receipt") == end


def test_a_block_is_a_value(block):
    assert Block(header=block.header, transactions=block.transactions) == block


def test_transactions_that_were_read_before_are_not_read_again(block):
    known = block.transactions[0]

    again = decode_block(encode_block(block), {known.digest: known}.get)

    assert again.transactions[0] is known
    assert [tx.wire for tx in again.transactions] == [tx.wire for tx in block.transactions]
