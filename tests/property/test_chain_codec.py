"""Bytes from outside: one encoding of a value, and no error but DecodeError."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chain import codec
from chain.blocks import (
    BLOCK_RECEIPT,
    HEADER,
    RECEIPT,
    Block,
    decode_block,
    decode_header,
    encode_block,
)
from chain.certificate import CERTIFICATE, CERTIFICATE_SIZE_MAX, decode_certificate
from chain.errors import DecodeError
from chain.genesis import GENESIS
from chain.kinds import KINDS
from chain.kinds.base import Kind
from chain.schema import Record
from chain.state_tree import STATE_PROOF
from chain.table import Table
from chain.transactions import decode_transaction, sign_transaction
from tests.builders import Chain, key_of, reading
from tests.strategies import from_schema, items, mutated, payloads
from tests.tables import TABLES

SCANNED = 10_000
FUZZ = settings(max_examples=120)


@pytest.fixture(scope="module")
def chain() -> Chain:
    return Chain()


@given(items())
def test_what_is_encoded_is_decoded_again(value):
    encoded = codec.encode([value])

    assert codec.decode(encoded, what="value") == [value]
    assert codec.decode(encoded, what="value", items_max=SCANNED) == [value]


@FUZZ
@given(st.lists(items(), max_size=6).map(codec.encode).flatmap(mutated) | st.binary(max_size=200))
@example(b"\x91\x80")
@example(b"\x91\xd0\x01")
def test_bytes_are_refused_or_the_one_encoding_of_their_value(data):
    results: list[list[object] | None] = []
    for items_max in (codec.ITEMS_MAX, SCANNED):
        try:
            results.append(codec.decode(data, what="value", items_max=items_max))
        except DecodeError:
            results.append(None)

    assert results[0] == results[1] or any(value != value for value in results)  # NaN
    if results[0] is not None:
        assert codec.encode(results[0]) == data


BODIES = {name: kind.body for name, kind in KINDS.items()}
RECORDS = {table.record.make.__name__: table.record for table in TABLES}
OTHERS = {
    "header": HEADER,
    "certificate": CERTIFICATE,
    "receipt": RECEIPT,
    "block receipt": BLOCK_RECEIPT,
    "genesis": GENESIS,
    "state proof": STATE_PROOF,
}
ALL = {**BODIES, **RECORDS, **OTHERS}


@pytest.mark.parametrize("record", ALL.values(), ids=list(ALL))
@settings(max_examples=10)
@given(data=st.data())
def test_bytes_and_json_hold_the_same_value(record: Record[Any], data):
    value = data.draw(from_schema(record))
    encoded = record.encode(value)
    document = json.loads(json.dumps(record.render(value)))

    assert record.decode(encoded, what="value", size_max=codec.SIZE_MAX) == value
    parsed = record.parse(document, "value")
    assert parsed == value
    assert record.encode(parsed) == encoded


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
@settings(max_examples=25)
@given(data=st.data())
def test_a_body_is_refused_or_canonical(kind: Kind, data):
    encoded = kind.body.encode(data.draw(from_schema(kind.body)))
    changed = data.draw(mutated(encoded) | st.binary(max_size=60))
    try:
        value = kind.decode_bytes(changed)
    except DecodeError:
        return
    assert kind.body.encode(value) == changed


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.prefix.decode())
@settings(max_examples=8)
@given(data=st.data())
def test_a_record_of_the_state_is_refused_or_canonical(table: Table[Any], data):
    encoded = table.encode(data.draw(from_schema(table.record)))
    assert table.encode(table.decode(encoded)) == encoded
    changed = data.draw(mutated(encoded))
    try:
        value = table.decode(changed)
    except DecodeError:
        return
    assert table.encode(value) == changed


@FUZZ
@given(data=st.data())
def test_a_transaction_is_refused_or_canonical(data, chain):
    transaction = chain.by_device(chain_device(chain), reading(), nonce=bytes(8))
    changed = data.draw(mutated(transaction.wire) | st.binary(max_size=400))
    try:
        decoded = decode_transaction(changed)
    except DecodeError:
        return
    assert decoded.wire == changed
    assert (decoded.digest == transaction.digest) == (changed == transaction.wire)
    assert (decoded.id == transaction.id) == (decoded.payload_bytes == transaction.payload_bytes)


@settings(max_examples=50)
@given(payloads())
def test_a_signed_payload_comes_back_as_it_was(payload):
    transaction = sign_transaction(payload, key_of("anybody"))
    again = decode_transaction(transaction.wire)

    assert again.payload == payload
    assert (again.id, again.digest, again.signature) == (
        transaction.id,
        transaction.digest,
        transaction.signature,
    )


@settings(max_examples=50)
@given(data=st.data())
def test_no_receipt_is_read_as_one_of_the_other_sort(data):
    # Both are leaves of one tree, and a leaf says by its bytes alone which it is.
    for one, other in ((RECEIPT, BLOCK_RECEIPT), (BLOCK_RECEIPT, RECEIPT)):
        encoded = one.encode(data.draw(from_schema(one)))
        with pytest.raises(DecodeError):
            other.decode(encoded, what="receipt", size_max=codec.SIZE_MAX)


@FUZZ
@given(data=st.data())
def test_a_block_is_refused_or_canonical(data, chain):
    device = chain_device(chain)
    transactions = [chain.by_device(device, nonce=bytes(7) + bytes([n])) for n in range(2)]
    block = Block(header=chain.tip.header, transactions=tuple(transactions))
    changed = data.draw(mutated(encode_block(block)) | st.binary(max_size=200))
    try:
        decoded = decode_block(changed)
    except DecodeError:
        return
    assert encode_block(decoded) == changed


@FUZZ
@given(data=st.data())
def test_a_header_is_refused_or_canonical(data, chain):
    header = chain.tip.header
    changed = data.draw(mutated(HEADER.encode(header)) | st.binary(max_size=200))
    try:
        decoded = decode_header(changed)
    except DecodeError:
        return
    assert HEADER.encode(decoded) == changed
    assert (decoded.hash == header.hash) == (decoded == header)


@FUZZ
@given(data=st.data())
def test_a_certificate_is_refused_or_canonical(data, chain):
    certificate = chain.certificate(chain.tip.header, chain.miners)
    changed = data.draw(mutated(CERTIFICATE.encode(certificate)) | st.binary(max_size=200))
    try:
        decoded = decode_certificate(changed)
    except DecodeError:
        return
    assert CERTIFICATE.encode(decoded) == changed
    assert len(changed) <= CERTIFICATE_SIZE_MAX


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@pytest.mark.parametrize("record", ALL.values(), ids=list(ALL))
@settings(max_examples=10)
@given(data=st.data())
def test_json_is_refused_or_a_value(record: Record[Any], data):
    document = record.render(data.draw(from_schema(record)))
    names = st.sampled_from(sorted(document)) if document else st.text(max_size=5)
    document[data.draw(names | st.text(max_size=5))] = data.draw(JSON)
    try:
        value = record.parse(document, "value")
    except DecodeError:
        return
    assert record.decode(record.encode(value), what="value", size_max=codec.SIZE_MAX) == value


def chain_device(chain: Chain):
    return chain.registration("device")[0]
