"""`securenet keys`: files that only their owner reads, and that are never replaced."""

import os
import stat

import pytest

from cli.exit_codes import ExitCode


@pytest.fixture
def secret(tmp_path):
    (tmp_path / "secret").write_text("correct horse\nsecond line\n")
    return tmp_path / "secret"


@pytest.mark.parametrize(("algorithm", "digits"), [("ed25519", 64), ("p256", 66)])
def test_a_new_key_is_shown_as_it_was_made(securenet, tmp_path, algorithm, digits):
    out = tmp_path / "key.json"

    made = securenet("keys", "new", "--out", out, "--algorithm", algorithm, "--json").document
    shown = securenet("keys", "show", out, "--json").document

    assert made == shown
    assert len(made["public_key"]) == digits
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_of_a_key_file_that_is_not_there_it_is_said_where_such_files_are(securenet, tmp_path):
    ended = securenet("miner", "vote", "ab" * 32, "--key", tmp_path / "miner.json")

    assert ended.code == ExitCode.KEY
    assert "HOME/keys/miner.json" in ended.err


def test_a_key_is_never_replaced(securenet, tmp_path):
    out = tmp_path / "key.json"
    securenet("keys", "new", "--out", out)
    before = out.read_bytes()

    assert securenet("keys", "new", "--out", out).code == ExitCode.ALREADY_THERE
    assert out.read_bytes() == before


def test_an_encrypted_key_opens_with_its_passphrase_only(securenet, tmp_path, secret):
    plain, closed = tmp_path / "plain.json", tmp_path / "closed.json"
    key = securenet("keys", "new", "--out", plain, "--json").document["public_key"]

    ended = securenet(
        "keys", "encrypt", plain, "--out", closed, "--new-passphrase-file", secret, "--json"
    )

    assert ended.document["public_key"] == key
    opened = securenet("keys", "show", closed, "--passphrase-file", secret, "--json")
    assert opened.document["public_key"] == key
    locked = securenet("keys", "show", closed)
    assert locked.code == ExitCode.KEY
    assert "passphrase" in locked.err
    (tmp_path / "wrong").write_text("battery staple")
    wrong = securenet("keys", "show", closed, "--passphrase-file", tmp_path / "wrong")
    assert wrong.code == ExitCode.KEY
    assert "battery" not in wrong.err


@pytest.mark.parametrize("content", [b"", b"\nsecond", b"\xff\xfe"])
def test_a_passphrase_file_without_a_passphrase_is_told(securenet, tmp_path, content):
    (tmp_path / "secret").write_bytes(content)

    ended = securenet(
        *("keys", "new", "--out", tmp_path / "k", "--passphrase-file", tmp_path / "secret")
    )

    assert ended.code == ExitCode.USAGE
    assert not (tmp_path / "k").exists()


@pytest.mark.parametrize("content", ["", "{}", '{"seed": 1}', "[" * 10_000])
def test_a_damaged_key_file_is_one_line(securenet, tmp_path, content):
    (tmp_path / "k").write_text(content)
    os.chmod(tmp_path / "k", 0o600)

    ended = securenet("keys", "show", tmp_path / "k")

    assert ended.code == ExitCode.KEY
    assert len(ended.err.splitlines()) == 2


def test_a_key_file_that_others_may_read_is_refused(securenet, tmp_path):
    securenet("keys", "new", "--out", tmp_path / "k")
    os.chmod(tmp_path / "k", 0o644)

    assert securenet("keys", "show", tmp_path / "k").code == ExitCode.KEY


def test_a_missing_key_file_is_one_line(securenet, tmp_path):
    assert securenet("keys", "show", tmp_path / "absent").code == ExitCode.KEY


def test_a_key_in_a_folder_that_is_not_there_is_told(securenet, tmp_path):
    ended = securenet("keys", "new", "--out", tmp_path / "absent" / "key.json")

    assert ended.code == ExitCode.USAGE
    assert "absent is no directory" in ended.err
    assert len(ended.err.splitlines()) == 2
