"""`securenet testnet`: what is made, and starting and stopping with stand-ins for nodes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chain.genesis import parse_genesis
from cli.exit_codes import ExitCode
from cli.processes import Process, is_running
from cli.testnet import control
from cli.testnet.create import bundled_registration, create_network
from cli.testnet.network import Network, load_network
from node.home import Home
from node.keys import read_key_info

ROOT = Path(__file__).resolve().parents[3]

STAND_IN = """
import json, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"ready": True, "height": 7, "block_hash": "ab", "state_root": "cd",
                           "peers": 3, "genesis_hash": sys.argv[2]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments): pass
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("stand-in listens", flush=True)
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

LONELY = STAND_IN.replace(
    "self.send_response(200)", "self.send_response(503 if 'ready' in self.path else 200)"
).replace(
    '"ready": True,', '"diagnosis": "quorum_lost", "explanation": "hears 1 of 2", "quorum": 2,'
)
"""A node that hears nobody."""


@pytest.fixture
def network(tmp_path) -> Network:
    return create_network(tmp_path / "net", miners=2, observers=0, base_port=0)


@pytest.fixture
def stand_ins(monkeypatch, network):
    """Let every node be a small HTTP server which says that it is ready."""

    def command(*arguments: str) -> list[str]:
        home = Path(arguments[arguments.index("--home") + 1])
        node = network.node(home.name)
        return [sys.executable, "-c", STAND_IN, str(node.rpc_port), network.genesis_hash()]

    monkeypatch.setattr(control, "python_command", command)
    yield
    control.stop_nodes(network, network.nodes)


def test_a_network_has_all_that_its_nodes_need(securenet, tmp_path):
    ended = securenet(
        *("testnet", "init", "--miners", "4", "--observers", "1", "--dir", tmp_path / "net"),
        *("--base-port", "41000", "--json"),
    )

    assert ended.code == ExitCode.OK, ended.err
    nodes = ended.document["nodes"]
    assert [(n["name"], n["role"], n["p2p_port"], n["rpc"]) for n in nodes][::4] == [
        ("node0", "miner", 41000, "http://127.0.0.1:41001"),
        ("node4", "observer", 41040, "http://127.0.0.1:41041"),
    ]
    genesis = parse_genesis(json.loads((tmp_path / "net/genesis.json").read_text()))
    assert genesis.model == bundled_registration()
    (organisation,) = genesis.organisations
    assert organisation.name == "demo"
    registrar = read_key_info(tmp_path / "net/registrar.json")
    assert organisation.registrar_key == registrar.public
    homes = [Home(tmp_path / f"net/node{number}") for number in range(5)]
    assert {home.load_genesis().hash for home in homes} == {genesis.hash}
    for number, miner in enumerate(genesis.miners):
        assert miner.port == 41000 + 10 * number
        assert miner.key == read_key_info(homes[number].miner_key).public
        assert miner.node_key == read_key_info(homes[number].node_key).public
        config = homes[number].load_config()
        assert (config.p2p.port, config.rpc.port) == (miner.port, miner.port + 1)
    observer = read_key_info(homes[4].node_key).public.hex()
    assert homes[4].load_config().role == "observer"
    assert [peer.node_key for peer in homes[0].load_config().p2p.peers] == [observer]


def test_nodes_on_machines_of_their_own_are_reached_by_name(tmp_path):
    create_network(tmp_path / "net", miners=2, observers=0, base_port=0, hosts=["miner0", "miner1"])

    home = Home(tmp_path / "net/node1")
    assert [miner.host for miner in home.load_genesis().miners] == ["miner0", "miner1"]
    config = home.load_config()
    assert (config.p2p.host, config.p2p.port, config.rpc.port) == ("0.0.0.0", 26756, 26757)


def test_what_is_told_after_init_fits_where_the_nodes_are(securenet, tmp_path):
    here = securenet("testnet", "init", "--dir", tmp_path / "here", "--miners", "1")
    there = securenet(
        "testnet", "init", "--dir", tmp_path / "there", "--miners", "1", "--host", "a"
    )

    assert "securenet testnet up" in here.out.splitlines()[-1]
    assert "securenet node run" in there.out.splitlines()[-1]


def test_what_is_not_known_yet_has_no_column(securenet, tmp_path):
    ended = securenet("testnet", "init", "--dir", tmp_path / "net", "--miners", "1")

    assert ended.out.split()[:3] == ["node", "role", "rpc"]
    assert "height" not in ended.out


def test_what_is_there_is_never_overwritten(securenet, network):
    before = (network.directory / "genesis.json").read_bytes()

    ended = securenet("testnet", "init", "--dir", network.directory)

    assert ended.code == ExitCode.ALREADY_THERE
    assert (network.directory / "genesis.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--miners", "0"), ExitCode.USAGE),
        (("--base-port", "65530"), ExitCode.USAGE),
        (("--host", "only-one"), ExitCode.USAGE),
        (("--miners", "1", "--host", ""), ExitCode.USAGE),
        (("--miners", "1", "--host", "a b"), ExitCode.USAGE),
        (("--miners", "four"), ExitCode.USAGE),
    ],
)
def test_a_network_that_cannot_be_leaves_nothing_behind(securenet, tmp_path, arguments, code):
    ended = securenet("testnet", "init", "--dir", tmp_path / "net", *arguments)

    assert ended.code == code
    assert list(tmp_path.iterdir()) == []


def test_a_network_in_a_place_nobody_can_write_is_one_line(securenet, tmp_path):
    (tmp_path / "file").write_text("")

    ended = securenet("testnet", "init", "--dir", tmp_path / "file" / "net")

    assert ended.code == ExitCode.STORAGE
    assert len(ended.err.splitlines()) == 2


def test_free_ports_are_all_different(network):
    ports = [port for node in network.nodes for port in (node.p2p_port, node.rpc_port)]

    assert len(set(ports)) == 4


def test_nodes_start_answer_and_stop(securenet, network, stand_ins):
    up = securenet("testnet", "up", "--dir", network.directory, "--detach", "--json")

    assert up.code == ExitCode.OK, up.err
    assert all(node["running"] for node in up.document["nodes"])
    status = securenet("testnet", "status", "--dir", network.directory, "--json").document
    assert [node["status"]["height"] for node in status["nodes"]] == [7, 7]
    processes = network.processes().values()

    down = securenet("testnet", "down", "--dir", network.directory, "--json")

    assert down.document == {"stopped": ["node0", "node1"], "killed": 0}
    assert not any(is_running(process) for process in processes)
    assert securenet("testnet", "down", "--dir", network.directory).out == "none was running\n"


def test_a_node_of_another_network_on_a_port_of_ours_is_not_taken_for_ours(
    securenet, network, monkeypatch
):
    monkeypatch.setattr(
        control,
        "python_command",
        lambda *arguments: [
            *(sys.executable, "-c", STAND_IN),
            *(str(network.node(Path(arguments[-1]).name).rpc_port), "ab" * 32),
        ],
    )
    securenet("testnet", "up", "--dir", network.directory, "--detach")
    try:
        document = securenet("testnet", "status", "--dir", network.directory, "--json").document
        assert [node["status"] for node in document["nodes"]] == [None, None]
    finally:
        control.stop_nodes(network, network.nodes)


def test_one_node_is_stopped_and_started_again(securenet, network, stand_ins):
    where = ("--dir", network.directory)
    securenet("testnet", "up", *where, "--detach")
    kept = network.processes()["node0"]

    assert securenet("testnet", "down", *where, "--node", "node1").code == ExitCode.OK
    assert set(network.processes()) == {"node0"}
    assert securenet("testnet", "up", *where, "--detach", "--node", "node1").code == ExitCode.OK

    assert network.processes()["node0"] == kept
    assert set(network.processes()) == {"node0", "node1"}


def test_a_network_that_runs_is_not_started_in_the_foreground(securenet, network, stand_ins):
    securenet("testnet", "up", "--dir", network.directory, "--detach")

    ended = securenet("testnet", "up", "--dir", network.directory)

    assert ended.code == ExitCode.USAGE
    assert all(is_running(process) for process in network.processes().values())


def test_a_node_that_lacks_others_says_so_and_goes_on_running(securenet, network, monkeypatch):
    monkeypatch.setattr(control, "TELL_AFTER_S", 0.2)
    monkeypatch.setattr(
        control,
        "python_command",
        lambda *_: [sys.executable, "-c", LONELY, str(network.nodes[0].rpc_port), "00"],
    )
    where = ("--dir", network.directory, "--detach")
    try:
        ended = securenet("testnet", "up", *where, "--node", "node0")

        assert ended.code == ExitCode.TIMED_OUT
        assert "node0 runs, and waits for others: hears 1 of 2" in ended.err
        assert "start node1 too: securenet testnet up" in ended.err
        assert set(control.running_processes(network)) == {"node0"}
    finally:
        control.stop_nodes(network, network.nodes)


def test_what_a_node_is_not_ready_for_is_told_while_it_is_waited_for(
    securenet, network, monkeypatch
):
    monkeypatch.setattr(control, "TELL_AFTER_S", 0.2)
    monkeypatch.setattr(control.wait_ready, "__kwdefaults__", {"timeout_s": 3.0})
    monkeypatch.setattr(
        control,
        "python_command",
        lambda *arguments: [
            *(sys.executable, "-c", LONELY),
            *(str(network.node(Path(arguments[-1]).name).rpc_port), "00"),
        ],
    )

    ended = securenet("testnet", "up", "--dir", network.directory, "--detach")

    assert ended.code == ExitCode.TIMED_OUT
    assert ended.err.splitlines()[0] == "• node0 is not ready yet: hears 1 of 2"
    assert "node0 is not ready after 3 s: hears 1 of 2" in ended.err
    assert network.processes() == {}


@pytest.mark.parametrize("which", ["p2p_port", "rpc_port"])
def test_a_taken_port_is_named_and_nothing_started(securenet, network, stand_ins, which):
    port = getattr(network.nodes[1], which)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()

        ended = securenet("testnet", "up", "--dir", network.directory, "--detach")

    assert ended.code == ExitCode.PORT_TAKEN
    assert f"port {port}" in ended.err
    assert network.processes() == {}


def test_a_node_that_ends_at_once_stops_the_others(securenet, network, monkeypatch):
    def command(*arguments: str) -> list[str]:
        program = "import time; time.sleep(60)"
        if "node1" in arguments[-1]:
            program = "print('error: no room'); raise SystemExit(1)"
        return [sys.executable, "-c", program]

    monkeypatch.setattr(control, "python_command", command)

    ended = securenet("testnet", "up", "--dir", network.directory, "--detach")

    assert ended.code == ExitCode.NOT_RUNNING
    assert "node1 has ended: error: no room" in ended.err
    assert network.processes() == {}


def test_a_stranger_with_a_recorded_id_is_spared(securenet, network):
    network.record({"node0": Process(pid=os.getpid(), started=1)})

    ended = securenet("testnet", "down", "--dir", network.directory)

    assert ended.out == "none was running\n"


@pytest.mark.parametrize(
    ("log", "state", "error"),
    [
        (None, "never started", None),
        ("it runs\nnode ended (exit code 0)\n", "stopped (exit code 0)", None),
        (
            "error: no room\n  try: make room\nnode ended (exit code 10)\n",
            "stopped (exit code 10)",
            "error: no room",
        ),
        ("node ended (exit code 10)\nit runs again\n", "stopped (killed)", None),
    ],
)
def test_status_tells_how_a_node_ended_from_what_it_ended_for(
    securenet, network, log, state, error
):
    if log is not None:
        network.log(network.nodes[0]).write_text(log)

    ended = securenet("testnet", "status", "--dir", network.directory)
    as_json = securenet("testnet", "status", "--dir", network.directory, "--json")

    assert state in ended.out
    assert ("last error" in ended.out) == (error is not None)
    assert "it runs" not in ended.out
    assert as_json.document["nodes"][0]["state"] == state
    assert as_json.document["nodes"][0]["error"] == error


def test_logs_are_shown_from_the_end(securenet, network):
    network.log(network.nodes[0]).write_text("one\ntwo\nthree\n")

    ended = securenet("testnet", "logs", "--dir", network.directory, "-n", "2")

    assert ended.out == "node0 two\nnode0 three\n"
    as_json = securenet("testnet", "logs", "--dir", network.directory, "-n", "1", "--json")
    assert as_json.document == {"node0": ["three"], "node1": []}


@pytest.mark.parametrize("command", ["up", "down", "status", "logs", "load"])
def test_a_directory_without_a_network_is_told(securenet, tmp_path, command):
    ended = securenet("testnet", command, "--dir", tmp_path)

    assert ended.code == ExitCode.USAGE
    assert "securenet testnet init" in ended.err


OF_WRONG_TYPES = '{"nodes": [{"name": "node0", "role": "king", "p2p_port": "a", "rpc_port": 1}]}'


@pytest.mark.parametrize("content", ["", "{", '{"nodes": [{"name": 1}]}', "[]", OF_WRONG_TYPES])
def test_a_damaged_list_of_nodes_is_told(securenet, network, content):
    (network.directory / "testnet.json").write_text(content)

    assert securenet("testnet", "status", "--dir", network.directory).code == ExitCode.USAGE


@pytest.mark.parametrize("pid", ['"all"', "-1", "0", f"{10**20}"])
def test_damaged_records_of_processes_end_nobody(securenet, network, pid):
    record = f'{{"node0": {{"pid": {pid}, "started": 1}}}}'
    (network.directory / "running.json").write_text(record)

    assert securenet("testnet", "down", "--dir", network.directory).code == ExitCode.USAGE


def test_an_unknown_node_is_told(securenet, network):
    ended = securenet("testnet", "logs", "--dir", network.directory, "--node", "node9")

    assert ended.code == ExitCode.USAGE
    assert "node0, node1" in ended.err


def test_load_without_a_running_node_is_told(securenet, network):
    ended = securenet("testnet", "load", "--dir", network.directory)

    assert ended.code == ExitCode.NOT_RUNNING


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_foreground_stops_all_nodes_when_it_is_ended(network, number):
    program = f"""
import sys
from pathlib import Path
from cli.main import run
from cli.testnet import control
from cli.testnet.network import load_network
network = load_network(Path({str(network.directory)!r}))
control.python_command = lambda *a: [
    sys.executable, "-c", {STAND_IN!r}, str(network.node(Path(a[-1]).name).rpc_port), "00"
]
sys.exit(run(["testnet", "up", "--dir", {str(network.directory)!r}]))
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as foreground:
        assert foreground.stdout is not None
        while b"Ctrl-C stops them" not in (line := foreground.stdout.readline()):
            assert line, "it ended early"
        processes = load_network(network.directory).processes().values()
        assert len(processes) == 2
        time.sleep(0.1)

        foreground.send_signal(number)

        assert foreground.wait(20) == ExitCode.INTERRUPTED
    assert not any(is_running(process) for process in processes)
