import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from chain.types import Height
from consensus.durable import Floor, decode_record
from node.config import NodeConfig
from node.errors import ConfigError, DiskFull, KeyFileError, StorageError
from node.files import create_file
from node.home import (
    GENESIS_SIZE_MAX,
    HOME_VARIABLE,
    Home,
    default_home,
    init_home,
    load_genesis,
    write_genesis,
)
from node.keys import PASSPHRASE_VARIABLE, load_key, read_key_info
from node.random_source import SystemRandom
from node.storage.wal import Wal
from tests.builders import make_genesis

RANDOM = SystemRandom()
WHOLE = [
    "config.toml",
    "data/consensus.log",
    "data/consensus.log.lock",
    "genesis.json",
    "keys/miner.json",
    "keys/node.json",
]
CONFIG = NodeConfig(role="observer", threads=3)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    monkeypatch.delenv(PASSPHRASE_VARIABLE, raising=False)
    monkeypatch.delenv(HOME_VARIABLE, raising=False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home"


def init(path, **fields):
    return init_home(path, CONFIG, RANDOM, **fields)


def files(path):
    return sorted(str(found.relative_to(path)) for found in path.rglob("*") if found.is_file())


def test_a_new_home_has_everything_a_node_starts_from(path):
    home = init(path, genesis=make_genesis())

    assert files(path) == WHOLE
    assert home.load_config() == CONFIG
    assert home.load_genesis() == make_genesis()
    assert load_key(home.miner_key).public != load_key(home.node_key).public


def test_a_new_log_remembers_having_signed_nothing(path):
    home = init(path)

    wal = Wal(home.log, random=RANDOM)
    records = [decode_record(record) for record in wal.records()]
    wal.close()

    assert records == [Floor(height=Height(0))]


def test_nobody_else_may_enter(path):
    home = init(path)

    for private in (path, path / "keys", path / "data", home.miner_key, home.node_key):
        assert stat.S_IMODE(private.stat().st_mode) & 0o077 == 0, private


def test_keys_are_encrypted_when_a_passphrase_is_given(path):
    home = init(path, passphrase="correct horse")

    assert read_key_info(home.miner_key).is_encrypted
    assert read_key_info(home.node_key).is_encrypted


def test_the_genesis_may_come_later_but_only_once(path):
    home = init(path)
    assert not home.genesis.exists()

    write_genesis(home.genesis, make_genesis())

    assert home.load_genesis() == make_genesis()
    with pytest.raises(ConfigError, match="exists already"):
        write_genesis(home.genesis, make_genesis())


@pytest.mark.parametrize(
    "taken", ["config.toml", "keys/node.json", "data/consensus.log", "data/chain"]
)
def test_a_home_that_is_in_use_is_left_as_it_is(path, taken):
    (path / taken).parent.mkdir(parents=True)
    (path / taken).write_text("mine")

    with pytest.raises(ConfigError, match=f"{taken}: exists already"):
        init(path)

    assert files(path) == [taken]


def test_an_empty_directory_becomes_a_home(path):
    path.mkdir()

    assert init(path).load_config() == CONFIG


@pytest.mark.parametrize("fatal", range(1, 30))
def test_nothing_is_left_of_a_home_whose_making_failed(path, monkeypatch, fatal):
    """The disk is full from the n-th sync on."""
    syncs = 0
    sync = os.fsync

    def fsync(descriptor):
        nonlocal syncs
        syncs += 1
        if syncs >= fatal:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with suppress(DiskFull):
        init(path, genesis=make_genesis())
    monkeypatch.undo()

    assert files(path) == ([] if syncs >= fatal else WHOLE)
    if syncs >= fatal:
        assert init(path).load_config() == CONFIG


def test_what_was_there_before_survives_a_failure(path):
    path.mkdir()
    (path / "notes.txt").write_text("mine")
    (path / "genesis.json").write_text("theirs")

    with pytest.raises(ConfigError, match=r"genesis\.json: exists already"):
        init(path, genesis=make_genesis())

    assert files(path) == ["genesis.json", "notes.txt"]


def test_a_place_where_nothing_can_be_made_is_named(path):
    path.write_text("a file")

    with pytest.raises((ConfigError, StorageError, KeyFileError), match=str(path)):
        init(path)


def test_the_home_is_that_of_the_environment_or_of_the_user(monkeypatch):
    assert default_home() == Path.home() / ".securenet"

    monkeypatch.setenv(HOME_VARIABLE, "~/elsewhere")

    assert default_home() == Path.home() / "elsewhere"


def test_the_places_are_those_of_the_interface():
    home = Home(Path("h"))

    assert [str(place) for place in (home.config, home.genesis, home.miner_key, home.node_key)] == [
        "h/config.toml",
        "h/genesis.json",
        "h/keys/miner.json",
        "h/keys/node.json",
    ]
    assert home.chain.parent == home.log.parent == Path("h/data")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is no JSON"),
        (b"\xff", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", "genesis"),
        (b"{}", "genesis"),
        (b" " * (GENESIS_SIZE_MAX + 1), "larger than"),
    ],
)
def test_a_genesis_nobody_can_start_from_is_refused_in_one_line(tmp_path, content, reason):
    path = tmp_path / "genesis.json"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=reason) as refusal:
        load_genesis(path)

    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


def test_a_missing_genesis_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"genesis\.json: cannot be read"):
        load_genesis(tmp_path / "genesis.json")


def test_a_file_is_created_whole_and_never_replaced(tmp_path):
    path = tmp_path / "file"
    create_file(path, b"first")

    with pytest.raises(ConfigError, match="not replaced"):
        create_file(path, b"second")

    assert path.read_bytes() == b"first"
    assert files(tmp_path) == ["file"]


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)

    with pytest.raises(StorageError, match="No space left"):
        create_file(tmp_path / "file", b"data")

    assert files(tmp_path) == []
