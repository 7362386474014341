"""`securenet node snapshot`, `restore` and `reset`: what they do, and what they refuse."""

import shutil
from contextlib import closing
from hashlib import sha256

import pytest

from chain.types import Height
from cli.exit_codes import ExitCode
from consensus.durable import Floor, decode_record
from node.home import Home
from node.random_source import SystemRandom
from node.storage.lock import HomeLock
from node.storage.wal import Wal
from tests.unit.cli.test_db import content, empty, home, made, tip_of

__all__ = ["empty", "home", "made"]


@pytest.fixture
def file(securenet, made, tmp_path):
    path = tmp_path / "chain.snapshot"
    ended = securenet("node", "snapshot", "--home", made, "--out", path)
    assert ended.code == 0, ended.err
    return path


def restore(securenet, home, file, block_hash):
    return securenet("node", "restore", file, "--home", home.path, "--trust", block_hash)


def test_an_empty_home_is_restored_from_a_snapshot_and_is_sound(securenet, home, empty, file):
    height, block_hash = tip_of(securenet, home)

    assert restore(securenet, empty, file, block_hash).code == 0
    assert tip_of(securenet, empty) == (height, block_hash)
    assert securenet("db", "verify", "--home", empty.path).code == 0
    # What it has is enough to make the same again.
    again = file.with_name("again")
    assert securenet("node", "snapshot", "--home", empty.path, "--out", again).code == 0
    assert again.read_bytes() == file.read_bytes()


def test_a_snapshot_is_not_restored_over_a_chain(securenet, home, file):
    before = tip_of(securenet, home)

    ended = restore(securenet, home, file, before[1])

    assert ended.code == ExitCode.ALREADY_THERE
    assert tip_of(securenet, home) == before


def test_a_snapshot_of_a_block_that_is_not_trusted_is_refused(securenet, empty, file):
    before = content(empty.path)

    ended = restore(securenet, empty, file, "00" * 32)

    assert ended.code == ExitCode.USAGE
    assert "it is of block" in ended.err
    assert content(empty.path) == before


@pytest.mark.attack("D9")
def test_no_damaged_file_is_restored(securenet, home, empty, file):
    data, before = file.read_bytes(), content(empty.path)
    _, block_hash = tip_of(securenet, home)
    places = range(0, len(data), max(1, len(data) // 40))
    damaged = [data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :] for place in places]
    damaged += [data[:place] for place in places] + [data + b"\x00"]
    for changed in damaged:
        file.write_bytes(changed)
        ended = restore(securenet, empty, file, block_hash)
        assert ended.code in (ExitCode.USAGE, ExitCode.CONFIGURATION), ended.err
        assert len(ended.err.splitlines()) == 2
        assert content(empty.path) == before


def frames_of(data):
    """Return the frames of a snapshot, each with its size, without the end."""
    frames, at = [], 8
    while size := int.from_bytes(data[at : at + 4], "big"):
        frames.append(data[at : at + 4 + size])
        at += 4 + size
    return frames


def snapshot_of(frames):
    data = b"SNSNAP\x00\x01" + b"".join(frames) + bytes(4)
    return data + sha256(data).digest()


@pytest.mark.attack("D9")
def test_the_trusted_block_vouches_for_no_chain_that_is_slipped_in_behind_it(
    securenet, home, empty, file
):
    """Whoever makes a file can make its checksum, and a chain that proves itself by its own end."""
    height, block_hash = tip_of(securenet, home)
    ours = frames_of(file.read_bytes())
    assert snapshot_of(ours) == file.read_bytes()
    lower = ("node", "rollback", "--home", home.path, "--to", height - 1)
    assert securenet(*lower).code == 0
    other = file.with_name("other")
    assert securenet("node", "snapshot", "--home", home.path, "--out", other).code == 0
    theirs = frames_of(other.read_bytes())
    before = content(empty.path)

    for forged in ([ours[0], *theirs], [*ours, theirs[0]], theirs[1:], ours[1:], []):
        file.write_bytes(snapshot_of(forged))
        ended = restore(securenet, empty, file, block_hash)
        assert ended.code == ExitCode.USAGE, ended.err
        assert len(ended.err.splitlines()) == 2
        assert content(empty.path) == before


def test_a_snapshot_of_a_later_version_is_refused(securenet, home, empty, file):
    data = bytearray(file.read_bytes())
    data[7] = 2
    file.write_bytes(data)

    ended = restore(securenet, empty, file, tip_of(securenet, home)[1])

    assert ended.code == ExitCode.USAGE
    assert "version" in ended.err


def test_a_file_that_is_there_is_not_replaced(securenet, home, file):
    before = file.read_bytes()

    ended = securenet("node", "snapshot", "--home", home.path, "--out", file)

    assert ended.code == ExitCode.ALREADY_THERE
    assert file.read_bytes() == before


def records(home):
    with closing(Wal(home.log, random=SystemRandom())) as wal:
        return [decode_record(record) for record in wal.records()]


def test_a_reset_keeps_keys_and_configuration_alone(securenet, home):
    keys, config = home.miner_key.read_bytes(), home.config.read_bytes()

    ended = securenet("node", "reset", "--home", home.path, "--yes")

    assert ended.code == 0, ended.err
    assert not home.chain.exists()
    assert not home.log.exists()
    assert (home.miner_key.read_bytes(), home.config.read_bytes()) == (keys, config)


def test_a_reset_with_a_floor_lets_the_miner_sign_above_it(securenet, home):
    home.log.write_bytes(b"damaged")

    ended = securenet("node", "reset", "--home", home.path, "--signer-floor", "7", "--yes")

    assert ended.code == 0, ended.err
    assert records(home) == [Floor(height=Height(8))]


def test_a_single_miner_keeps_the_chain_and_gets_a_floor(securenet, home):
    """It could fetch the chain from nobody."""
    home.log.write_bytes(b"damaged")
    height = securenet("db", "stats", "--home", home.path, "--json").document["height"]

    words = ("node", "reset", "--home", home.path, "--keep-chain", "--signer-floor", height)
    ended = securenet(*words, "--yes")

    assert ended.code == 0, ended.err
    assert records(home) == [Floor(height=Height(height + 1))]
    assert securenet("db", "stats", "--home", home.path, "--json").document["height"] == height


@pytest.mark.parametrize("how", ["runs", "unsaid", "no home"])
def test_a_reset_that_may_not_be_changes_nothing(securenet, home, how):
    before = content(home.path)
    if how == "runs":
        with HomeLock(home.path):
            ended = securenet("node", "reset", "--home", home.path, "--yes")
        assert ended.code == ExitCode.STORAGE
    elif how == "unsaid":
        ended = securenet("node", "reset", "--home", home.path)
        assert ended.code == ExitCode.USAGE
    else:
        ended = securenet("node", "reset", "--home", home.path / "nowhere", "--yes")
        assert ended.code == ExitCode.USAGE

    assert content(home.path) == before


def test_commands_on_a_home_whose_node_runs_are_refused(securenet, home, empty, file):
    with HomeLock(home.path), HomeLock(empty.path):
        out = file.with_name("other")
        for arguments in (
            ("snapshot", "--home", home.path, "--out", out),
            ("restore", file, "--home", empty.path, "--trust", "00" * 32),
        ):
            ended = securenet("node", *arguments)
            assert ended.code in (ExitCode.STORAGE, ExitCode.USAGE)
    assert not out.exists()
    shutil.rmtree(Home(empty.path).path)
