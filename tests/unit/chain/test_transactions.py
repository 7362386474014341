"""chain.transactions: the envelope."""

from dataclasses import replace

import pytest

from chain import codec
from chain.errors import DecodeError
from chain.transactions import (
    BODY_SIZE_MAX,
    PAYLOAD,
    SIGNATURE_TAG,
    TRANSACTION_SIZE_MAX,
    Payload,
    attach_signature,
    decode_transaction,
    sign_transaction,
)
from chain.types import TIME_MS_MAX, Address, Digest, Signature, TimestampMs
from tests.builders import digest_of, key_of

KEY = key_of("sender")
PAYLOAD_VALUE = Payload(
    version=1,
    genesis_hash=digest_of("a chain"),
    kind="device.data",
    sender=Address(digest_of("a sender")),
    time_ms=TimestampMs(1_700_000_000_000),
    nonce=b"\x01" * 8,
    body=b"\x90",
)


def test_id_and_digest_differ_and_only_the_digest_covers_the_signature():
    first = attach_signature(PAYLOAD_VALUE, Signature(bytes(64)))
    second = attach_signature(PAYLOAD_VALUE, Signature(b"\x01" * 64))

    assert first.id == second.id != first.digest != second.digest
    assert first.payload_bytes == second.payload_bytes


@pytest.mark.attack("B14")
@pytest.mark.parametrize(
    "fields",
    [
        {"genesis_hash": Digest(bytes(32))},
        {"kind": "verdict"},
        {"sender": Address(bytes(32))},
        {"time_ms": TimestampMs(1)},
        {"nonce": bytes(8)},
        {"body": b"\x91\x00"},
    ],
)
def test_every_field_changes_the_id(fields):
    changed = replace(PAYLOAD_VALUE, **fields)

    assert sign_transaction(changed, KEY).id != sign_transaction(PAYLOAD_VALUE, KEY).id


def test_the_signature_is_over_the_payload_under_its_tag():
    transaction = sign_transaction(PAYLOAD_VALUE, KEY)

    assert transaction.is_signed_by(KEY.public)
    assert not transaction.is_signed_by(key_of("other").public)
    assert transaction.signature == KEY.sign(SIGNATURE_TAG, PAYLOAD.encode(PAYLOAD_VALUE))


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 0},
        {"version": 2},
        {"genesis_hash": bytes(31)},
        {"kind": ""},
        {"kind": "Device.Data"},
        {"kind": "device."},
        {"kind": "a.b.c"},
        {"kind": "x" * 33},
        {"sender": bytes(33)},
        {"time_ms": -1},
        {"time_ms": TIME_MS_MAX + 1},
        {"time_ms": 2**70},
        {"nonce": bytes(7)},
        {"nonce": bytes(9)},
        {"body": b""},
        {"body": bytes(BODY_SIZE_MAX + 1)},
        {"body": None},
    ],
)
def test_payloads_out_of_bounds_are_neither_signed_nor_read(fields):
    with pytest.raises(DecodeError):
        sign_transaction(replace(PAYLOAD_VALUE, **fields), KEY)


def test_the_largest_transaction_fits_its_bound():
    largest = replace(
        PAYLOAD_VALUE,
        kind="x" * 32,
        time_ms=TimestampMs(TIME_MS_MAX),
        body=bytes(BODY_SIZE_MAX),
    )

    assert len(sign_transaction(largest, KEY).wire) <= TRANSACTION_SIZE_MAX


def wire(payload, signature=bytes(64)):
    return codec.encode((payload, signature))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        codec.encode(()),
        codec.encode((PAYLOAD.encode(PAYLOAD_VALUE),)),
        codec.encode((PAYLOAD.encode(PAYLOAD_VALUE), bytes(64), b"")),
        wire(PAYLOAD.encode(PAYLOAD_VALUE), bytes(63)),
        wire(PAYLOAD.encode(PAYLOAD_VALUE), bytes(65)),
        wire(PAYLOAD.encode(PAYLOAD_VALUE), "x" * 64),
        wire(PAYLOAD.encode(PAYLOAD_VALUE).decode("latin-1")),
        wire(PAYLOAD.write(PAYLOAD_VALUE)),
        wire(b""),
        wire(PAYLOAD.encode(PAYLOAD_VALUE) + b"\x00"),
        wire(codec.encode(PAYLOAD.write(PAYLOAD_VALUE)[:-1])),
        wire(codec.encode([*PAYLOAD.write(PAYLOAD_VALUE), 0])),
        bytes(TRANSACTION_SIZE_MAX + 1),
    ],
)
def test_other_bytes_are_no_transaction(data):
    with pytest.raises(DecodeError):
        decode_transaction(data)


def test_a_body_is_read_once():
    transaction = sign_transaction(PAYLOAD_VALUE, KEY)
    read = []

    def reader(data):
        read.append(data)
        return "body"

    assert [transaction.body(reader), transaction.body(reader)] == ["body", "body"]
    assert read == [b"\x90"]
