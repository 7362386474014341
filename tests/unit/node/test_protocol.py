"""The kinds of message: their bytes, their limits, and that nothing else is read."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain import codec
from chain.blobs import BLOB_SIZE_MAX, CHUNK_SIZE, BlobChunk
from chain.blocks import BLOCK_SIZE_MAX, BLOCK_TRANSACTIONS_MAX, HEADER_SIZE_MAX
from chain.certificate import CERTIFICATE_SIZE_MAX
from chain.errors import DecodeError
from chain.merkle import PROOF_LENGTH_MAX
from chain.miners import MINERS_SIZE_MAX
from chain.state_range import PIECE_SIZE_MAX
from chain.transactions import TRANSACTION_SIZE_MAX
from chain.types import HEIGHT_MAX, Digest, Height
from consensus.messages import Proposal
from node import protocol
from node.p2p.limits import URGENT_KINDS_END
from node.past import RECEIPTS_SIZE_MAX, DecidedBytes, PastBlock
from node.protocol import (
    KINDS,
    RECORDS,
    Blocks,
    Bodies,
    Body,
    ChunkAnswer,
    DecidedAnswer,
    GetBlocks,
    GetBodies,
    GetChunk,
    GetDecided,
    GetPast,
    GetPiece,
    GetProposal,
    GetShown,
    PastAnswer,
    PieceAnswer,
    Shown,
    Status,
    SyncBlock,
    Transactions,
    decode_body,
    encode_body,
)
from tests.builders import Chain

BLOCK_BYTES_MAX = 7 * 1024 * 1024
"""The highest value of the parameter."""
DIGEST = Digest(b"\x0d" * 32)
DIGESTS = tuple(Digest(number.to_bytes(32, "big")) for number in range(BLOCK_TRANSACTIONS_MAX))
HEADER = Chain().tip.header
SAMPLES: dict[int, Body] = {
    protocol.STATUS: Status(height=Height(7), first=Height(3), snapshots=(Height(4),)),
    protocol.GET_BODIES: GetBodies(block=DIGEST, digests=DIGESTS[:3]),
    protocol.GET_PROPOSAL: GetProposal(block=DIGEST),
    protocol.PROPOSED: Proposal(header=HEADER, digests=DIGESTS[:2]),
    protocol.SHOWN: Shown(height=Height(8)),
    protocol.GET_SHOWN: GetShown(height=Height(8)),
    protocol.TRANSACTIONS: Transactions(wires=(b"one", b"two")),
    protocol.BODIES: Bodies(block=DIGEST, wires=(b"one",)),
    protocol.GET_BLOCKS: GetBlocks(height=Height(3), count=64),
    protocol.BLOCKS: Blocks(
        height=Height(3), blocks=(SyncBlock(block=b"block", certificate=b"proof"),)
    ),
    protocol.GET_DECIDED: GetDecided(height=Height(3)),
    protocol.DECIDED: DecidedAnswer(
        height=Height(3), found=DecidedBytes(header=b"head", certificate=b"proof", miners=b"set")
    ),
    protocol.GET_PIECE: GetPiece(height=Height(3), path=DIGEST),
    protocol.PIECE: PieceAnswer(height=Height(3), path=DIGEST, piece=b"piece"),
    protocol.GET_PAST: GetPast(height=Height(3), count=64),
    protocol.PAST: PastAnswer(
        height=Height(3),
        blocks=(PastBlock(block=b"block", certificate=b"proof", receipts=b"r", miners=b""),),
    ),
    protocol.GET_CHUNK: GetChunk(digest=DIGEST, index=3),
    protocol.CHUNK: ChunkAnswer(
        digest=DIGEST,
        index=3,
        chunk=BlobChunk(size=7 * CHUNK_SIZE, root=DIGEST, index=3, path=DIGESTS[:3], data=b"x"),
    ),
}
LARGEST: dict[int, Body] = {
    protocol.STATUS: Status(
        height=Height(HEIGHT_MAX),
        first=Height(HEIGHT_MAX),
        snapshots=(Height(HEIGHT_MAX),) * protocol.SNAPSHOTS_TOLD_MAX,
    ),
    protocol.GET_BODIES: GetBodies(block=DIGEST, digests=DIGESTS),
    protocol.GET_PROPOSAL: GetProposal(block=DIGEST),
    protocol.PROPOSED: Proposal(header=HEADER, digests=DIGESTS),
    protocol.SHOWN: Shown(height=Height(HEIGHT_MAX)),
    protocol.GET_SHOWN: GetShown(height=Height(HEIGHT_MAX)),
    protocol.TRANSACTIONS: Transactions(
        wires=(b"a" * (protocol.BATCH_SIZE_MAX - 1), b"b" * TRANSACTION_SIZE_MAX)
    ),
    protocol.BODIES: Bodies(
        block=DIGEST,
        wires=(b"x" * (BLOCK_BYTES_MAX // BLOCK_TRANSACTIONS_MAX),) * BLOCK_TRANSACTIONS_MAX,
    ),
    protocol.GET_BLOCKS: GetBlocks(height=Height(HEIGHT_MAX), count=protocol.SYNC_BLOCKS_MAX),
    protocol.BLOCKS: Blocks(
        height=Height(HEIGHT_MAX),
        blocks=(
            SyncBlock(block=b"x" * (protocol.SYNC_SIZE_MAX - 1), certificate=b""),
            SyncBlock(block=b"x" * BLOCK_SIZE_MAX, certificate=b"x" * CERTIFICATE_SIZE_MAX),
        ),
    ),
    protocol.GET_DECIDED: GetDecided(height=Height(HEIGHT_MAX)),
    protocol.DECIDED: DecidedAnswer(
        height=Height(HEIGHT_MAX),
        found=DecidedBytes(
            header=b"x" * HEADER_SIZE_MAX,
            certificate=b"x" * CERTIFICATE_SIZE_MAX,
            miners=b"x" * MINERS_SIZE_MAX,
        ),
    ),
    protocol.GET_PIECE: GetPiece(height=Height(HEIGHT_MAX), path=DIGEST),
    protocol.PIECE: PieceAnswer(
        height=Height(HEIGHT_MAX), path=DIGEST, piece=b"x" * PIECE_SIZE_MAX
    ),
    protocol.GET_PAST: GetPast(height=Height(HEIGHT_MAX), count=protocol.SYNC_BLOCKS_MAX),
    protocol.PAST: PastAnswer(
        height=Height(HEIGHT_MAX),
        blocks=(
            PastBlock(
                block=b"x" * (protocol.SYNC_SIZE_MAX - 1), certificate=b"", receipts=b"", miners=b""
            ),
            PastBlock(
                block=b"x" * BLOCK_SIZE_MAX,
                certificate=b"x" * CERTIFICATE_SIZE_MAX,
                receipts=b"x" * RECEIPTS_SIZE_MAX,
                miners=b"x" * MINERS_SIZE_MAX,
            ),
        ),
    ),
    protocol.GET_CHUNK: GetChunk(digest=DIGEST, index=2**14 - 1),
    protocol.CHUNK: ChunkAnswer(
        digest=DIGEST,
        index=2**14 - 1,
        chunk=BlobChunk(
            size=BLOB_SIZE_MAX,
            root=DIGEST,
            index=2**14 - 1,
            path=DIGESTS[:PROOF_LENGTH_MAX],
            data=b"x" * CHUNK_SIZE,
        ),
    ),
}


def test_every_kind_has_a_policy_a_schema_and_a_sample():
    assert RECORDS.keys() | {protocol.CONSENSUS} == KINDS.keys()
    assert SAMPLES.keys() == LARGEST.keys() == RECORDS.keys()


def test_only_what_may_be_large_goes_behind_consensus():
    bulk = {kind for kind in KINDS if kind >= URGENT_KINDS_END}

    small = {
        protocol.GET_BLOCKS,
        protocol.GET_DECIDED,
        protocol.DECIDED,
        protocol.GET_PIECE,
        protocol.GET_PAST,
        # A model can wait, consensus cannot.
        protocol.GET_CHUNK,
        protocol.CHUNK,
    }
    large = {kind for kind, policy in KINDS.items() if policy.payload_size_max > 2**19}
    assert large == bulk - small


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_body_reads_back_as_it_was_written(kind):
    assert decode_body(kind, encode_body(kind, SAMPLES[kind])) == SAMPLES[kind]


@pytest.mark.parametrize("kind", LARGEST)
def test_the_largest_body_of_an_honest_node_fits_the_limit_of_its_kind(kind):
    assert len(encode_body(kind, LARGEST[kind])) <= KINDS[kind].payload_size_max


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("change", ["cut", "longer", "nil", "map", "other"])
def test_any_other_bytes_are_refused(kind, change):
    good = encode_body(kind, SAMPLES[kind])
    bad = {
        "cut": good[:-1],
        "longer": good + b"\x00",
        "nil": b"\xc0",
        "map": b"\x80",
        "other": codec.encode((True, None)),
    }[change]

    with pytest.raises(DecodeError):
        decode_body(kind, bad)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (protocol.STATUS, (-1,)),
        (protocol.STATUS, (HEIGHT_MAX + 1,)),
        (protocol.STATUS, (True,)),
        (protocol.GET_BODIES, (DIGEST, bytes(33))),
        (protocol.GET_BODIES, (DIGEST[:31], b"")),
        (protocol.GET_BLOCKS, (1, 0)),
        (protocol.GET_BLOCKS, (1, protocol.SYNC_BLOCKS_MAX + 1)),
        (protocol.TRANSACTIONS, ([],)),
        (protocol.TRANSACTIONS, ([b""],)),
        (protocol.TRANSACTIONS, ([b"x" * (TRANSACTION_SIZE_MAX + 1)],)),
        (protocol.TRANSACTIONS, ([b"x"] * (protocol.BATCH_TRANSACTIONS_MAX + 1),)),
        (protocol.BLOCKS, (1, [[b"b", b"c"]] * (protocol.SYNC_BLOCKS_MAX + 1))),
        (protocol.BLOCKS, (1, [[b"b"]])),
    ],
)
def test_values_out_of_their_bounds_are_refused(kind, value):
    with pytest.raises(DecodeError):
        decode_body(kind, codec.encode(value))


@given(kind=st.sampled_from(sorted(SAMPLES)), data=st.binary(max_size=64))
def test_noise_is_refused_or_is_the_one_encoding_of_what_it_says(kind, data):
    try:
        body = decode_body(kind, data)
    except DecodeError:
        return
    assert encode_body(kind, body) == data


def test_the_specification_names_every_kind_with_its_limits():
    page = Path(__file__).parents[3] / "docs" / "spec" / "p2p.md"
    section = page.read_text().partition("## 8. Kinds of message")[2]
    rows = re.findall(
        r"^\| (\d+) \| [a-z ]+ \| .* \| ([\d,]+) \| ([\d,]+), ([\d,]+) \|", section, re.M
    )

    told = {int(kind): tuple(int(n.replace(",", "")) for n in numbers) for kind, *numbers in rows}

    assert told == {
        kind: (policy.payload_size_max, policy.messages_per_second, policy.burst)
        for kind, policy in KINDS.items()
    }
