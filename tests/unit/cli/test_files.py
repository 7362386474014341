"""`securenet tx submit --file` and `tx fetch`: readers alone, whole or not at all, and going on."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from chain.blobs import CHUNK_SIZE, blob_digest
from chain.chunks import PLAIN_CHUNK_SIZE, FileCipher
from chain.crypto import signing_key
from chain.kinds.device_data import file_of
from chain.manifests import decode_manifest
from cli.exit_codes import ExitCode
from node.keys import load_reader_key
from tests.unit.cli.conftest import key_file

SENSOR = signing_key("ed25519", b"s" * 32)
DATA = bytes(range(256)) * 2_500


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "image.bin"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def reader(securenet: Any, tmp_path: Path) -> Path:
    assert securenet(*new_key(tmp_path / "reader.json")).code == ExitCode.OK
    return tmp_path / "reader.json"


@pytest.fixture
def device(node: Any) -> None:
    node.register(SENSOR)


def new_key(out: Path) -> tuple[Any, ...]:
    return "keys", "new", "--out", out, "--algorithm", "x25519"


def public(securenet: Any, key: Path) -> str:
    found: str = securenet("keys", "show", key, "--json").document["public_key"]
    return found


def named_in(node: Any) -> Any:
    found = [file_of(transaction) for transaction in node.chain.blocks[-1].transactions]
    assert found[0] is not None
    return found[0]


@pytest.fixture
def sent(securenet: Any, node: Any, device: None, sensor: Path, file: Path, reader: Path) -> str:
    """Return the id of the transaction of a file that is sent to one reader."""
    to = public(securenet, reader)
    ended = securenet("tx", "submit", "--key", sensor, "--file", file, "--to", to, "--json")
    assert ended.code == ExitCode.OK, ended.err
    id: str = ended.document["id"]
    return id


def test_a_reader_gets_back_what_the_device_sent(securenet, node, sent, reader, tmp_path):
    ended = securenet("tx", "fetch", sent, "--key", reader, "--out", tmp_path / "copy", "--json")

    assert ended.code == ExitCode.OK, ended.err
    assert (tmp_path / "copy").read_bytes() == DATA
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o600
    document = ended.document
    assert (document["name"], document["size"], document["readers"]) == ("image.bin", len(DATA), 1)
    assert sorted(tmp_path.glob(".*")) == []


def test_nodes_hold_nothing_that_tells_contents_name_or_reader(securenet, node, sent, reader):
    chunks = node.blobs[named_in(node).chunks.hex()]
    held = b"".join(node.blobs.values())

    assert len(node.blobs) == 2
    assert DATA[:64] not in chunks
    assert b"image.bin" not in held
    assert bytes.fromhex(public(securenet, reader)) not in held


@pytest.mark.parametrize("trusted", [True, False])
def test_the_place_on_the_chain_is_proven(securenet, node, sent, reader, tmp_path, trusted):
    trust = node.chain.genesis.hash.hex() if trusted else "ab" * 32

    ended = securenet(
        "tx", "fetch", sent, "--key", reader, "--out", tmp_path / "copy", "--trust", trust
    )

    assert (ended.code == ExitCode.OK) == trusted
    assert (tmp_path / "copy").exists() == trusted


def test_another_reader_and_no_reader_are_told_so(securenet, node, sent, tmp_path):
    securenet(*new_key(tmp_path / "other.json"))

    for key in (("--key", tmp_path / "other.json"), ()):
        ended = securenet("tx", "fetch", sent, *key, "--out", tmp_path / "copy")

        assert ended.code == ExitCode.KEY
        assert "encrypted" in ended.err
        assert len(ended.err.splitlines()) == 2
        assert list(tmp_path.glob("*copy*")) == []


def test_a_key_that_signs_reads_nothing_and_the_other_way_round(
    securenet, node, sent, sensor, reader, tmp_path
):
    fetched = securenet("tx", "fetch", sent, "--key", sensor, "--out", tmp_path / "copy")
    signed = securenet("tx", "submit", "--key", reader, "--reading", "t=1")

    assert (fetched.code, signed.code) == (ExitCode.KEY, ExitCode.KEY)
    assert "x25519" in fetched.err
    assert "signs nothing" in signed.err


def test_without_readers_everybody_may_read(securenet, node, device, sensor, file, tmp_path):
    id = securenet("tx", "submit", "--key", sensor, "--file", file, "--json").document["id"]

    ended = securenet("tx", "fetch", id, "--out", tmp_path / "copy", "--json")

    assert ended.document["readers"] == 0
    assert (tmp_path / "copy").read_bytes() == DATA


def test_each_of_several_readers_gets_it(securenet, node, device, sensor, file, tmp_path):
    keys = [tmp_path / f"{number}.json" for number in range(3)]
    for key in keys:
        securenet(*new_key(key))
    to = [part for key in keys for part in ("--to", public(securenet, key))]
    id = securenet("tx", "submit", "--key", sensor, "--file", file, *to, "--json").document["id"]

    for key in keys:
        out = key.with_suffix(".out")
        assert securenet("tx", "fetch", id, "--key", key, "--out", out).code == ExitCode.OK
        assert out.read_bytes() == DATA


@pytest.mark.parametrize("size", [0, 1, PLAIN_CHUNK_SIZE, PLAIN_CHUNK_SIZE + 1])
def test_files_of_any_size(securenet, node, device, sensor, tmp_path, size):
    (tmp_path / "file").write_bytes(DATA[:size])
    ended = securenet("tx", "submit", "--key", sensor, "--file", tmp_path / "file", "--json")

    securenet("tx", "fetch", ended.document["id"], "--out", tmp_path / "copy")

    assert (tmp_path / "copy").read_bytes() == DATA[:size]


@pytest.mark.parametrize("what", ["chunk", "order", "length", "manifest", "other manifest"])
def test_a_wrong_answer_leaves_nothing_behind(securenet, node, sent, reader, tmp_path, what):
    named = named_in(node)
    chunks, manifest = named.chunks.hex(), named.manifest.hex()
    data = bytearray(node.blobs[chunks])
    if what == "chunk":
        data[CHUNK_SIZE + 5] ^= 1
    elif what == "order":
        data[:CHUNK_SIZE], data[CHUNK_SIZE : 2 * CHUNK_SIZE] = (
            data[CHUNK_SIZE : 2 * CHUNK_SIZE],
            data[:CHUNK_SIZE],
        )
    elif what == "length":
        del data[2 * CHUNK_SIZE :]
    elif what == "manifest":
        node.blobs[manifest] = node.blobs[manifest][:-1] + b"\0"
    else:
        node.blobs[manifest] = b""
    node.blobs[chunks] = bytes(data)

    ended = securenet("tx", "fetch", sent, "--key", reader, "--out", tmp_path / "copy")

    assert ended.code == ExitCode.MISSED
    assert len(ended.err.splitlines()) == 2
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("which", ["chunks", "manifest"])
def test_a_blob_that_nobody_holds_is_told(securenet, node, sent, reader, tmp_path, which):
    del node.blobs[getattr(named_in(node), which).hex()]

    ended = securenet("tx", "fetch", sent, "--key", reader, "--out", tmp_path / "copy")

    assert ended.code == ExitCode.NOT_FOUND
    assert not (tmp_path / "copy").exists()


def test_a_fetch_that_broke_off_goes_on_behind_what_it_has(securenet, node, sent, reader, tmp_path):
    named = named_in(node)
    whole = node.blobs[named.chunks.hex()]
    node.blobs[named.chunks.hex()] = whole[: CHUNK_SIZE + 100]
    fetch = ("tx", "fetch", sent, "--key", reader, "--out", tmp_path / "copy")
    assert securenet(*fetch).code == ExitCode.MISSED
    node.blobs[named.chunks.hex()] = b"\0" * CHUNK_SIZE + whole[CHUNK_SIZE:]

    ended = securenet(*fetch)

    # The first chunk was not asked for again: it would have been refused.
    assert ended.code == ExitCode.OK, ended.err
    assert (tmp_path / "copy").read_bytes() == DATA
    assert list(tmp_path.glob(".copy*")) == []


def test_what_was_kept_is_not_believed(securenet, node, sent, reader, tmp_path):
    named = named_in(node)
    kept = tmp_path / f".copy.{named.chunks.hex()[:16]}.part"
    kept.write_bytes(b"forged" + DATA[6:PLAIN_CHUNK_SIZE])
    fetch = ("tx", "fetch", sent, "--key", reader, "--out", tmp_path / "copy")

    assert securenet(*fetch).code == ExitCode.MISSED
    assert sorted(tmp_path.glob("*copy*")) == []
    assert securenet(*fetch).code == ExitCode.OK


def test_a_reader_who_forges_chunks_is_found_out(securenet, node, sent, reader, tmp_path):
    named = named_in(node)
    manifest = decode_manifest(node.blobs[named.manifest.hex()])
    cipher = FileCipher(manifest.open(load_reader_key(reader)), manifest.size_bytes)
    forged = cipher.seal(0, bytes(PLAIN_CHUNK_SIZE))
    node.blobs[named.chunks.hex()] = forged + node.blobs[named.chunks.hex()][CHUNK_SIZE:]

    ended = securenet("tx", "fetch", sent, "--key", reader, "--out", tmp_path / "copy")

    assert ended.code == ExitCode.MISSED
    assert list(tmp_path.glob("*copy*")) == []


def test_what_names_no_file_and_what_is_there_are_told(securenet, node, sent, sensor, reader, file):
    id = securenet("tx", "submit", "--key", sensor, "--reading", "t=1", "--json").document["id"]

    no_file = securenet("tx", "fetch", id, "--key", reader, "--out", file.with_name("copy"))
    there = securenet("tx", "fetch", sent, "--key", reader, "--out", file)

    assert (no_file.code, there.code) == (ExitCode.USAGE, ExitCode.ALREADY_THERE)
    assert file.read_bytes() == DATA


def test_a_sending_that_broke_off_goes_on_under_its_transaction(
    securenet, node, device, sensor, file, tmp_path
):
    send = ("tx", "submit", "--key", sensor, "--file", file, "--json")
    node.refuses_large_blobs = True
    assert securenet(*send).code == ExitCode.REFUSED
    note, height = tmp_path / ".image.bin.sending", len(node.chain.blocks)
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    node.refuses_large_blobs = False

    ended = securenet(*send)

    assert ended.code == ExitCode.OK, ended.err
    assert len(node.chain.blocks) == height, "it was not registered twice"
    named = named_in(node)
    assert ended.document["id"] == node.chain.blocks[-1].transactions[0].id.hex()
    assert blob_digest(node.blobs[named.chunks.hex()]) == named.chunks
    assert not note.exists()


def test_a_file_that_changed_since_it_was_registered_is_told(
    securenet, node, device, sensor, file, tmp_path
):
    send = ("tx", "submit", "--key", sensor, "--file", file)
    node.refuses_large_blobs = True
    assert securenet(*send).code == ExitCode.REFUSED
    node.refuses_large_blobs = False
    file.write_bytes(DATA + b"more")

    ended = securenet(*send)

    assert ended.code == ExitCode.USAGE
    assert "has changed" in ended.err
    (tmp_path / ".image.bin.sending").unlink()
    assert securenet(*send).code == ExitCode.OK


def test_what_one_device_began_to_send_no_other_goes_on_with(
    securenet, node, device, sensor, file, tmp_path
):
    node.register(signing_key("ed25519", b"o" * 32), "other")
    other = key_file(tmp_path / "other.json", "o")
    node.refuses_large_blobs = True
    assert securenet("tx", "submit", "--key", sensor, "--file", file).code == ExitCode.REFUSED
    node.refuses_large_blobs = False

    ended = securenet("tx", "submit", "--key", other, "--file", file)

    assert ended.code == ExitCode.USAGE
    assert "from another device" in ended.err
    (tmp_path / ".image.bin.sending").unlink()
    assert securenet("tx", "submit", "--key", other, "--file", file).code == ExitCode.OK


def test_a_note_of_which_nothing_came_is_passed_over(securenet, node, sensor, file):
    node.register(SENSOR)
    path = "/v1/transactions"
    node.overrides[path] = [web.json_response({"code": "busy", "detail": "x"}, status=503)]
    send = ("tx", "submit", "--key", sensor, "--file", file)
    assert securenet(*send).code == ExitCode.BUSY
    file.write_bytes(DATA[:100])

    assert securenet(*send).code == ExitCode.OK
    assert named_in(node).size_bytes == 116


@pytest.mark.parametrize(
    "arguments",
    [
        ("--file", "missing"),
        ("--file", "."),
        ("--file", "image.bin", "--reading", "t=1"),
        ("--file", "image.bin", "--to", "00" * 32),
        ("--file", "image.bin", "--to", "xyz"),
        ("--reading", "t=1", "--to", "ab" * 32),
    ],
)
def test_what_cannot_be_sent_is_told_before_anything_is(
    securenet, node, device, sensor, file, monkeypatch, arguments
):
    monkeypatch.chdir(file.parent)

    ended = securenet("tx", "submit", "--key", sensor, *arguments)

    assert ended.code == ExitCode.USAGE
    assert len(ended.err.splitlines()) == 2
    assert "POST /v1/transactions" not in node.requests


def test_a_damaged_note_is_told(securenet, node, device, sensor, file, tmp_path):
    (tmp_path / ".image.bin.sending").write_bytes(os.urandom(100))

    ended = securenet("tx", "submit", "--key", sensor, "--file", file)

    assert ended.code == ExitCode.USAGE
    assert ".sending" in ended.err


def test_a_readers_key_is_a_key_file_like_the_others(securenet, tmp_path):
    made = securenet(*new_key(tmp_path / "key.json"), "--json").document
    (tmp_path / "secret").write_text("correct horse")

    closed = securenet(
        *("keys", "encrypt", tmp_path / "key.json", "--out", tmp_path / "closed.json"),
        *("--new-passphrase-file", tmp_path / "secret", "--json"),
    ).document

    assert made["algorithm"] == "x25519"
    assert made["miner_id"] is None
    assert closed["public_key"] == made["public_key"]
    opened = load_reader_key(tmp_path / "closed.json", "correct horse")
    assert opened.public.hex() == made["public_key"]
