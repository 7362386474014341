import json
import os
import stat

import pytest

from chain.crypto import verify
from node.errors import KeyFileError, StorageError, WrongPassphrase
from node.keys import (
    KEY_FILE_SIZE_MAX,
    PASSPHRASE_VARIABLE,
    ScryptCost,
    _checksum,
    copy_key,
    create_key,
    load_key,
    load_private_key,
    read_key_info,
)
from node.random_source import SystemRandom

RANDOM = SystemRandom()
CHEAP = ScryptCost(n=16, r=1)
ALGORITHMS = pytest.mark.parametrize("algorithm", ["ed25519", "p256"])
PASSPHRASES = pytest.mark.parametrize("passphrase", [None, "correct horse"])


@pytest.fixture(autouse=True)
def no_passphrase(monkeypatch):
    monkeypatch.delenv(PASSPHRASE_VARIABLE, raising=False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "key.json"


def create(path, algorithm="ed25519", passphrase=None):
    return create_key(path, algorithm, RANDOM, passphrase, cost=CHEAP)


def change(path, **fields):
    """Write other fields into a key file, and the checksum that belongs to them."""
    document = json.loads(path.read_text()) | fields
    document["checksum"] = _checksum(document)
    path.write_text(json.dumps(document))


@ALGORITHMS
@PASSPHRASES
def test_a_key_comes_back_from_its_file(path, algorithm, passphrase):
    key = create(path, algorithm, passphrase)

    loaded = load_key(path, passphrase)

    assert (loaded.algorithm, loaded.public) == (algorithm, key.public)
    assert verify(key.public, b"tag", b"message", loaded.sign(b"tag", b"message"))


def test_two_keys_differ(tmp_path):
    assert create(tmp_path / "a").public != create(tmp_path / "b").public


def test_a_seed_that_makes_no_key_is_drawn_again(path):
    seeds = [bytes(32), bytes(31) + b"\x05"]

    class Unlucky(SystemRandom):
        def bytes(self, size):
            return seeds.pop(0)

    create_key(path, "p256", Unlucky())

    assert load_private_key(path).seed == bytes(31) + b"\x05"


def test_the_file_belongs_to_its_owner_alone_whatever_the_umask(path):
    before = os.umask(0o277)
    try:
        create(path)
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_is_never_replaced(path):
    create(path)
    before = path.read_bytes()

    with pytest.raises(KeyFileError, match="there already"):
        create(path)

    assert path.read_bytes() == before


def test_a_key_is_not_written_through_a_link(path, tmp_path):
    path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(KeyFileError):
        create(path)

    assert not (tmp_path / "elsewhere").exists()


def test_no_file_is_left_where_the_disk_fails(path, monkeypatch):
    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(StorageError, match="No space"):
        create(path)

    assert not path.exists()


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StorageError, match="nowhere"):
        create(tmp_path / "nowhere" / "key.json")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o777])
def test_a_file_that_others_may_use_is_refused(path, mode):
    create(path)
    path.chmod(mode)

    with pytest.raises(KeyFileError, match=f"mode {mode:04o}.*chmod 600"):
        load_key(path)


def test_a_file_that_is_no_key_is_not_told_to_change_its_mode(path):
    path.write_text("# Read me")
    path.chmod(0o644)

    with pytest.raises(KeyFileError, match="it is no key file"):
        load_key(path)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_the_owner_alone_is_read(path, mode):
    key = create(path)
    path.chmod(mode)

    assert load_key(path).public == key.public


def test_an_encrypted_file_shows_neither_seed_nor_passphrase(path):
    create(path, passphrase="correct horse")
    seed = load_private_key(path, "correct horse").seed

    assert len(seed) == 32
    assert seed.hex() not in path.read_text()
    assert "horse" not in path.read_text()


def test_a_wrong_passphrase_is_told_from_damage(path):
    create(path, passphrase="correct horse")

    with pytest.raises(WrongPassphrase, match="passphrase is wrong"):
        load_key(path, "battery staple")
    with pytest.raises(WrongPassphrase, match="give its passphrase"):
        load_key(path)


def test_the_passphrase_may_come_from_the_environment(path, monkeypatch):
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "correct horse")
    key = create(path)

    assert read_key_info(path).is_encrypted
    assert load_key(path).public == key.public


def test_a_private_key_does_not_show_its_seed_when_it_is_printed(path):
    create(path)
    private = load_private_key(path)

    assert private.key.public == load_key(path).public
    assert repr(private.seed)[2:-1] not in repr(private)


def test_an_empty_passphrase_is_none(path, monkeypatch):
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "")

    create(path, passphrase="")

    assert not read_key_info(path).is_encrypted


def test_a_given_passphrase_goes_before_that_of_the_environment(path, monkeypatch):
    key = create(path, passphrase="correct horse")
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "battery staple")

    assert load_key(path, "correct horse").public == key.public


def test_a_passphrase_is_the_same_in_every_encoding_of_its_characters(path):
    key = create(path, passphrase="M\u00fcnze")

    assert load_key(path, "Mu\u0308nze").public == key.public


@PASSPHRASES
def test_the_public_part_needs_no_passphrase(path, passphrase):
    key = create(path, "p256", passphrase)

    info = read_key_info(path)

    assert (info.algorithm, info.public) == ("p256", key.public)
    assert info.is_encrypted is (passphrase is not None)


def test_a_key_is_encrypted_by_writing_it_again(path, tmp_path):
    key = create(path)
    out = tmp_path / "encrypted.json"

    copy_key(path, out, RANDOM, new_passphrase="correct horse", cost=CHEAP)

    assert read_key_info(out).is_encrypted
    assert load_key(out, "correct horse").public == key.public
    assert load_key(path).public == key.public


@PASSPHRASES
def test_every_changed_byte_is_found(path, passphrase):
    create(path, passphrase=passphrase)
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        if chr(whole[at]).isspace():
            continue
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(KeyFileError, match="damaged") as refusal:
            load_key(path, passphrase)
        assert not isinstance(refusal.value, WrongPassphrase)


@PASSPHRASES
def test_a_file_cut_short_is_damaged(path, passphrase):
    create(path, passphrase=passphrase)
    whole = path.read_bytes()
    for size in range(0, len(whole) - 2, 11):
        path.write_bytes(whole[:size])
        with pytest.raises(KeyFileError, match="damaged"):
            load_key(path, passphrase)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 4_000,
        b'{"version": 2}',
        b"x" * (KEY_FILE_SIZE_MAX + 1),
    ],
)
def test_what_is_no_key_file_is_refused(path, content):
    path.touch(0o600)
    path.write_bytes(content)

    with pytest.raises(KeyFileError, match="damaged"):
        load_key(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 2},
        {"algorithm": "rsa"},
        {"algorithm": "p256"},
        {"public": "00" * 32},
        {"seed": "00" * 31},
        {"seed": "zz" * 32},
        {"more": 1},
    ],
)
def test_a_file_whose_parts_do_not_fit_is_refused(path, fields):
    create(path)
    change(path, **fields)

    with pytest.raises(KeyFileError, match="damaged"):
        load_key(path)


@pytest.mark.parametrize("cost", [{"n": 2**20, "r": 32}, {"n": 2**30}, {"n": 0}, {"p": 10**6}])
def test_a_file_cannot_ask_for_any_amount_of_work(path, cost):
    create(path, passphrase="correct horse")
    sealed = json.loads(path.read_text())["seed"]
    change(path, seed=sealed | {"cost": sealed["cost"] | cost})

    with pytest.raises(KeyFileError, match="damaged"):
        load_key(path, "correct horse")


def test_the_public_key_cannot_be_exchanged(path):
    create(path, passphrase="correct horse")
    change(path, public="11" * 32)

    with pytest.raises(KeyFileError):
        load_key(path, "correct horse")


def test_a_message_never_shows_the_seed(path):
    create(path)
    seed = load_private_key(path).seed.hex()
    change(path, public=0)

    with pytest.raises(KeyFileError) as refusal:
        load_key(path)

    assert seed not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_what_is_not_there_or_not_a_file_is_named(tmp_path):
    with pytest.raises(KeyFileError, match="no such key file"):
        load_key(tmp_path / "missing.json")
    with pytest.raises(KeyFileError, match=r"cannot be read|not a file"):
        load_key(tmp_path)


def test_a_pipe_in_the_place_of_a_key_is_refused_at_once(path):
    os.mkfifo(path, 0o600)

    with pytest.raises(KeyFileError, match="not a file"):
        load_key(path)


def test_guessing_a_passphrase_is_dear_by_default():
    assert ScryptCost().memory_bytes == 64 * 1024 * 1024


def test_the_environment_s_passphrase_is_utf_8_whatever_the_locale(path, monkeypatch):
    key = create(path, passphrase="p\xe4ss")
    # What Python makes of the two bytes of \xe4 under an ASCII locale.
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "p\udcc3\udca4ss")

    assert load_key(path).public == key.public


def test_a_passphrase_that_is_no_text_is_told(path, monkeypatch):
    create(path, passphrase="p\xe4ss")
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "p\udce4ss")

    with pytest.raises(WrongPassphrase, match="no UTF-8"):
        load_key(path)
