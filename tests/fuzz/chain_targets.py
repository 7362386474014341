"""Readers of `chain`."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from chain import codec
from chain.blobs import CHUNK_SIZE
from chain.blocks import (
    BLOCK_RECEIPT,
    HEADER,
    RECEIPT,
    Block,
    decode_block,
    decode_header,
    encode_block,
)
from chain.certificate import CERTIFICATE, VoteType, decode_certificate
from chain.chunks import PLAIN_CHUNK_SIZE, FileCipher
from chain.crypto import check_public_key, verify
from chain.errors import (
    ChainError,
    DecodeError,
    InvalidCertificate,
    InvalidChunk,
    InvalidKey,
    InvalidProof,
)
from chain.genesis import GENESIS, parse_genesis, render_genesis
from chain.kinds import KINDS
from chain.kinds.base import Kind
from chain.kinds.evidence import read_head
from chain.limits import parse_limits, render_limits
from chain.manifests import MANIFEST, decode_manifest
from chain.merkle import inclusion_proof, merkle_root, verify_inclusion
from chain.miners import MinerSet, decode_miners, encode_miners
from chain.schema import Record
from chain.state_range import STATE_PIECE, cut_state, decode_piece, prove_range
from chain.state_tree import STATE_PROOF, StateTree, path_of
from chain.table import Table
from chain.transactions import decode_transaction
from chain.types import Digest
from tests.builders import Chain, make_genesis, make_miner_set, make_model
from tests.fuzz.target import Target, codec_target, drawn_seeds, pure, record_target
from tests.tables import TABLES

_PARTS: Final = (bytes(PLAIN_CHUNK_SIZE), b"the end")
_FILE: Final = FileCipher(b"k" * 32, sum(map(len, _PARTS)))

VECTORS: Final = Path(__file__).parents[1] / "vectors"


def vector_transactions() -> list[dict[str, Any]]:
    """Return the golden transactions: every kind in every form."""
    found: list[dict[str, Any]] = json.loads((VECTORS / "transactions.json").read_text())
    return found


def targets() -> Iterator[Target]:
    """Yield all of them."""
    yield codec_target("codec", _encodings, partial(codec.decode, what="value"), codec.encode)
    yield codec_target(
        "codec, long arrays",
        _encodings,
        partial(codec.decode, what="value", items_max=10_000),
        codec.encode,
    )
    yield codec_target("transaction", wires, decode_transaction, lambda found: found.wire)
    yield codec_target("block", _blocks, decode_block, encode_block)
    yield record_target("header", HEADER, decode_header, json_too=True)
    yield record_target("certificate", CERTIFICATE, decode_certificate, json_too=True)
    for name, record in (
        ("receipt", RECEIPT),
        ("block receipt", BLOCK_RECEIPT),
        ("genesis", GENESIS),
        ("state proof", STATE_PROOF),
    ):
        yield record_target(
            name, record, partial(record.decode, what=name, size_max=2**20), json_too=True
        )
    yield codec_target(
        "miner set",
        lambda: [encode_miners(make_miner_set(size)) for size in (1, 4, 7)],
        decode_miners,
        encode_miners,
    )
    yield codec_target("file manifest", _manifests, decode_manifest, MANIFEST.encode)
    yield pure("file chunk", "msgpack", _file_chunks, _check_file_chunk)
    yield pure("state piece", "msgpack", _pieces, _check_piece)
    for kind in KINDS.values():
        yield _body(kind)
    for table in TABLES:
        yield _table(table)
    yield pure("evidence statement", "msgpack", _statements, _check_statement)
    yield pure("genesis document", "json", genesis_documents, _check_genesis)
    yield pure("rate limits", "bytes", lambda: [b"10:1", b"10:1,300:60", b""], _check_limits)
    yield pure("public key", "bytes", _keys, _check_key)
    yield pure("signature", "msgpack", _signatures, _check_signature)
    yield pure("certificate by its miners", "msgpack", _certificates, _check_certificate)
    yield pure("inclusion proof", "msgpack", _inclusions, _check_inclusion)
    yield pure("state proof against its root", "msgpack", _state_proofs, _check_state_proof)


def wires() -> list[bytes]:
    """Return valid transactions in their bytes."""
    return [bytes.fromhex(vector["wire"]) for vector in vector_transactions()]


def genesis_documents() -> list[bytes]:
    """Return valid genesis documents."""
    return [
        json.dumps(render_genesis(made)).encode()
        for made in (make_genesis(), make_genesis(miners=1, model=make_model(), limits="10:1"))
    ]


def _encodings() -> list[bytes]:
    accepted = json.loads((VECTORS / "encoding.json").read_text())["accepted"]
    return [bytes.fromhex(vector["bytes"]) for vector in accepted]


def _manifests() -> list[bytes]:
    cases = json.loads((VECTORS / "files.json").read_text())
    return [bytes.fromhex(case["manifest"]) for case in cases]


def _file_chunks() -> list[bytes]:
    return [codec.encode([index, _FILE.seal(index, part)]) for index, part in enumerate(_PARTS)]


def _check_file_chunk(data: bytes) -> bool:
    try:
        index, sealed = codec.decode(data, what="chunk", size_max=2 * CHUNK_SIZE)
        if type(index) is not int or type(sealed) is not bytes:
            return False
        opened = _FILE.open(index, sealed)
    except (DecodeError, ValueError, InvalidChunk):
        return False
    assert opened == _PARTS[index], "another chunk passed for one of the file"
    return True


def _blocks() -> list[bytes]:
    chain = Chain(make_genesis(model=make_model()))
    device = chain.register()
    made = [chain.block(chain.by_device(device), chain.by_device(device)) for _ in range(2)]
    empty = Block(header=chain.tip.header, transactions=())
    return [encode_block(block) for block in (*made, empty)]


def _body(kind: Kind) -> Target:
    def again(value: Any) -> bytes:
        assert kind.body.parse(kind.body.render(value), "body") == value, "its JSON is another"
        return kind.body.encode(value)

    def seeds() -> list[bytes]:
        golden = [
            bytes.fromhex(vector["body"])
            for vector in vector_transactions()
            if vector["json"]["kind"] == kind.name
        ]
        return [*golden, *drawn_seeds(kind.body)()]

    return codec_target(f"body of {kind.name}", seeds, kind.decode_bytes, again)


def _table(table: Table[Any]) -> Target:
    record: Record[Any] = table.record
    name = f"state of {table.prefix.decode().rstrip('/')}"
    return record_target(name, record, table.decode, json_too=True)


def _statements() -> list[bytes]:
    vectors = json.loads((VECTORS / "consensus.json").read_text())["messages"]
    return [bytes.fromhex(vector["signed"]) for vector in vectors]


def _check_statement(data: bytes) -> bool:
    try:
        head = read_head(data)
    except DecodeError:
        return False
    fields = (head.genesis_hash, head.type, head.height, head.round)
    # What follows them is data, but the bytes have one meaning.
    assert data[1:].startswith(codec.encode(fields)[1:]), "it is about something else"
    return True


def _check_genesis(data: bytes) -> bool:
    try:
        genesis = parse_genesis(json.loads(data))
    except (ChainError, ValueError, RecursionError):
        return False
    assert parse_genesis(render_genesis(genesis)).hash == genesis.hash, "it is another chain"
    return True


def _check_limits(data: bytes) -> bool:
    try:
        text = data.decode()
        limits = parse_limits(text)
    except (DecodeError, UnicodeDecodeError):
        return False
    assert render_limits(limits) == text, "two texts mean the same"
    return True


def _keys() -> list[bytes]:
    vectors = vector_transactions()
    return [bytes.fromhex(key) for key in sorted({vector["public_key"] for vector in vectors})]


def _check_key(data: bytes) -> bool:
    try:
        return check_public_key(data) == data
    except InvalidKey:
        return False


def _signatures() -> list[bytes]:
    return [
        codec.encode(
            [bytes.fromhex(vector[name]) for name in ("public_key", "payload")]
            + [decode_transaction(bytes.fromhex(vector["wire"])).signature]
        )
        for vector in vector_transactions()
    ]


@cache
def _signed() -> frozenset[bytes]:
    return frozenset(_signatures())


def _check_signature(data: bytes) -> bool:
    """No other bytes than those of the seeds verify, and none make the verifier fail."""
    try:
        items = codec.decode(data, what="signature", items_max=3)
    except DecodeError:
        return False
    if len(items) != 3 or not all(type(item) is bytes for item in items):
        return False
    key, message, signature = items
    good = verify(key, b"securenet/transaction/v1", message, signature)  # type: ignore[arg-type]
    assert not good or data in _signed(), "a forged signature verifies"
    return good


@cache
def _certified() -> tuple[MinerSet, Any, list[bytes]]:
    chain = Chain()
    chain.commit()
    header, miners = chain.blocks[-1].header, chain.miners
    made = [
        chain.certificate(header, miners, signers=signers)
        for signers in ((0, 1, 2), (1, 2, 3), (0, 1, 2, 3))
    ]
    return miners, header, [CERTIFICATE.encode(certificate) for certificate in made]


def _certificates() -> list[bytes]:
    return _certified()[2]


def _check_certificate(data: bytes) -> bool:
    """Of all changed certificates only those hold that leave out a vote of more than a quorum."""
    miners, header, _ = _certified()
    try:
        certificate = decode_certificate(data)
        certificate.verify(type=VoteType.COMMIT, genesis_hash=header.genesis_hash, miners=miners)
    except (DecodeError, InvalidCertificate):
        return False
    assert (certificate.height, certificate.digest) == (header.height, header.hash)
    assert len({vote.index for vote in certificate.votes}) >= miners.quorum
    return True


_LEAVES: Final = [bytes((number,)) * 32 for number in range(11)]


def _inclusions() -> list[bytes]:
    return [
        codec.encode([index, len(_LEAVES), _LEAVES[index], list(inclusion_proof(_LEAVES, index))])
        for index in range(len(_LEAVES))
    ]


def _check_inclusion(data: bytes) -> bool:
    try:
        items: list[Any] = codec.decode(data, what="proof")
    except DecodeError:
        return False
    match items:
        case [int(index), int(count), bytes(leaf), list(path)] if all(
            type(item) is bytes for item in path
        ):
            pass
        case _:
            return False
    try:
        verify_inclusion(
            root=merkle_root(_LEAVES), leaf=leaf, index=index, leaf_count=count, path=tuple(path)
        )
    except InvalidProof:
        return False
    assert count != len(_LEAVES) or leaf == _LEAVES[index], "it proves what is not there"
    return True


_ENTRIES: Final = {bytes((number,)): bytes((number, number)) for number in range(20)}
_TREE: Final = StateTree().updated(_ENTRIES)


def _state_proofs() -> list[bytes]:
    return [
        codec.encode([key, _ENTRIES.get(key), STATE_PROOF.write(_TREE.prove(key))])
        for key in (bytes((number,)) for number in range(24))
    ]


def _check_state_proof(data: bytes) -> bool:
    try:
        items: list[Any] = codec.decode(data, what="proof")
        if len(items) != 3 or type(items[0]) is not bytes:
            return False
        if items[1] is not None and type(items[1]) is not bytes:
            return False
        STATE_PROOF.read(items[2], "proof").verify(root=_TREE.root, key=items[0], value=items[1])
    except (DecodeError, InvalidProof):
        return False
    assert items[1] == _ENTRIES.get(items[0]), "it proves what is not there"
    return True


def _state() -> tuple[StateTree, dict[bytes, bytes]]:
    entries = {b"device/%d" % number: bytes(number % 7 + 1) for number in range(60)}
    return StateTree().updated(entries), entries


def _pieces() -> list[bytes]:
    tree, entries = _state()
    (whole,) = cut_state(tree, entries.items())
    half = [entry for entry in whole.entries if path_of(entry.key) <= _HALF]
    first = replace(
        whole,
        last=_HALF,
        entries=tuple(half),
        steps=prove_range(tree, whole.first, _HALF),
    )
    return [STATE_PIECE.encode(piece) for piece in (whole, first)]


_HALF: Final = Digest(b"\x80" + bytes(31))


def _check_piece(data: bytes) -> bool:
    """Take nothing but what is in the state, and all of it."""
    tree, entries = _state()
    try:
        piece = decode_piece(data)
        piece.verify(tree.root)
    except (DecodeError, InvalidProof):
        return False
    inside = {
        key: value for key, value in entries.items() if piece.first <= path_of(key) <= piece.last
    }
    assert {entry.key: entry.value for entry in piece.entries} == inside, "not the range"
    return True
