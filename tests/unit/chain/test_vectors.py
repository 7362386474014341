"""The golden vectors: the code makes them, and a client written from the page alone does too.

The client below uses nothing of the project; it follows docs/spec/encoding.md.
"""

import ast
import hashlib
import hmac
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgpack import unpackb

from chain.blocks import decode_block, decode_header
from chain.certificate import VoteType, decode_certificate
from chain.genesis import genesis_header, genesis_state, parse_genesis
from chain.kinds import KINDS
from chain.light_client import verify_header
from chain.limits import parse_limits
from chain.lookback import BlockSummary, Lookback, OpenBlock
from chain.merkle import merkle_root, verify_inclusion
from chain.parameters import CHANGEABLE, FUTURE_DRIFT_MS, PARAMETERS, Parameters
from chain.schema import Integer
from chain.state import State, miner_sets_of
from chain.state_tree import STATE_PROOF
from chain.transactions import decode_transaction
from chain.types import Address, Digest, PublicKey
from scripts.make_vectors import render, vectors
from scripts.vectors.digests import TAGS
from tests.builders import Chain
from tests.tables import TABLES

FOLDER = Path(__file__).parents[2] / "vectors"


def load(name):
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made():
    return vectors()


@pytest.mark.parametrize(
    "name",
    [
        "aggregation.json",
        "algorithm_1.json",
        "blobs.json",
        "chain.json",
        "digests.json",
        "encoding.json",
        "federated.json",
        "files.json",
        "merkle.json",
        "signatures.json",
        "state_tree.json",
        "transactions.json",
    ],
)
def test_the_code_reproduces_the_file(made, name):
    assert (FOLDER / name).read_text(encoding="utf-8") == render(made[name])


# --- a client written from the page ---------------------------------------------------------------


def pack(value):
    """Return the canonical bytes, by the table of the page."""
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int():
            return pack_integer(value)
        case str():
            data = value.encode()
            if len(data) < 32:
                return bytes([0xA0 | len(data)]) + data
            return pack_length(len(data), {1: 0xD9, 2: 0xDA, 4: 0xDB}) + data
        case {"hex": str(text)}:
            data = bytes.fromhex(text)
            return pack_length(len(data), {1: 0xC4, 2: 0xC5, 4: 0xC6}) + data
        case list():
            inner = b"".join(pack(item) for item in value)
            if len(value) < 16:
                return bytes([0x90 | len(value)]) + inner
            return pack_length(len(value), {2: 0xDC, 4: 0xDD}) + inner
    raise AssertionError(value)


def pack_integer(value):
    if -32 <= value < 128:
        return bytes([value & 0xFF])
    heads = (
        {1: 0xCC, 2: 0xCD, 4: 0xCE, 8: 0xCF} if value > 0 else {1: 0xD0, 2: 0xD1, 4: 0xD2, 8: 0xD3}
    )
    for size, head in heads.items():
        if (value >> 8 * size if value > 0 else (value >> 8 * size - 1) + 1) == 0:
            return bytes([head]) + (value & (1 << 8 * size) - 1).to_bytes(size, "big")
    raise AssertionError(value)


def pack_length(length, heads):
    for size, head in heads.items():
        if length < 1 << 8 * size:
            return bytes([head]) + length.to_bytes(size, "big")
    raise AssertionError(length)


def tagged(tag, data):
    return hashlib.sha256(bytes([len(tag)]) + tag.encode() + data).hexdigest()


def raw(text):
    return {"hex": text}


def test_a_stranger_encodes_the_values():
    for case in load("encoding.json")["accepted"]:
        assert pack(case["value"]).hex() == case["bytes"]


def test_a_stranger_computes_the_ids_and_digests():
    known = load("digests.json")
    device, miners = known["device_id"], known["miner_set"]["members"]

    assert (
        tagged("securenet/address/v1", bytes.fromhex(known["miner_id"]["key"]))
        == (known["miner_id"]["id"])
    )
    assert tagged("securenet/organisation-id/v1", b"acme") == known["organisation_id"]["id"]
    first = [device["genesis_hash"], device["organisation"], device["first_key"]]
    assert tagged("securenet/device-id/v1", pack([raw(item) for item in first])) == device["id"]
    members = [[raw(member["id"]), raw(member["key"])] for member in miners]
    assert tagged("securenet/miner-set/v1", pack(members)) == known["miner_set"]["hash"]
    vote = known["commit_vote"]
    message = [
        raw(vote["genesis_hash"]),
        "commit",
        vote["height"],
        vote["round"],
        raw(vote["digest"]),
    ]
    assert pack(message).hex() == vote["message"]
    evidence = known["evidence"]
    statements = pack([raw(evidence["first"]), raw(evidence["second"])])
    assert statements.hex() == evidence["message"]
    assert tagged("securenet/evidence/v1", statements) == evidence["digest"]
    accepted = known["miner_acceptance"]
    keys = [raw(accepted[name]) for name in ("genesis_hash", "key", "node_key")]
    shown = [accepted["height"], raw(accepted["block_hash"]), accepted["valid_until_ms"]]
    assert pack([*keys, *shown]).hex() == accepted["message"]
    replaced = known["miner_key_replacement"]
    keys = [raw(replaced[name]) for name in ("genesis_hash", "miner", "key", "node_key")]
    assert pack([*keys, replaced["valid_until_ms"]]).hex() == replaced["message"]
    rate = known["registrar_rate"]
    assert (
        tagged("securenet/registrar-rate/v1", bytes.fromhex(rate["organisation"]))
        == rate["subject"]
    )


def tree(leaves):
    """Return the root over leaf data, by the page's words on RFC 9162."""
    level = [hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        odd = level[-1:] if len(level) % 2 else []
        level = [hashlib.sha256(b"\x01" + left + right).digest() for left, right in pairs] + odd
    return level[0].hex()


def test_a_stranger_computes_the_roots_over_receipts():
    ends = []
    for block in load("chain.json")["blocks"]:
        end = block["block_receipt"]
        shown = [*block["receipts"], end]
        events = [[[e["name"], e["values"]] for e in r["json"]["events"]] for r in shown]
        leaves = [
            pack([raw(r["json"]["transaction_id"]), r["json"]["index"], brought_about])
            for r, brought_about in zip(block["receipts"], events, strict=False)
        ]
        leaves.append(pack([events[-1]]))

        assert [leaf.hex() for leaf in leaves] == [r["bytes"] for r in shown]
        assert tree(leaves) == block["header"]["receipt_root"]
        ends += [event["name"] for event in end["json"]["events"]]
    assert ends == ["proposal_expired", *["round_phase"] * 5]


def test_a_stranger_builds_a_reading_that_the_chain_reads():
    known = next(case for case in load("transactions.json") if case["name"] == "a reading")
    form = known["json"]
    values = [
        [value["name"], value["value"], value["exponent"], value["unit"]]
        for value in form["body"]["payload"]["values"]
    ]
    body = pack([["reading", [values]]])
    payload = pack(
        [
            form["version"],
            raw(form["genesis_hash"]),
            form["kind"],
            raw(form["sender"]),
            form["time_ms"],
            raw(form["nonce"]),
            raw(body.hex()),
        ]
    )
    wire = pack([raw(payload.hex()), raw(form["signature"])])

    assert (payload.hex(), wire.hex()) == (known["payload"], known["wire"])
    assert tagged("securenet/transaction-id/v1", payload) == known["id"]
    assert tagged("securenet/transaction-digest/v1", wire) == known["digest"]
    assert known["signed"] == "18" + b"securenet/transaction/v1".hex() + payload.hex()
    assert decode_transaction(wire).is_signed_by(PublicKey(bytes.fromhex(known["public_key"])))


# --- what a reader of the files does --------------------------------------------------------------


def test_every_transaction_verifies_under_its_key():
    for known in load("transactions.json"):
        transaction = decode_transaction(bytes.fromhex(known["wire"]))

        assert transaction.is_signed_by(PublicKey(bytes.fromhex(known["public_key"]))), known[
            "name"
        ]
        assert transaction.id.hex() == known["id"]


def test_the_blocks_replay_to_the_state():
    known = load("chain.json")
    chain = Chain(parse_genesis(known["genesis"]))
    for block in known["blocks"]:
        miners = miner_sets_of(chain.state)[0]
        decoded = decode_block(bytes.fromhex(block["block"]))
        certificate = decode_certificate(bytes.fromhex(block["certificate_bytes"]))
        assert decode_header(bytes.fromhex(block["header_bytes"])) == decoded.header
        verify_header(decoded.header, certificate, miners)
        chain.accept(decoded)

    entries = {
        entry["table"].encode() + bytes.fromhex(entry["key"]): bytes.fromhex(entry["value"])
        for entry in known["state"]
    }
    assert chain.source.entries == entries
    assert chain.state.root.hex() == known["state_root"]


def test_the_state_of_the_vectors_shows_most_tables():
    shown = {entry["table"] for entry in load("chain.json")["state"]}

    assert {table.prefix.decode() for table in TABLES} - shown == {"passed-over"}


def test_a_round_is_drawn_as_the_page_says():
    case = load("federated.json")["draw"]
    round_id, seed = bytes.fromhex(case["round"]), bytes.fromhex(case["seed"])
    devices = [bytes.fromhex(device) for device in case["groups"]]

    order = sorted(
        devices, key=lambda device: tagged("securenet/round-draw/v1", seed + round_id + device)
    )

    count = len(devices) // case["group_size"]
    assert {device.hex(): place % count for place, device in enumerate(order)} == case["groups"]


def test_shares_are_handed_over_as_the_page_says():
    case = load("federated.json")["box"]
    given = {name: bytes.fromhex(case[name]) for name in case if isinstance(case[name], str)}
    ends = given["owner"] + given["receiver"]
    pads, shares = ([bytes.fromhex(item) for item in case[name]] for name in ("pads", "shares"))
    prime = 2**256 - 189

    # Each end computes them from its own secret and the other's key.
    for secret, key in (("owner_secret", "receiver_key"), ("receiver_secret", "owner_key")):
        shared = X25519PrivateKey.from_private_bytes(given[secret]).exchange(
            X25519PublicKey.from_public_bytes(given[key])
        )
        # HKDF-SHA256 for 64 bytes, by RFC 5869.
        extracted = hmac.digest(given["round"], shared, "sha256")
        info = b"securenet/fl/pad/1" + ends
        first = hmac.digest(extracted, info + b"\x01", "sha256")
        second = hmac.digest(extracted, first + info + b"\x02", "sha256")
        assert [int.from_bytes(made, "big") % prime for made in (first, second)] == [
            int.from_bytes(pad, "big") for pad in pads
        ]
    for kind, (pad, share) in enumerate(zip(pads, shares, strict=True)):
        part = given["box"][32 * kind : 32 * (kind + 1)]
        total = int.from_bytes(pad, "big") + int.from_bytes(part, "big")
        assert total % prime == int.from_bytes(share, "big")
        hashed = b"securenet/fl/share/2" + given["round"] + ends + bytes([kind]) + share
        assert hashlib.sha256(hashed).hexdigest()[:32] == case["hashes"][kind]


def test_blobs_are_named_as_the_page_says():
    for case in load("blobs.json"):
        size = case["size"]
        data = bytes(number % 251 for number in range(size))
        chunks = [data[at : at + 262_144] for at in range(0, size, 262_144)]
        root = merkle_root(chunks)
        assert case["root"] == root.hex()
        assert case["digest"] == tagged("securenet/blob/v1", size.to_bytes(8, "big") + root)
        assert case["last_chunk"]["index"] == len(chunks) - 1
        verify_inclusion(
            root=root,
            leaf=chunks[-1],
            index=len(chunks) - 1,
            leaf_count=len(chunks),
            path=[bytes.fromhex(sibling) for sibling in case["last_chunk"]["path"]],
        )


def derive(secret, tag, salt=b""):
    info = bytes([len(tag)]) + tag.encode()
    return HKDF(algorithm=SHA256(), length=32, salt=salt or None, info=info).derive(secret)


def test_a_reader_of_the_page_reads_the_files():
    for case in load("files.json"):
        version, file, size, root, entries, open_key, name = unpackb(
            bytes.fromhex(case["manifest"])
        )
        assert (version, file.hex(), size, root.hex()) == (
            1,
            case["file"],
            case["size"],
            case["chunks"]["root"],
        )
        keys = [open_key] if open_key else []
        for reader, (ephemeral, wrapped) in zip(case["readers"], entries, strict=True):
            private = X25519PrivateKey.from_private_bytes(bytes.fromhex(reader["private"]))
            shared = private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
            salt = ephemeral + bytes.fromhex(reader["public"])
            cipher = ChaCha20Poly1305(derive(shared, "securenet/file-key/v1", salt))
            keys.append(cipher.decrypt(bytes(12), wrapped, file))
        assert {key.hex() for key in keys} == {case["content_key"]}
        assert derive(keys[0], "securenet/file-id/v1") == file
        if case["name"] is not None:
            cipher = ChaCha20Poly1305(derive(keys[0], "securenet/file-name/v1"))
            padded = cipher.decrypt(bytes(12), name, file)
            assert padded[1 : 1 + padded[0]].decode() == case["name"]
            assert len(padded) == 256
        chunk_key = ChaCha20Poly1305(derive(keys[0], "securenet/file-chunk/v1"))
        data = bytes(number % 251 for number in range(size))
        count = max(1, -(-size // 262_128))
        leaves = []
        for index in range(count):
            nonce = index.to_bytes(11, "big") + bytes([index == count - 1])
            bound = b"\x17securenet/file-chunk/v1" + file + pack_u32(index) + pack_u32(count)
            part = data[index * 262_128 : (index + 1) * 262_128]
            leaves.append(chunk_key.encrypt(nonce, part, bound))
        assert [hashlib.sha256(b"\0" + leaf).hexdigest() for leaf in leaves] == (
            case["chunks"]["leaves"]
        )
        assert tree(leaves) == case["chunks"]["root"]
        assert case["chunks"]["size"] == size + 16 * count
        stored = case["chunks"]["size"].to_bytes(8, "big") + root
        assert tagged("securenet/blob/v1", stored) == case["chunks"]["digest"]
        manifest = bytes.fromhex(case["manifest"])
        named = len(manifest).to_bytes(8, "big") + merkle_root([manifest])
        assert tagged("securenet/blob/v1", named) == case["manifest_digest"]


def pack_u32(number):
    return number.to_bytes(4, "big")


def test_paths_of_the_merkle_trees_verify():
    for case in load("merkle.json"):
        leaves = [bytes.fromhex(leaf) for leaf in case["leaves"]]
        assert merkle_root(leaves).hex() == case["root"]
        for index, path in enumerate(case["paths"]):
            verify_inclusion(
                root=bytes.fromhex(case["root"]),
                leaf=leaves[index],
                index=index,
                leaf_count=len(leaves),
                path=[bytes.fromhex(item) for item in path],
            )


def test_proofs_of_the_state_trees_verify():
    for case in load("state_tree.json"):
        for known in case["proofs"]:
            STATE_PROOF.parse(known["proof"], "proof").verify(
                root=Digest(bytes.fromhex(case["root"])),
                key=bytes.fromhex(known["key"]),
                value=None if known["value"] is None else bytes.fromhex(known["value"]),
            )


def test_rate_cases_are_decided_as_written():
    subject = Address(bytes(32))
    for case in load("algorithm_1.json")["rates"]:
        past = Lookback()
        for height, block in enumerate(case["earlier_blocks"]):
            past.append(
                BlockSummary(
                    height=height,
                    time_ms=block["time_ms"],
                    ids=(),
                    sent={subject: block["count"]},
                    flows=(),
                    judged=None,
                ),
                Parameters(),
            )
        now = OpenBlock(
            past, time_ms=case["block_time_ms"], sent={subject: case["earlier_in_block"]}
        )
        passes = all(
            now.sent_within(subject, window.seconds) < window.capacity
            for window in parse_limits(case["limits"])
        )
        assert passes == case["passes"], case


def test_the_drift_of_the_vectors_is_the_chains():
    assert load("algorithm_1.json")["future_drift_ms"] == FUTURE_DRIFT_MS


def test_the_first_header_follows_from_the_genesis_document():
    known = load("chain.json")
    genesis = parse_genesis(known["genesis"])
    root = State(Chain(genesis).source).root

    assert genesis.hash.hex() == known["genesis_hash"]
    assert genesis_header(genesis, root).hash.hex() == known["genesis_header"]["hash"]
    assert genesis_state(genesis)
    assert VoteType.COMMIT.value == "commit"


# --- the page itself ------------------------------------------------------------------------------


def hex_in(block):
    """Return the bytes that the lines of a code block begin with; the rest of a line explains."""
    found = []
    for line in block.splitlines():
        for word in line.split():
            if len(word) % 2 or not set(word) <= set("0123456789abcdef"):
                break
            found.append(word)
    return "".join(found)


def test_the_worked_example_of_the_page_is_that_of_the_vectors():
    page = (FOLDER.parents[1] / "docs/spec/encoding.md").read_text(encoding="utf-8")
    example = page[page.index("### A worked example") :]
    body, payload = example.split("```")[1:5:2]
    known = next(case for case in load("transactions.json") if case["name"] == "a reading")

    assert hex_in(body) == known["body"]
    assert hex_in(payload) == known["payload"]
    for value in (known["id"], known["digest"], known["public_key"]):
        assert value in example


def test_the_page_names_every_kind_and_every_tag():
    page = (FOLDER.parents[1] / "docs/spec/encoding.md").read_text(encoding="utf-8")

    assert [name for name in KINDS if f"`{name}`" not in page] == []
    named = page.replace("`…/", "`securenet/")
    assert [tag for tag in TAGS if f"`{tag}`" not in named] == []


def test_the_page_on_state_names_every_table_parameter_and_code():
    spec = FOLDER.parents[1] / "docs/spec"
    page = (spec / "state.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}

    for table in TABLES:
        assert table.prefix.decode() in rows
    for name, field in PARAMETERS.fields.items():
        default = getattr(Parameters(), name)
        if name in CHANGEABLE and isinstance(field, Integer):
            assert f"{field.minimum:,}…{field.maximum:,}" in rows[name]
            assert f"| {default:,} |" in rows[name]
    page += (spec / "federated.md").read_text(encoding="utf-8")
    assert [code for code in rejection_codes() if f"`{code}`" not in page] == []


def rejection_codes():
    """Return the first string of every `Rejection(…)` and the second of every `require(…)`."""
    found = set()
    for path in sorted((FOLDER.parents[1] / "chain").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                place = {"Rejection": 0, "require": 1}.get(node.func.id)
                argument = None if place is None else node.args[place]
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    found.add(argument.value)
    assert len(found) > 20
    return sorted(found)
