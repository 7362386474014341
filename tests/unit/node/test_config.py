import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.config import (
    CONFIG_SIZE_MAX,
    LogConfig,
    MempoolConfig,
    NodeConfig,
    P2PConfig,
    PeerConfig,
    load_config,
    render_config,
)
from node.errors import ConfigError
from node.mempool import MempoolLimits
from node.rpc.config import RpcConfig
from tests.unit.node.pool_values import key

KEY = key(1).public.hex()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "config.toml"


def load(path, text):
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def refusal(path, text):
    with pytest.raises(ConfigError) as caught:
        load(path, text)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_an_empty_file_is_the_default(path):
    assert load(path, "") == NodeConfig()


def test_the_defaults_are_those_of_the_interface():
    config = NodeConfig()

    assert (config.role, config.detectors) == ("miner", True)
    assert config.p2p.port == 26756
    assert (config.rpc.host, config.rpc.port) == ("127.0.0.1", 26757)
    assert config.mempool.limits() == MempoolLimits()


def test_what_is_rendered_comes_back(path):
    config = NodeConfig(
        role="observer",
        detectors=False,
        threads=2,
        p2p=P2PConfig(
            host="10.0.0.1",
            port=1,
            peers=[
                PeerConfig(node_key=KEY, host="peer.example", port=26756),
                PeerConfig(node_key=key(2).public.hex()),
            ],
        ),
        rpc=RpcConfig(
            host="10.0.0.1",
            port=2,
            tls_certificate=path.parent / "c.pem",
            tls_key=path.parent / "k.pem",
        ),
        mempool=MempoolConfig(transactions_max=1_000),
        log=LogConfig(level="debug", format="json", file=path.parent / "node.log", files_max=2),
    )

    assert load(path, render_config(config)) == config
    assert load(path, render_config(NodeConfig())) == NodeConfig()


@given(name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_any_name_of_a_file_comes_back(tmp_path_factory, name):
    path = tmp_path_factory.mktemp("config") / "config.toml"
    config = NodeConfig(log=LogConfig(file=path.parent / name))

    assert load(path, render_config(config)) == config


def test_every_setting_is_shown():
    text = render_config(NodeConfig(p2p=P2PConfig(peers=[PeerConfig(node_key=KEY)])))

    for section in (NodeConfig, P2PConfig, PeerConfig, RpcConfig, MempoolConfig, LogConfig):
        for name in section.model_fields:
            assert re.search(rf"^(?:# )?{name} =|^\[+(?:p2p\.)?{name}\]", text, re.MULTILINE), name


def test_names_of_files_are_taken_from_the_directory_of_the_configuration(path):
    config = load(
        path,
        """
        [rpc]
        tls_certificate = "tls/c.pem"
        tls_key = "/etc/k.pem"
        [log]
        file = "node.log"
        """,
    )

    assert config.rpc.tls_certificate == path.parent / "tls" / "c.pem"
    assert str(config.rpc.tls_key) == "/etc/k.pem"
    assert config.log.file == path.parent / "node.log"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("rolle = 'miner'", "rolle: there is no such setting"),
        ("[p2p]\nprot = 1", "p2p.prot: there is no such setting"),
        ("[rpc]\nprot = 1", "rpc.prot: there is no such setting"),
        ("role = 'king'", "role: "),
        ("detectors = 'yes'", "detectors: "),
        ("detectors = 1", "detectors: "),
        ("threads = 0", "threads: "),
        ("threads = '4'", "threads: "),
        ("threads = 1.5", "threads: "),
        ("p2p = 1", "p2p: "),
        ("[p2p]\nport = 65536", "p2p.port: "),
        ("[p2p]\nhost = 'a..b'", "p2p.host: a..b is no name of a host"),
        ("[rpc]\ninsecure = true\nhost = 'a..b'", "rpc.host: a..b is no name of a host"),
        ("[p2p]\nport = -1", "p2p.port: "),
        ("[p2p]\nhost = ''", "p2p.host: "),
        ("[p2p]\nhost = 'two words'", "p2p.host: "),
        ("[rpc]\nport = 'http'", "rpc.port: "),
        ("[rpc]\nhost = '0.0.0.0'", "rpc.host: "),
        ("[rpc]\ntls_key = 'k.pem'", "rpc.tls_certificate: "),
        ("[mempool]\ntransactions_max = 1", "mempool.transactions_max: "),
        ("[mempool]\nsize_bytes_max = 1", "mempool.size_bytes_max: "),
        ("[log]\nlevel = 'loud'", "log.level: "),
        ("[log]\nfile = 7", "log.file: "),
        ("[log]\nfile_size_max_bytes = 10", "log.file_size_max_bytes: "),
        ("[[p2p.peers]]\nnode_key = 'zz'", "p2p.peers.0.node_key: "),
        (f"[[p2p.peers]]\nnode_key = '{'00' * 32}'", "p2p.peers.0: node_key is not a point"),
        (f"[[p2p.peers]]\nnode_key = '{KEY}'\nhost = 'h'", "p2p.peers.0: host and port"),
        (f"[[p2p.peers]]\nnode_key = '{KEY}'\n" * 2, "p2p: one node_key is given twice"),
        ("[p2p]\nport = 7\n[rpc]\nport = 7", "p2p and rpc cannot both listen on port 7"),
        ("role = ", "is no TOML: "),
        ("threads = " + "9" * 5_000, "is no TOML: "),
        ("role = 'miner'\nrole = 'miner'", "is no TOML: "),
    ],
)
def test_a_fault_is_told_in_one_line_with_file_and_setting(path, text, where):
    assert refusal(path, text).startswith(where)


def test_more_than_one_fault_is_counted(path):
    assert refusal(path, "threads = 0\nrole = 'king'").endswith("(and 1 more)")


def test_both_ports_may_be_left_to_the_system(path):
    config = load(path, "[p2p]\nport = 0\n[rpc]\nport = 0")

    assert (config.p2p.port, config.rpc.port) == (0, 0)


def test_a_file_that_cannot_be_read_is_named(path):
    with pytest.raises(ConfigError, match=r"config\.toml: cannot be read \(No such file"):
        load_config(path)
    path.mkdir()
    with pytest.raises(ConfigError, match=r"config\.toml: cannot be read \(Is a directory"):
        load_config(path)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"#" * (CONFIG_SIZE_MAX + 1), b"a = " + b"[" * 100_000]
)
def test_what_is_no_text_or_no_configuration_is_refused(path, content):
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"config\.toml: "):
        load_config(path)
