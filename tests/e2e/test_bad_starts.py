"""What cannot be started says so in one line, ends with a documented code, and changes nothing."""

import asyncio
import hashlib
import re
import shutil
import socket
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from chain.transactions import Transaction
from cli.errors import CliError, Refused
from cli.exit_codes import ExitCode
from cli.processes import python_command
from cli.signing import Sender
from node.home import Home
from tests.e2e.network import (
    PATIENCE_S,
    POLL_S,
    LiveNetwork,
    commit,
    is_reachable,
    live_network,
    patience,
    reading,
    wait_committed,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BLOCKS: Final = 12
LOG_LINE: Final = re.compile(r"\d{4}-\d\d-\d\dT\S+ \[(info|warning) *\] ")
FILE_SIZE_BLOCKS: Final = 512
"""Of 512 bytes: the largest file that a node on a full disk may write."""


@dataclass(frozen=True)
class Made:
    """Homes of two chains, the first with some blocks; cases take copies."""

    home: Path
    other: Path
    status: dict[str, Any]
    first: Transaction


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    directory = tmp_path_factory.mktemp("homes")

    async def make() -> Made:
        async with live_network(directory / "other", miners=1, start=()) as other:
            other_home = other.home(0)
        async with live_network(directory / "first", miners=1) as network:
            (device,) = await network.register_devices(1)
            sent = [reading(device, number) for number in range(BLOCKS)]
            for transaction in sent:
                await commit(await network.client(0), transaction)
            status = await (await network.client(0)).status()
            network.stop(0)
            # The tables are on disk once the log of the first run is read again.
            network.start(0)
            await network.wait_ready()
            network.stop(0)
            home = network.home(0)
            return Made(home=home, other=other_home, status=status, first=sent[0])

    return asyncio.run(make())


@pytest.fixture
def home(made, tmp_path) -> Home:
    shutil.copytree(made.home, tmp_path / "home")
    return Home(tmp_path / "home")


def _append(name: str, text: str) -> Callable[[Home, Made], None]:
    def spoil(home: Home, made: Made) -> None:
        with (home.path / name).open("a") as file:
            file.write(text)

    return spoil


def _remove(name: str) -> Callable[[Home, Made], None]:
    return lambda home, made: (home.path / name).unlink()


def _replace(*names: str) -> Callable[[Home, Made], None]:
    def spoil(home: Home, made: Made) -> None:
        for name in names:
            shutil.copy2(made.other / name, home.path / name)

    return spoil


def _flip_log(home: Home, made: Made) -> None:
    data = bytearray(home.log.read_bytes())
    data[len(data) // 2] ^= 1
    home.log.write_bytes(data)


def _flip_tip(home: Home, made: Made) -> None:
    _flip_stored(home, bytes.fromhex(made.status["state_root"]))


def _flip_stored(home: Home, value: bytes) -> None:
    """Flip a bit of `value`, which nothing compresses, where a table of the database has it first.

    Headers and bodies come before proposed blocks that are deleted, but not yet gone.
    """
    tables = [file for file in home.chain.glob("*.ldb") if value in file.read_bytes()]
    assert tables
    for table in tables:
        table.write_bytes(table.read_bytes().replace(value, bytes((value[0] ^ 1,)) + value[1:], 1))


def _open_to_all(home: Home, made: Made) -> None:
    home.miner_key.chmod(0o644)


CASES: Final = {
    "an unknown setting": (
        _append("config.toml", 'colour = "red"\n'),
        ExitCode.CONFIGURATION,
        "there is no such setting",
    ),
    "no configuration": (_remove("config.toml"), ExitCode.CONFIGURATION, "cannot be read"),
    "no JSON": (_append("genesis.json", "}"), ExitCode.CONFIGURATION, "is no JSON"),
    "the genesis of another chain": (
        _replace("genesis.json"),
        ExitCode.CONFIGURATION,
        "belongs to another chain",
    ),
    "the home of another chain around the data": (
        _replace("genesis.json", "keys/miner.json", "keys/node.json"),
        ExitCode.CONFIGURATION,
        "belongs to another chain",
    ),
    "another node's key": (
        _replace("keys/node.json"),
        ExitCode.KEY,
        "is not the node key of miner",
    ),
    "the key of another chain": (
        _replace("keys/miner.json"),
        ExitCode.KEY,
        "is not the key of a miner of this chain",
    ),
    "a key file that is none": (_append("keys/miner.json", "?"), ExitCode.KEY, "damaged"),
    "a key open to all": (_open_to_all, ExitCode.KEY, "others than its owner"),
    "a flipped bit in the last block": (
        _flip_tip,
        ExitCode.STORAGE,
        "Corruption",
    ),
    "a database without its CURRENT": (
        _remove("data/chain/CURRENT"),
        ExitCode.STORAGE,
        "CURRENT is missing",
    ),
    "a flipped bit in the log": (
        _flip_log,
        ExitCode.STORAGE,
        "damaged at byte",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_home_that_nobody_can_start_from_is_refused_in_one_line(case, home, made):
    spoil, code, words = CASES[case]
    spoil(home, made)
    before = _promises(home)
    status, errors = _start(home)
    assert status == code
    what, advice = errors
    assert what.startswith("error: ")
    assert words in what
    assert advice.startswith("  try: ")
    # The process without the command line says and returns the same, and the latter in words too.
    assert _start(home, "node") == (status, [*errors, f"node ended (exit code {code})"])
    assert _promises(home) == before


@pytest.mark.parametrize("section", ["p2p", "rpc"])
def test_taken_port_is_named(section, home):
    port = tomllib.loads(home.config.read_text())[section]["port"]
    # `create_server` takes an address on which closed connections of the last run still linger.
    with socket.create_server(("127.0.0.1", port)):
        status, errors = _start(home)
    assert status == ExitCode.PORT_TAKEN
    (line,) = [line for line in errors if line.startswith("error: ")]
    assert str(port) in line


async def test_second_node_on_one_home_is_refused_and_the_first_lives(tmp_path):
    async with live_network(tmp_path, miners=1) as network:
        home = Home(network.home(0))
        status, errors = await asyncio.to_thread(_start, home)
        assert status == ExitCode.STORAGE
        (line,) = [line for line in errors if line.startswith("error: ")]
        assert "in use by process" in line
        (device,) = await network.register_devices(1)
        await commit(await network.client(0), reading(device))


async def test_refused_home_starts_where_it_was_once_put_right(tmp_path, made):
    async with live_network(tmp_path, miners=1, start=()) as network:
        home = Home(network.home(0))
        for path in (home.path / "data", home.miner_key.parent):
            shutil.rmtree(path)
            shutil.copytree(made.home / path.name, path)
        for name in ("genesis.json", "keys/miner.json"):
            right = (made.home / name).read_bytes()
            (home.path / name).write_bytes((made.other / name).read_bytes() + b"?")
            assert _start(home)[0] != ExitCode.OK
            (home.path / name).write_bytes(right)
        # Its own ports stay: those of genesis matter to others alone.
        network.start(0)
        await network.wait_ready()
        block = await (await network.client(0)).block(made.status["height"])
        assert block["header"]["hash"] == made.status["block_hash"]


async def test_keys_of_another_chain_leave_no_database_and_may_join(tmp_path, made):
    async with live_network(tmp_path, miners=1, start=()) as network:
        home = Home(network.home(0))
        for name in ("keys/miner.json", "keys/node.json"):
            shutil.copy2(made.other / name, home.path / name)
        assert _start(home, "node")[0] == ExitCode.KEY
        assert not home.chain.exists()

        config = home.config.read_text()
        home.config.write_text(config.replace('role = "miner"', 'role = "joiner"'))
        network.start(0)
        client = await network.client(0)
        async with patience("the node answers"):
            while not await is_reachable(client):
                network.require_running(0)
                await asyncio.sleep(POLL_S)
        assert (await client.status())["miner_id"] is None
        # The only miner is one that it cannot reach: whether it keeps up, nobody has told it.
        with pytest.raises(Refused, match="has not heard yet") as refused:
            await client.get("/health/ready")
        assert refused.value.code == "not_ready"
        log = network.layout.log(network.layout.nodes[0]).read_text()
        assert "not a miner yet" in log
        assert "[warning" not in log


async def test_damage_in_an_old_block_is_told_and_the_node_lives(tmp_path, made):
    async with live_network(tmp_path, miners=1, start=()) as network:
        home = Home(network.home(0))
        for path in (home.path / "data", home.miner_key.parent):
            shutil.rmtree(path)
            shutil.copytree(made.home / path.name, path)
        shutil.copy2(made.home / "genesis.json", home.genesis)
        _flip_stored(home, made.first.signature)
        network.start(0)
        await network.wait_ready()
        client = await network.client(0)
        with pytest.raises(Refused, match=r"body of block \d+ is damaged") as refused:
            await client.transaction(made.first.id.hex())
        assert refused.value.code == "damaged"
        log = network.layout.log(network.layout.nodes[0]).read_text()
        assert "a stored entry is damaged" in log
        assert (await client.status())["height"] >= made.status["height"]
        network.stop(0)


async def test_node_on_a_full_disk_stops_and_keeps_what_it_acknowledged(tmp_path):
    async with live_network(tmp_path, miners=1, start=()) as network:
        limited = ["sh", "-c", f'ulimit -f {FILE_SIZE_BLOCKS}; exec "$@"', "sh"]
        network.start(0, through=limited)
        await network.wait_ready()
        (device,) = await network.register_devices(1)
        acknowledged = await _fill(network, device)
        assert acknowledged
        assert network.wait_ended(0) == ExitCode.STORAGE
        assert network.said(0).startswith("error: ")
        assert "make room" in network.said(0)

        network.start(0)
        await network.wait_ready()
        client = await network.client(0)
        for transaction in acknowledged:
            await wait_committed(client, transaction)
        await commit(client, reading(device))


async def _fill(network: LiveNetwork, device: Sender) -> list[Transaction]:
    """Send batches until the node has ended; return what it said was committed."""
    client = await network.client(0)
    acknowledged: list[Transaction] = []
    for step in range(1_000):
        batch = [reading(device, 100 * step + number) for number in range(100)]
        try:
            await client.submit_batch([transaction.wire for transaction in batch])
            await wait_committed(client, batch[-1])
        except CliError:
            return acknowledged
        acknowledged.append(batch[-1])
    raise AssertionError("the node wrote more than its files may hold")


def _start(home: Home, *entry: str) -> tuple[int, list[str]]:
    """Start a node that is to be refused; return its exit code and what it said beside its log."""
    done = subprocess.run(
        python_command(*(entry or ("cli", "node")), "run", "--home", str(home.path)),
        cwd=home.path.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert not done.stdout
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    return done.returncode, [line for line in lines if not LOG_LINE.match(line)]


def _promises(home: Home) -> dict[str, str]:
    """Return digests of what a refused start must not touch."""
    files = [home.config, home.genesis, home.miner_key, home.node_key, home.log]
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.exists()
    }
