"""`securenet signer`: the directory of a signer, made of a node's home."""

import asyncio
from contextlib import closing

import pytest

from chain.certificate import SignedVote, VoteCertificate
from chain.crypto import address_of
from chain.types import Address, Digest, Height, Round, Signature
from cli.exit_codes import ExitCode
from cli.testnet.create import create_network
from consensus.durable import Floor, Prepared, Signed, WalRecord, encode_record
from consensus.key_memory import CONFLICT, FORGETS_PREPARED, decode_key_record, recover_keys
from consensus.messages import Commit, Message, Prepare, RoundChange
from consensus.order import FLOOR, LOST_MEMORY
from node.errors import ConfigError
from node.home import Home
from node.keys import load_key, read_key_info
from node.process import run_node
from node.random_source import SystemRandom
from node.signer.home import SignerHome
from node.signer.keeper import KeyKeeper
from node.signer.process import run_signer
from node.signer.wire import SignVote
from node.storage.lock import HomeLock
from node.storage.wal import Wal

BLOCK, OTHER = Digest(b"b" * 32), Digest(b"o" * 32)
ME = Address(b"m" * 32)


@pytest.fixture
def node(tmp_path):
    network = create_network(tmp_path / "net", miners=1, observers=0, base_port=0)
    return Home(network.home(network.nodes[0]))


@pytest.fixture
def init(securenet, tmp_path, node):
    def run(*more, home=tmp_path / "signer"):
        return securenet("signer", "init", "--home", home, "--from", node.path, *more)

    return run


def remember(node: Home, *records: WalRecord) -> None:
    with closing(Wal(node.log, random=SystemRandom())) as wal:
        wal.append([encode_record(record) for record in records])


def refusal(signer: SignerHome, node: Home, message: Message) -> str | None:
    """Return why the signer of this directory would not sign a message, or None."""
    genesis = node.load_genesis()
    key = load_key(signer.miner_key)
    with closing(Wal(signer.log, random=SystemRandom())) as journal:
        keeper = KeyKeeper(genesis_hash=genesis.hash, keys=[key], journal=journal)
        statement = message.statement(genesis.hash)
        answer = keeper.answer(SignVote(number=1, key=key.public, statement=statement))
        return getattr(answer, "reason", None)


def prepare(digest: Digest, height: int = 1, round: int = 0) -> Prepare:
    return Prepare(sender=ME, height=Height(height), round=Round(round), digest=digest)


def test_init_copies_the_key_and_removes_nothing(init, node, tmp_path):
    before = {path: path.read_bytes() for path in node.path.rglob("*.json")}

    ended = init("--json", "--port", "4000")

    assert ended.code == ExitCode.OK, ended.err
    signer = SignerHome(tmp_path / "signer")
    assert ended.document["signer_key"] == read_key_info(signer.channel_key).public.hex()
    assert ended.document["remote"] == "127.0.0.1:4000"
    assert read_key_info(signer.miner_key).public == read_key_info(node.miner_key).public
    settings = signer.load_settings()
    assert settings.nodes == [read_key_info(node.node_key).public.hex()]
    assert settings.genesis_hash == node.load_genesis().hash.hex()
    assert {path: path.read_bytes() for path in node.path.rglob("*.json")} == before


def test_a_signer_takes_over_what_its_node_has_signed(init, node, tmp_path):
    certificate = VoteCertificate(
        height=Height(1),
        round=Round(0),
        digest=BLOCK,
        votes=(SignedVote(index=0, signature=Signature(bytes(64))),),
    )
    vote = Commit(sender=ME, height=Height(1), round=Round(0), digest=BLOCK)
    change = RoundChange(
        sender=ME,
        height=Height(1),
        round=Round(1),
        prepared_round=Round(0),
        prepared_digest=BLOCK,
        certificate=certificate,
    )
    said = (vote, change, prepare(BLOCK, round=1))
    remember(node, Prepared(certificate=certificate), *(Signed(message=m) for m in said))
    init()
    signer = SignerHome(tmp_path / "signer")

    assert refusal(signer, node, prepare(OTHER, round=1)) == CONFLICT
    silent = RoundChange(
        sender=ME,
        height=Height(1),
        round=Round(2),
        prepared_round=None,
        prepared_digest=None,
        certificate=None,
    )
    assert refusal(signer, node, silent) == FORGETS_PREPARED
    assert refusal(signer, node, prepare(BLOCK, round=2)) is None


def test_what_is_there_is_never_replaced_and_a_node_that_runs_has_to_stop(init, node, tmp_path):
    assert init().code == ExitCode.OK
    assert init().code == ExitCode.ALREADY_THERE

    with HomeLock(node.path):
        ended = init(home=tmp_path / "another")
    assert ended.code == ExitCode.STORAGE
    assert not SignerHome(tmp_path / "another").miner_key.exists()


def test_what_is_no_node_or_no_key_is_refused(init, securenet, node, tmp_path):
    assert init("--node", "abc").code == ExitCode.USAGE
    nowhere = ("--from", tmp_path / "nowhere")
    ended = securenet("signer", "init", "--home", tmp_path / "signer", *nowhere)
    assert ended.code == ExitCode.KEY
    assert not (tmp_path / "signer").exists()


def test_a_floor_helps_a_signer_without_memory_alone(init, securenet, node, tmp_path):
    init()
    signer = SignerHome(tmp_path / "signer")
    command = ("signer", "floor", "--home", signer.path, "--height", "9")
    assert securenet(*command).code == ExitCode.USAGE

    signer.log.unlink()
    assert refusal(signer, node, prepare(BLOCK, 9)) == LOST_MEMORY
    assert securenet(*command).code == ExitCode.OK

    assert refusal(signer, node, prepare(BLOCK, 8)) == FLOOR
    assert refusal(signer, node, prepare(BLOCK, 9)) is None


def test_a_miner_that_lost_its_memory_passes_none_on(init, node, tmp_path):
    node.log.unlink()
    init()
    signer = SignerHome(tmp_path / "signer")
    assert refusal(signer, node, prepare(BLOCK)) == LOST_MEMORY


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "genesis_hash"),
        ("host = ", "TOML"),
        ("genesis_hash = 7\nnodes = []", "genesis_hash"),
        ("port = 99999", "port"),
        (f'genesis_hash = "{"0" * 64}"\nnodes = ["{"0" * 64}"]', "nodes"),
        (f'genesis_hash = "{"0" * 64}"\nnodes = ["{"1" * 64}"]\nx = 1', "no such setting"),
    ],
)
def test_settings_that_are_wrong_are_refused_in_one_line(init, securenet, tmp_path, text, words):
    init()
    signer = SignerHome(tmp_path / "signer")
    signer.config.write_text(text)

    ended = securenet("signer", "run", "--home", signer.path)

    assert ended.code == ExitCode.CONFIGURATION
    assert words in ended.err


def test_a_log_that_no_signer_wrote_is_refused(init, node, tmp_path):
    init()
    signer = SignerHome(tmp_path / "signer")
    signer.log.write_bytes(b"")
    with closing(Wal(node.log, random=SystemRandom())):
        pass
    signer.log.write_bytes(node.log.read_bytes())
    with closing(Wal(signer.log, random=SystemRandom())) as journal:
        assert recover_keys(map(decode_key_record, journal.records())).floor == 0
    remember(node, Signed(message=prepare(BLOCK)))
    signer.log.write_bytes(node.log.read_bytes())

    with pytest.raises(Exception, match="no log of a signer"):
        asyncio.run(run_signer(signer.path))


@pytest.mark.parametrize("name", ["miner.json", "miner.next.json"])
def test_a_node_with_a_signer_refuses_to_have_the_key_as_well(node, name):
    text = node.config.read_text()
    key = read_key_info(node.node_key).public.hex()
    text = text.replace("# remote =", 'remote = "127.0.0.1:4000"  #', 1)
    node.config.write_text(text.replace("# remote_key =", f'remote_key = "{key}"  #', 1))
    node.miner_key.rename(node.miner_key.with_name(name))

    with pytest.raises(ConfigError, match=f"{name}.*remote signer"):
        asyncio.run(run_node(node.path))


def test_inspect_knows_the_miner_of_a_node_without_its_key(securenet, node):
    public = read_key_info(node.miner_key).public
    text = node.config.read_text()
    key = read_key_info(node.node_key).public.hex()
    text = text.replace("# remote =", 'remote = "127.0.0.1:4000"  #', 1)
    node.config.write_text(text.replace("# remote_key =", f'remote_key = "{key}"  #', 1))
    node.miner_key.unlink()

    ended = securenet("node", "inspect", "--home", node.path, "--json")

    assert ended.code == ExitCode.OK, ended.err
    assert ended.document["miner_id"] == address_of(public).hex()
    assert ended.document["remote_signer"] == "127.0.0.1:4000"


def test_the_floor_of_a_fresh_node_is_taken_over(init, node, tmp_path):
    init()
    with closing(Wal(SignerHome(tmp_path / "signer").log, random=SystemRandom())) as journal:
        assert [decode_key_record(record) for record in journal.records()] == [
            Floor(height=Height(0))
        ]
