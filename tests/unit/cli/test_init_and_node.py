"""`securenet init`, `node run`, `node inspect`, `db verify`: one home directory."""

import json
import os
import shutil
import socket

import pytest

from chain.genesis import render_genesis
from cli.exit_codes import ExitCode
from cli.testnet.create import create_network
from node.home import Home
from node.storage.lock import HomeLock
from tests.unit.cli.fake_node import make_genesis


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return the home of a node that never ran."""
    # A node sets up the logs of its process, which here is that of all tests.
    monkeypatch.setattr("node.logs.configure_logs", lambda config: None)
    network = create_network(tmp_path / "net", miners=1, observers=0, base_port=0)
    return network.home(network.nodes[0])


def test_init_makes_keys_first_and_prints_what_a_genesis_needs(securenet, tmp_path):
    ended = securenet("init", "--home", tmp_path / "home", "--port", "4000", "--json")

    assert ended.code == ExitCode.OK, ended.err
    assert len(ended.document["miner_key"]) == 64
    assert ended.document["chain"] is None
    home = Home(tmp_path / "home")
    assert home.load_config().p2p.port == 4000
    assert not home.genesis.exists()


def test_init_takes_a_genesis(securenet, tmp_path):
    genesis = make_genesis()
    (tmp_path / "genesis.json").write_text(json.dumps(render_genesis(genesis)))

    ended = securenet(
        *("init", "--home", tmp_path / "home", "--genesis", tmp_path / "genesis.json"),
        *("--role", "observer"),
    )

    assert ended.code == ExitCode.OK, ended.err
    assert Home(tmp_path / "home").load_genesis().hash == genesis.hash
    assert Home(tmp_path / "home").load_config().role == "observer"


def test_new_keys_for_a_chain_that_has_begun_are_those_of_a_joiner(securenet, tmp_path):
    (tmp_path / "genesis.json").write_text(json.dumps(render_genesis(make_genesis())))

    securenet("init", "--home", tmp_path / "founder")
    securenet("init", "--home", tmp_path / "later", "--genesis", tmp_path / "genesis.json")

    assert Home(tmp_path / "founder").load_config().role == "miner"
    assert Home(tmp_path / "later").load_config().role == "joiner"


def test_a_key_of_another_chain_does_not_start_and_leaves_nothing_behind(securenet, home, tmp_path):
    other = create_network(tmp_path / "other", miners=1, observers=0, base_port=0)
    shutil.copy2(Home(other.home(other.nodes[0])).miner_key, Home(home).miner_key)

    ended = securenet("node", "run", "--home", home)

    assert ended.code == ExitCode.KEY
    what, advice = ended.err.splitlines()
    assert "is not the key of a miner of this chain" in what
    assert "joiner" in advice
    assert not Home(home).chain.exists()


def test_an_rpc_off_loopback_needs_tls_or_insecure(securenet, tmp_path):
    refused = securenet("init", "--home", tmp_path / "a", "--rpc-host", "0.0.0.0")
    allowed = securenet("init", "--home", tmp_path / "b", "--rpc-host", "0.0.0.0", "--insecure")
    with_tls = securenet(
        *("init", "--home", tmp_path / "c", "--rpc-host", "0.0.0.0"),
        *("--tls-certificate", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem"),
    )

    assert refused.code == ExitCode.CONFIGURATION
    assert not (tmp_path / "a").exists()
    assert allowed.code == with_tls.code == ExitCode.OK
    assert Home(tmp_path / "c").load_config().rpc.tls_key == tmp_path / "key.pem"


def test_init_never_replaces_a_home(securenet, home):
    ended = securenet("init", "--home", home)

    assert ended.code == ExitCode.ALREADY_THERE
    assert len(ended.err.splitlines()) == 2


@pytest.mark.parametrize(
    "options", [("--host", "a b"), ("--rpc-host", ""), ("--port", "26757", "--rpc-port", "26757")]
)
def test_a_home_nobody_can_start_from_is_not_made(securenet, tmp_path, options):
    ended = securenet("init", "--home", tmp_path / "h", *options)

    assert ended.code == ExitCode.CONFIGURATION
    assert len(ended.err.splitlines()) == 2
    assert not (tmp_path / "h").exists()


def test_a_founder_is_told_that_the_genesis_is_still_to_come(securenet, tmp_path):
    ended = securenet("init", "--home", tmp_path / "h")

    assert f"copy it to {tmp_path / 'h/genesis.json'}" in ended.out


@pytest.mark.parametrize(
    "words", [("init",), ("node", "run"), ("node", "inspect"), ("db", "verify")]
)
def test_a_user_without_a_home_directory_is_told_to_name_one(securenet, monkeypatch, words):
    monkeypatch.delenv("SECURENET_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)

    ended = securenet(*words)

    assert ended.code == ExitCode.USAGE
    assert "--home" in ended.err


@pytest.mark.parametrize("content", ["", "{}", '{"chain": "x"}', "[" * 100_000])
def test_a_genesis_that_is_none_makes_no_home(securenet, tmp_path, content):
    (tmp_path / "genesis.json").write_text(content)

    ended = securenet("init", "--home", tmp_path / "h", "--genesis", tmp_path / "genesis.json")

    assert ended.code == ExitCode.CONFIGURATION
    assert not (tmp_path / "h").exists()


def test_the_home_is_taken_from_the_environment(securenet, home, monkeypatch):
    monkeypatch.setenv("SECURENET_HOME", str(home))

    document = securenet("node", "inspect", "--json").document

    assert document["home"] == str(home)
    assert document["first_miner"] is True
    assert document["keys_encrypted"] is False


@pytest.mark.parametrize("words", [("node", "inspect"), ("db", "verify")])
def test_a_home_that_is_not_there_is_told(securenet, tmp_path, words):
    ended = securenet(*words, "--home", tmp_path / "absent")

    assert ended.code == ExitCode.USAGE
    assert len(ended.err.splitlines()) == 2


def test_a_setting_that_is_unknown_stops_the_node_in_one_line(securenet, home):
    with (home / "config.toml").open("a") as file:
        file.write("\n[mempool]\ncolour = 3\n")

    ended = securenet("node", "run", "--home", home)

    assert ended.code == ExitCode.CONFIGURATION
    assert "mempool" in ended.err.splitlines()[0]


def test_a_node_without_its_genesis_does_not_start(securenet, home):
    (home / "genesis.json").unlink()

    ended = securenet("node", "run", "--home", home)

    assert ended.code == ExitCode.CONFIGURATION
    assert "genesis.json" in ended.err.splitlines()[1]


def test_a_node_with_a_damaged_key_does_not_start(securenet, home):
    (home / "keys/miner.json").write_text("{}")

    assert securenet("node", "run", "--home", home).code == ExitCode.KEY


def test_a_database_that_was_never_written_is_not_made_by_looking(securenet, home):
    ended = securenet("db", "verify", "--home", home)

    assert ended.code == ExitCode.USAGE
    assert not (home / "data/chain").exists()


@pytest.mark.parametrize("which", ["p2p", "rpc"])
def test_a_node_whose_port_is_taken_says_so_and_ends(securenet, home, which):
    config = Home(home).load_config()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", getattr(config, which).port))
        taken.listen()

        ended = securenet("node", "run", "--home", home)

    assert ended.code == ExitCode.PORT_TAKEN
    assert len([line for line in ended.err.splitlines() if line.startswith("error: ")]) == 1


def test_a_node_keeps_numpy_to_one_thread(securenet, home, monkeypatch):
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    told = {}

    async def run_node(path, **options):
        told.update({name: os.environ.get(name) for name in names})

    for name in names:
        monkeypatch.setenv(name, "8")
    monkeypatch.setattr("node.process.run_node", run_node)

    ended = securenet("node", "run", "--home", home)

    assert ended.code == ExitCode.OK, ended.err
    assert told == dict.fromkeys(names, "1")


def test_two_nodes_never_share_a_home(securenet, home):
    with HomeLock(home):
        ended = securenet("node", "run", "--home", home)

    assert ended.code == ExitCode.STORAGE
    assert "in use by process" in ended.err
