"""Bytes of the messages: golden vectors, bounds, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain import codec
from chain.blocks import BLOCK_TRANSACTIONS_MAX
from chain.certificate import VOTE_TAG
from chain.errors import DecodeError
from chain.types import HEIGHT_MAX, ROUND_MAX
from consensus.codec import MESSAGE, MESSAGE_SIZE_MAX, decode_message, encode_message
from tests.interaction.cluster import GENESIS
from tests.unit.consensus.bench import Bench
from tests.unit.consensus.plain import Commit, Prepare, Proposal, RoundChange, verify

VECTORS = Path(__file__).parents[2] / "vectors" / "consensus.json"


def example_messages():
    """Return one message of each form, by name."""
    bench = Bench()
    proposal = bench.proposal(content=b"vector")
    certificate = bench.certificate(proposal)
    changes = [bench.round_change(0, 1, prepared=certificate)]
    changes += [bench.round_change(by, 1) for by in (1, 2)]
    return {
        "pre-prepare of round 0": bench.pre_prepare(proposal),
        "pre-prepare of a prepared block in round 1": bench.pre_prepare(
            proposal, 1, bench.justification(*changes, certificate=certificate)
        ),
        "prepare": bench.prepare(2, proposal),
        "commit": bench.commit(3, proposal, 1),
        "round-change, not prepared": bench.round_change(1, 1),
        "round-change, prepared": changes[0],
    }


def vectors():
    """Return the golden vectors as the code makes them now."""
    keys = {miner.id.hex(): miner.key.hex() for miner in Bench().miners}
    return {
        "genesis_hash": GENESIS.hex(),
        "tag": VOTE_TAG.decode(),
        "miners": keys,
        "messages": [
            {
                "name": name,
                "bytes": encode_message(message).hex(),
                "signed": message.statement(GENESIS).hex(),
                "signature": message.signature.hex(),
                "json": MESSAGE.render(message),
            }
            for name, message in example_messages().items()
        ],
    }


def test_the_bytes_of_messages_are_the_golden_ones():
    """A difference means other nodes and old logs can no longer be read."""
    assert json.loads(VECTORS.read_text()) == json.loads(json.dumps(vectors()))


def test_every_vector_decodes_to_a_message_whose_signature_verifies():
    golden = json.loads(VECTORS.read_text())
    for vector in golden["messages"]:
        message = decode_message(bytes.fromhex(vector["bytes"]))
        key = bytes.fromhex(golden["miners"][message.sender.hex()])
        statement = bytes.fromhex(vector["signed"])
        assert verify(key, VOTE_TAG, statement, message.signature)
        assert MESSAGE.parse(vector["json"], "json") == message


@pytest.mark.parametrize("name", example_messages())
def test_a_message_comes_back_from_its_bytes(name):
    message = example_messages()[name]
    assert decode_message(encode_message(message)) == message


def test_the_largest_proposal_fits():
    bench = Bench()
    digests = tuple(index.to_bytes(32, "big") for index in range(BLOCK_TRANSACTIONS_MAX))
    message = bench.pre_prepare(Proposal(header=bench.proposal().header, digests=digests))
    data = encode_message(message)
    assert 320_000 < len(data) < 330_000 < MESSAGE_SIZE_MAX
    assert decode_message(data) == message


def test_one_digest_too_many_is_refused():
    bench = Bench()
    digests = (bytes(32),) * (BLOCK_TRANSACTIONS_MAX + 1)
    message = bench.pre_prepare(Proposal(header=bench.proposal().header, digests=digests))
    with pytest.raises(DecodeError):
        decode_message(encode_message(message))


def test_a_prepared_round_change_is_small():
    message = example_messages()["round-change, prepared"]
    assert len(encode_message(message)) < 600


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, b"\x00" * 31),
        (0, "text"),
        (1, -1),
        (1, HEIGHT_MAX + 1),
        (1, True),
        (2, ROUND_MAX + 1),
        (3, b""),
        (3, None),
        (4, b"\x00" * 63),
    ],
)
def test_a_vote_with_a_field_out_of_bounds_is_refused(field, value):
    fields: Any = MESSAGE.write(example_messages()["prepare"])
    fields[1][field] = value
    with pytest.raises(DecodeError):
        decode_message(codec.encode(fields))


@pytest.mark.attack("D5")
@pytest.mark.parametrize("index", [-1, 100, 2**31])
def test_a_certificate_with_an_index_out_of_range_is_refused(index):
    """ATTACKS D5."""
    fields: Any = MESSAGE.write(example_messages()["round-change, prepared"])
    fields[1][5][3][0][0] = index
    with pytest.raises(DecodeError):
        decode_message(codec.encode(fields))


def test_half_a_digest_is_refused():
    fields: Any = MESSAGE.write(example_messages()["pre-prepare of round 0"])
    fields[1][3][1] += b"\x00"
    with pytest.raises(DecodeError):
        decode_message(codec.encode(fields))


@given(st.binary(max_size=300))
def test_arbitrary_bytes_decode_or_are_refused(data):
    try:
        message = decode_message(data)
    except DecodeError:
        return
    assert encode_message(message) == data


@pytest.mark.attack("D6")
@given(st.data())
def test_a_changed_byte_gives_an_error_or_other_bytes_in_canonical_form(data):
    """ATTACKS D3, D6: no decoder ends in anything but a value or a DecodeError."""
    name = data.draw(st.sampled_from(sorted(example_messages())))
    good = bytearray(encode_message(example_messages()[name]))
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = decode_message(bytes(good))
    except DecodeError:
        return
    assert encode_message(message) == bytes(good)


@pytest.mark.attack("B4")
@given(
    height=st.integers(0, HEIGHT_MAX),
    round=st.integers(0, ROUND_MAX),
    digest=st.binary(min_size=32, max_size=32),
)
def test_no_two_types_sign_the_same_bytes(height, round, digest):
    common = {"sender": digest, "height": height, "round": round}
    statements = {
        Prepare(**common, digest=digest).statement(GENESIS),
        Commit(**common, digest=digest).statement(GENESIS),
        RoundChange(
            **common, prepared_round=round, prepared_digest=digest, certificate=None
        ).statement(GENESIS),
        RoundChange(
            **common, prepared_round=None, prepared_digest=None, certificate=None
        ).statement(GENESIS),
    }
    assert len(statements) == 4
