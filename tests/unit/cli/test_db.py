"""`securenet db` and `node rollback`: what they say, what they change, and what they refuse."""

import asyncio
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from cli.exit_codes import ExitCode
from node.config import NodeConfig
from node.home import Home, init_home, write_genesis
from node.ports import WriteBatch
from node.random_source import SystemRandom
from node.storage import schema
from node.storage.leveldb import LevelDbStore
from node.storage.lock import HomeLock
from tests.builders import make_genesis
from tests.unit.node.storage.stored_chain import shrink_windows
from tests.unit.node.storage.test_pruning import aged

BLOCKS = 14


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Make the home of a node with some blocks, of which the tests take copies."""
    path: Path = tmp_path_factory.mktemp("made") / "home"

    async def fill() -> None:
        kv = LevelDbStore(Home(path).chain)
        stored = await aged(kv)
        assert stored.store.height == BLOCKS
        write_genesis(Home(path).genesis, stored.chain.genesis)
        kv.close()

    init_home(path, NodeConfig(role="joiner"), SystemRandom())
    asyncio.run(fill())
    return path


@pytest.fixture
def home(made, tmp_path) -> Home:
    shutil.copytree(made, tmp_path / "home")
    return Home(tmp_path / "home")


@pytest.fixture
def empty(made, tmp_path) -> Home:
    shutil.copytree(made, tmp_path / "empty")
    shutil.rmtree(Home(tmp_path / "empty").chain)
    return Home(tmp_path / "empty")


@pytest.fixture
def archive(securenet, made, tmp_path) -> Path:
    path: Path = tmp_path / "chain.archive"
    ended = securenet("db", "export", "--home", made, "--out", path)
    assert ended.code == 0, ended.err
    return path


def content(path: Path) -> dict[str, bytes]:
    """Return what a command must not change."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and "lock" not in file.name.lower() and "LOG" not in file.name
    }


def tip_of(securenet, home: Home) -> tuple[int, str]:
    found = securenet("node", "inspect", "--home", home.path, "--json").document
    return found["height"], found["block_hash"]


def test_stats_count_what_is_there(securenet, home):
    document = securenet("db", "stats", "--home", home.path, "--json").document

    assert document["height"] == BLOCKS
    assert document["classes"]["header"]["entries"] == BLOCKS + 1
    assert document["classes"]["undo"]["entries"] == BLOCKS
    assert document["files_bytes"] > sum(
        found["disk_bytes"] for found in document["classes"].values()
    )
    assert document["lowest_rollback"] == 0
    assert "transaction index" in securenet("db", "stats", "--home", home.path).out


def test_inspect_tells_the_chain_and_what_the_signer_remembers(securenet, home, empty):
    document = securenet("node", "inspect", "--home", home.path, "--json").document

    assert document["height"] == BLOCKS
    assert document["first_heights"]["telemetry"] == 0
    assert (document["signer"], document["signer_floor"]) == ("whole", 0)
    assert document["signer_last"] is None
    bare = securenet("node", "inspect", "--home", empty.path, "--json").document
    assert bare["height"] is None
    empty.log.unlink()
    assert "lost" in securenet("node", "inspect", "--home", empty.path, "--json").document["signer"]


def test_an_archive_goes_from_one_home_to_another(securenet, home, empty, archive):
    verified = securenet(
        "db", "verify", "--archive", archive, "--genesis", home.genesis, "--json"
    ).document
    ended = securenet("db", "import", archive, "--home", empty.path, "--json")

    assert (verified["first"], verified["last"]) == (1, BLOCKS)
    assert verified["executed"] is verified["compared"] is True
    assert ended.document["imported"] == BLOCKS
    assert tip_of(securenet, empty) == tip_of(securenet, home)
    assert securenet("db", "verify", "--home", empty.path).out == "no damage found\n"
    again = securenet("db", "import", archive, "--home", empty.path, "--json")
    assert again.document["imported"] == 0


def test_a_node_goes_back_and_an_archive_brings_it_forward(securenet, home, archive):
    tip = tip_of(securenet, home)
    log = home.log.read_bytes()

    document = securenet("node", "rollback", "--home", home.path, "--to", 5, "--json").document

    assert (document["from_height"], document["height"]) == (BLOCKS, 5)
    assert securenet("db", "verify", "--home", home.path).code == 0
    assert home.log.read_bytes() == log, "what was signed stays signed"
    securenet("db", "import", archive, "--home", home.path)
    assert tip_of(securenet, home) == tip


def test_compact_says_what_it_gave_back(securenet, home):
    document = securenet("db", "compact", "--home", home.path, "--json").document

    assert 0 < document["bytes_after"] <= document["bytes_before"] * 2
    assert securenet("db", "verify", "--home", home.path).code == 0


def test_prune_removes_what_is_not_kept(securenet, home, monkeypatch):
    shrink_windows(monkeypatch)
    document = securenet(
        "db", "prune", "--home", home.path, "--telemetry-keep-blocks", 1, "--json"
    ).document

    assert document["pruned_telemetry"] == 8
    assert document["first_telemetry"] == BLOCKS - 3 - 2
    assert document["first_verdicts"] == document["first_receipts"] == 0
    assert securenet("db", "verify", "--home", home.path).out == "no damage found\n"
    shown = securenet("node", "inspect", "--home", home.path, "--json").document
    assert shown["first_heights"]["telemetry"] == document["first_telemetry"]


# --- refusals -------------------------------------------------------------------------------------

ON_A_HOME = [
    ("db", "verify"),
    ("db", "stats"),
    ("db", "compact"),
    ("db", "prune", "--telemetry-keep-blocks", "1"),
    ("db", "export", "--out", "OUT"),
    ("db", "import", "ARCHIVE"),
    ("node", "rollback", "--to", "1"),
    ("node", "inspect"),
]


@pytest.mark.parametrize("words", ON_A_HOME, ids=" ".join)
def test_a_home_whose_node_runs_is_left_alone(securenet, home, archive, tmp_path, words):
    words = [{"OUT": tmp_path / "out", "ARCHIVE": archive}.get(word, word) for word in words]
    before = content(home.path)

    with HomeLock(home.path):
        ended = securenet(*words, "--home", home.path)

    assert ended.code == ExitCode.STORAGE
    assert "in use by process" in ended.err
    assert len(ended.err.splitlines()) == 2
    assert content(home.path) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", ON_A_HOME, ids=" ".join)
def test_a_home_that_is_not_there_is_not_made(securenet, archive, tmp_path, words):
    words = [{"OUT": tmp_path / "out", "ARCHIVE": archive}.get(word, word) for word in words]

    ended = securenet(*words, "--home", tmp_path / "absent")

    assert ended.code in (ExitCode.USAGE, ExitCode.CONFIGURATION)
    assert len(ended.err.splitlines()) == 2
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("at", [0.0, 0.01, 0.5, 0.99])
def test_a_damaged_archive_is_refused_and_nothing_changes(securenet, empty, archive, at):
    image = bytearray(archive.read_bytes())
    image[int(at * len(image))] ^= 0x10
    archive.write_bytes(image)
    before = content(empty.path)

    verified = securenet("db", "verify", "--archive", archive)
    imported = securenet("db", "import", archive, "--home", empty.path)

    assert (verified.code, imported.code) == (ExitCode.MISSED, ExitCode.USAGE)
    for ended in (verified, imported):
        assert ended.err.splitlines()[-2].startswith(f"error: {archive}: ")
    assert content(empty.path) == before


def test_an_archive_of_another_chain_is_refused_and_nothing_changes(
    securenet, empty, archive, tmp_path
):
    empty.genesis.unlink()
    write_genesis(empty.genesis, make_genesis(miners=7))
    before = content(empty.path)

    imported = securenet("db", "import", archive, "--home", empty.path)
    verified = securenet("db", "verify", "--archive", archive, "--genesis", empty.genesis)

    assert (verified.code, imported.code) == (ExitCode.MISSED, ExitCode.CONFIGURATION)
    assert "is of another chain" in imported.err
    assert content(empty.path) == before


def test_a_home_with_the_genesis_of_another_chain_is_not_called_damaged(securenet, home):
    home.genesis.unlink()
    write_genesis(home.genesis, make_genesis(miners=7))

    ended = securenet("db", "verify", "--home", home.path)

    assert ended.code == ExitCode.CONFIGURATION
    assert "belongs to another chain" in ended.err


@pytest.mark.parametrize(
    "words",
    [
        ("db", "verify", "--archive", "nothing"),
        ("db", "import", "nothing"),
        ("node", "restore", "nothing", "--trust", "00" * 32),
        ("db", "export", "--out", "nowhere/archive"),
        ("db", "import", __file__, "--home", "nowhere"),
        ("db", "verify", "--archive", __file__, "--genesis", "nowhere"),
    ],
    ids=str,
)
def test_a_path_where_nothing_is_is_a_mistake_and_no_fault_of_the_disk(securenet, home, words):
    at = () if "--home" in words else ("--home", home.path)

    ended = securenet(*words, *(() if "--archive" in words else at))

    assert ended.code == ExitCode.USAGE
    assert "nowhere" in ended.err or "nothing" in ended.err


def test_an_archive_that_does_not_go_on_from_here_is_refused(securenet, home, empty, tmp_path):
    part = tmp_path / "part"
    securenet("db", "export", "--home", home.path, "--out", part, "--from", 4, "--to", 6)
    before = content(empty.path)

    ended = securenet("db", "import", part, "--home", empty.path)

    assert ended.code == ExitCode.USAGE
    assert "begins with block 4, and the last one here is 0" in ended.err
    assert content(empty.path) == before


def test_a_part_needs_something_to_trust(securenet, home, tmp_path):
    part = tmp_path / "part"
    exported = securenet(
        "db", "export", "--home", home.path, "--out", part, "--from", 4, "--to", 6, "--json"
    ).document

    untrusted = securenet("db", "verify", "--archive", part)
    assert (untrusted.code, "with --trust" in untrusted.err) == (ExitCode.USAGE, True)
    trusted = ("--trust", exported["block_hash"])
    assert securenet("db", "verify", "--archive", part, *trusted).code == 0
    assert securenet("db", "verify", "--archive", part, "--trust", "00" * 32).code == (
        ExitCode.MISSED
    )
    assert securenet("db", "verify", "--trust", "00" * 32).code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("db", "export", "--from", "9", "--to", "99"), ExitCode.USAGE),
        (("db", "export", "--from", "9", "--to", "8"), ExitCode.USAGE),
        (("node", "rollback", "--to", "99"), ExitCode.USAGE),
        (("db", "prune"), ExitCode.USAGE),
        (("db", "prune", "--telemetry-keep-days", "9999999"), ExitCode.CONFIGURATION),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_one_line(securenet, home, tmp_path, words, code):
    more = ("--out", tmp_path / "out") if "export" in words else ()
    before = content(home.path)

    ended = securenet(*words, *more, "--home", home.path)

    assert ended.code == code
    assert len(ended.err.splitlines()) == 2
    assert tip_of(securenet, home)[0] == BLOCKS
    assert content(home.path).keys() >= {"genesis.json"} <= before.keys()


def test_a_rollback_beyond_what_is_kept_is_refused(securenet, home):
    with closing(LevelDbStore(home.chain)) as kv:
        kv.write(
            WriteBatch(writes={schema.first_key(schema.UNDO): schema.height_bytes(BLOCKS - 2)})
        )

    ended = securenet("node", "rollback", "--home", home.path, "--to", 4)

    assert ended.code == ExitCode.NOT_FOUND
    assert f"this node keeps that from block {BLOCKS - 3} on" in ended.err
    assert tip_of(securenet, home)[0] == BLOCKS


def test_an_archive_is_not_written_over_what_is_there(securenet, home, archive):
    before = archive.read_bytes()

    ended = securenet("db", "export", "--home", home.path, "--out", archive)

    assert ended.code == ExitCode.ALREADY_THERE
    assert archive.read_bytes() == before
