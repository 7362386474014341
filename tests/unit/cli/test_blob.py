"""``securenet blob``: put and get, whole and proven or not at all."""

import pytest

from chain.blobs import CHUNK_SIZE, blob_digest
from cli.exit_codes import ExitCode

DATA = bytes(range(256)) * 2_500
DIGEST = blob_digest(DATA)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "blob"
    path.write_bytes(DATA)
    return path


def test_a_file_goes_in_and_comes_back(securenet, node, file, tmp_path):
    ended = securenet("blob", "put", file, "--json")

    assert ended.document == {"id": DIGEST.hex(), "size": len(DATA), "chunks": 3}
    assert len(DATA) > 2 * CHUNK_SIZE
    assert node.blobs == {DIGEST.hex(): DATA}
    ended = securenet("blob", "get", DIGEST.hex(), "--out", tmp_path / "copy")
    assert ended.code == ExitCode.OK, ended.err
    assert (tmp_path / "copy").read_bytes() == DATA


def test_other_bytes_than_those_of_the_digest_leave_no_file(securenet, node, tmp_path):
    node.blobs[DIGEST.hex()] = DATA[:-1]

    ended = securenet("blob", "get", DIGEST.hex(), "--out", tmp_path / "copy")

    assert ended.code == ExitCode.MISSED
    assert "other bytes" in ended.err
    assert list(tmp_path.glob("*copy*")) == []


def test_what_is_there_is_not_replaced_and_what_nobody_has_is_told(securenet, node, file, tmp_path):
    taken = securenet("blob", "get", DIGEST.hex(), "--out", file)
    missing = securenet("blob", "get", DIGEST.hex(), "--out", tmp_path / "copy")

    assert (taken.code, missing.code) == (ExitCode.ALREADY_THERE, ExitCode.NOT_FOUND)
    assert file.read_bytes() == DATA


@pytest.mark.parametrize("what", ["empty", "missing"])
def test_what_is_no_blob_is_told_in_one_line(securenet, node, tmp_path, what):
    if what == "empty":
        (tmp_path / what).touch()

    ended = securenet("blob", "put", tmp_path / what)

    assert ended.code == ExitCode.USAGE
    assert len(ended.err.splitlines()) == 2
    assert node.requests == []
