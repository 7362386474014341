"""``securenet fl`` as people use it, against a node of one miner that does its part at once."""

import asyncio
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from threading import Thread
from time import sleep

import numpy as np
import pytest

from chain.crypto import signing_key
from chain.federated.records import ROUND_TABLE
from chain.kinds.device_registry import DeviceUpdate, Suspend
from chain.kinds.participation import RoundJoin
from chain.kinds.rounds import Invitation, RoundAbort, RoundOpen
from chain.types import Address, Digest
from cli.client import ask
from cli.commands.fl_publish import Optimiser, _command
from cli.commands.fl_status import _done_of
from cli.exit_codes import ExitCode
from cli.federated.chain_port import RoundReader
from cli.federated.follow import Gateway, why_shown
from cli.federated.memory import Memory, MemoryStore, Promise
from cli.federated.shard import Shard
from cli.federated.waits import waits_for
from cli.progress import Progress
from cli.signing import Sender, device_sender, registrar_sender, submit
from ml_validator.artifact import load_artifact
from ml_validator.bundled import LINEAR_NAME, bundled_model
from ml_validator.federated import RoundSecrets
from ml_validator.federated.linear_update import to_parameters
from ml_validator.linear import Linear
from ml_validator.nsl_kdd import write_records
from ml_validator.synthetic import generate_mixture
from node.random_source import SystemRandom
from node.storage.lock import FileLock
from tests.federation import Federation, make_terms
from tests.learners import Learner
from tests.unit.cli.conftest import key_file
from tests.unit.cli.fake_node import REGISTRAR, make_genesis, problem, serving
from tests.unit.cli.federated.learning_node import LearningNode

LETTERS = "abc"
SCHEMA = """
name = "other"
columns = [{ name = "size", kind = "integer" }, { name = "class", kind = "label" }]
[labels]
normal = ["ok"]
"""


@pytest.fixture
def node(monkeypatch):
    with serving(LearningNode(make_genesis())) as fake:
        monkeypatch.setenv("SECURENET_RPC", fake.url)
        yield fake


@pytest.fixture
def devices(node):
    """Return the ids of three participants, by the letters of their keys."""
    return {
        letter: node.register(
            signing_key("ed25519", letter.encode() * 32), letter, roles=("participant",)
        )
        for letter in LETTERS
    }


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "flows.txt"
    write_records(path, generate_mixture(40, 1))
    return path


@pytest.fixture
def start(securenet, registrar, devices):
    def call(*options):
        return securenet("fl", "start", "--key", registrar, "--base", LINEAR_NAME, *options)

    return call


@pytest.fixture
def join(securenet, tmp_path, shard):
    def call(letter, *options, data=shard, unmasked=True):
        path = tmp_path / f"{letter}.json"
        key = path if path.exists() else key_file(path, letter)
        home = tmp_path / f"home-{letter}"
        given = ("--unmasked", *options) if unmasked else options
        return securenet("fl", "join", "--key", key, "--home", home, "--data", data, *given)

    return call


def alone(devices, letter="a"):
    """Return the options of a round of one participant."""
    return ("--participants", devices[letter], "--group-size", 1, "--json")


def join_before(node, id, devices, tmp_path, *, promise=None, base=None):
    """Let device a join a round, and forget nothing of it but its process."""
    address, round_id = (Address(bytes.fromhex(text)) for text in (devices["a"], id))
    memory = Memory(
        round=Digest(round_id), device=address, seed=bytes(32), base=base, promise=promise
    )
    MemoryStore(tmp_path / "home-a").save(memory)
    secrets = RoundSecrets(seed=bytes(32), round_id=Digest(round_id), member=address)
    body = RoundJoin(
        round=Digest(round_id), mask_key=secrets.mask_public, box_key=secrets.box_public
    )
    key = signing_key("ed25519", b"a" * 32)
    sender = Sender(genesis_hash=node.chain.genesis.hash, address=address, key=key)
    node.chain.commit([sender.sign("round.join", body)])


def by_registrar(node, kind, body):
    """Commit a transaction of the registrar while a command runs; return its id."""
    sender = registrar_sender(node.chain.genesis, REGISTRAR, None)
    return ask(node.url, lambda client: submit(client, sender.sign(kind, body), wait=True))["id"]


def wait_for(condition):
    for _ in range(3_000):
        if condition():
            return
        sleep(0.01)
    raise AssertionError("what was waited for did not happen")


def record(node, id):
    return node.chain.tip.state.get(ROUND_TABLE, bytes.fromhex(id))


# --- start, abort, status -------------------------------------------------------------------------


def test_a_round_invites_all_participants_unless_told_otherwise(start, node, devices):
    node.register(signing_key("ed25519", b"z" * 32), "z", roles=("sensor",))

    ended = start()

    assert ended.code == ExitCode.OK
    assert "waits for 3 participants to join, until height" in ended.out
    ((_, found),) = node.chain.tip.state.scan(ROUND_TABLE)
    assert {m.device.hex() for m in found.members} == set(devices.values())
    assert found.terms.group_size == 3
    assert found.terms.rule == "mean"
    assert found.terms.base == bundled_model(LINEAR_NAME)[0].digest
    assert found.terms.clip == 2**found.terms.scale_bits


def test_weights_steps_and_terms_are_as_asked_for(start, node, devices):
    chosen = f"{devices['a']}:5:7,{devices['b']}:6,{devices['c']}"

    ended = start(
        "--participants", chosen, "--group-size", 1, "--rule", "median", "--tolerated", 1,
        "--steps", 9, "--clip", 0.5, "--scale-bits", 20, "--deadlines", "9,8,7,6,5,4", "--json",
    )  # fmt: skip

    found = record(node, ended.document["id"])
    asked = {m.device.hex(): (m.weight, m.steps) for m in found.members}
    assert asked == {devices["a"]: (5, 7), devices["b"]: (6, 9), devices["c"]: (1, 9)}
    terms = found.terms
    assert (terms.rule, terms.tolerated, terms.groups_min) == ("median", 1, 3)
    assert terms.clip == 2**19
    d = terms.deadlines
    heights = [d.join, d.share, d.commit, d.attest, d.reveal, d.aggregate]
    assert [b - a for a, b in pairwise(heights)] == [9, 7, 6, 5, 4]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--participants", "{a},{b}"), "hide nothing"),
        (("--participants", "{a},{a}"), "given twice"),
        (("--participants", "{a}:x"), "no participant"),
        (("--participants", "zz"), "no device id"),
        (("--participants", ","), "0 participants"),
        (("--group-size", 2), "--group-size 3 or more"),
        (("--deadlines", "1,2,3"), "no deadlines"),
        (("--deadlines", "1,2,3,4,5,0"), "no deadlines"),
        (("--clip", "1e12", "--scale-bits", 48), "leaves 62 bits"),
        (("--clip", "0"), "leaves 62 bits"),
        (("--base", "nsl-kdd-forest"), "is not linear"),
        (("--steps", 0), "steps"),
    ],
)
def test_a_round_that_makes_no_sense_is_refused_in_one_line(start, node, devices, options, said):
    ended = start(*[str(option).format(**devices) for option in options])

    assert ended.code == ExitCode.USAGE
    assert said in ended.err
    assert list(node.chain.tip.state.scan(ROUND_TABLE)) == []


def test_status_lists_the_newest_round_first(start, securenet, registrar):
    ids = []
    for _ in range(4):
        ids.append(start("--json").document["id"])
        securenet("fl", "abort", ids[-1], "--key", registrar)

    assert [item["id"] for item in securenet("fl", "status", "--json").document] == ids[::-1]
    newest = securenet("fl", "status", "--limit", "2", "--json").document
    assert [item["id"] for item in newest] == ids[:1:-1]


def test_status_says_what_rounds_wait_for_and_abort_ends_one(start, securenet, registrar, devices):
    id = start("--json").document["id"]
    assert "waits for 3 participants to join" in securenet("fl", "status").out
    shown = securenet("fl", "status", id).out
    assert "3 invited" in shown
    for device in devices.values():
        (line,) = [line for line in shown.splitlines() if device in line]
        assert line.split() == [device, "acme", "1", "40", "invited"]
    assert securenet("fl", "status", id, "--json").document["phase"] == "join"

    assert securenet("fl", "abort", id, "--key", registrar).code == ExitCode.OK

    followed = securenet("fl", "status", id, "--follow")
    assert followed.code == ExitCode.MISSED
    assert "is aborted" in followed.err
    over = securenet("fl", "abort", id, "--key", registrar)
    assert (over.code, "nothing is left to do in it" in over.err) == (ExitCode.REFUSED, True)
    assert securenet("fl", "status", "--follow").code == ExitCode.USAGE
    unknown = securenet("fl", "status", "00" * 32)
    assert (unknown.code, "fl status" in unknown.err) == (ExitCode.NOT_FOUND, True)


def test_a_home_that_is_not_there_is_not_taken_for_one_that_has_told_nothing(securenet, tmp_path):
    ended = securenet("fl", "status", "--home", tmp_path / "nosuch")

    assert (ended.code, "there is no home" in ended.err) == (ExitCode.USAGE, True)
    assert securenet("fl", "status", "--home", tmp_path).code == ExitCode.OK


def test_every_open_phase_has_its_words():
    for phase in ("join", "draw", "share", "commit", "attest", "reveal", "aggregate"):
        said = waits_for(phase, deadline=9, count=1)
        assert said.startswith("waits for ")
        assert said.endswith(", until height 9")


def test_who_opens_a_round_is_told_of_those_who_have_used_its_base(start, join, node, devices):
    first = start(*alone(devices))
    assert "warning" not in start("--no-wait").err
    assert join("a", "--round", first.document["id"]).code == ExitCode.OK

    again = start()

    assert (again.code, "limit_reached" in again.err) == (ExitCode.OK, False)
    assert "warning: 1 of 3 invited have sent an update from this base" in again.err
    assert "warning" not in start(*alone(devices)).err, "the audit mode hides nothing in any case"


def test_who_opens_two_rounds_at_once_is_told_of_those_who_have_joined_the_first(
    start, node, devices, tmp_path
):
    join_before(node, start("--json").document["id"], devices, tmp_path)

    again = start()

    assert (again.code, "warning: 1 of 3 invited" in again.err) == (ExitCode.OK, True)


def test_too_many_open_rounds_are_told_with_how_to_see_and_end_one(start, devices):
    ended = [start() for _ in range(3)][-1]

    assert (ended.code, "securenet fl abort ROUND" in ended.err) == (ExitCode.REFUSED, True)


# --- join -----------------------------------------------------------------------------------------


def test_a_participant_sees_a_round_through_and_the_outcome_is_published(
    start, join, securenet, registrar, node, devices, shard, tmp_path
):
    id = start(*alone(devices)).document["id"]

    joined = join("a", "--json")

    assert joined.code == ExitCode.OK, joined.err
    assert joined.document["part"] == "included"
    assert joined.document["round"] == id
    # A restart behind the end says the same, and has no secret left.
    again = join("a", "--round", id, "--json")
    assert again.document == joined.document
    assert '"seed": null' in next((tmp_path / "home-a" / "federated").glob("*.json")).read_text()

    command = ("fl", "publish", id, "--key", registrar, "--data", shard, "--json")
    published = securenet(*command)

    assert published.code == ExitCode.OK, published.err
    model = load_artifact(node.blobs[published.document["model"]]).model
    base = bundled_model(LINEAR_NAME)[0].model
    assert isinstance(model, Linear)
    assert isinstance(base, Linear)
    moved = to_parameters(model) - to_parameters(base)
    aggregate = node.blobs[record(node, id).aggregate.hex()]
    change = np.frombuffer(aggregate, "<i8") / 2**32 * 40
    assert np.abs(change).max() > 0.01
    assert np.allclose(moved, change, atol=1e-6)
    assert published.document["model"] in securenet("model", "list").out


def test_the_command_of_a_model_has_its_rate_to_the_last_digit():
    command = _command([Digest(bytes(32))], Optimiser.FEDAVG, 0.123456789012)

    assert "--rate 0.123456789012 " in command


def test_fedadam_remembers_earlier_rounds_from_their_aggregates_alone(
    start, join, securenet, registrar, node, devices, shard
):
    ids = [start(*alone(devices)).document["id"] for _ in range(2)]
    for id in ids:
        assert join("a", "--round", id).code == ExitCode.OK
    command = ("fl", "publish", ids[1], "--key", registrar, "--data", shard, "--json")
    adam = ("--optimiser", "fedadam", "--earlier", ids[0])

    published = securenet(*command, *adam)

    assert published.code == ExitCode.OK, published.err
    first, second = (
        np.frombuffer(node.blobs[record(node, id).aggregate.hex()], "<i8") / 2**32 * 40
        for id in ids
    )
    mean = 0.9 * (0.1 * first) + 0.1 * second
    square = 0.99 * (0.01 * first**2) + 0.01 * second**2
    model = load_artifact(node.blobs[published.document["model"]]).model
    base = bundled_model(LINEAR_NAME)[0].model
    assert isinstance(model, Linear)
    assert isinstance(base, Linear)
    moved = to_parameters(model) - to_parameters(base)
    assert np.allclose(moved, 0.1 * mean / (np.sqrt(square) + 0.001), atol=1e-6)
    for wrong, said in (
        (adam[2:], "fedavg minds no"),
        ((*adam, "--earlier", ids[0]), "twice"),
        ((*adam[:3], ids[1]), "twice"),
    ):
        refused = securenet(*command, *wrong)
        assert (refused.code, said in refused.err) == (ExitCode.USAGE, True), refused.err
    swapped = securenet("fl", "publish", ids[0], *command[3:], *adam[:3], ids[1])
    assert (swapped.code, "oldest first" in swapped.err) == (ExitCode.USAGE, True)


def test_a_round_can_be_followed_to_its_end(start, join, securenet, node, devices):
    id = start(*alone(devices)).document["id"]
    participant = Thread(target=join, args=("a",))
    participant.start()

    ended = securenet("fl", "status", id, "--follow")

    participant.join()
    assert ended.code == ExitCode.OK
    assert "it is finished" in ended.out
    assert record(node, id).phase == "finished"


def test_who_follows_a_round_is_told_how_many_have_joined_of_all(
    start, securenet, node, devices, tmp_path, monkeypatch
):
    monkeypatch.setattr("cli.progress.LINE_EVERY_S", 0.0)
    monkeypatch.setattr("cli.commands.fl_status.POLL_S", 0.01)
    id = start("--json").document["id"]
    join_before(node, id, devices, tmp_path)
    ended = []
    following = Thread(target=lambda: ended.append(securenet("fl", "status", id, "--follow")))
    following.start()
    wait_for(lambda: node.requests.count(f"GET /v1/rounds/{id}") > 3)
    by_registrar(node, "round.abort", RoundAbort(round=Digest(bytes.fromhex(id))))
    following.join()

    lines = [line for line in ended[0].err.splitlines() if line.startswith("•")]
    assert len(lines) == 1, lines
    assert lines[0].startswith("• join: participants to join, until height")
    assert lines[0].endswith(" 1/3")


def test_a_phase_is_counted_in_the_groups_that_count_and_behind_its_end():
    def member(status, group, *, update=None):
        has_joined = status != "invited"
        return {"status": status, "group": group, "mask_key": has_joined or None, "update": update}

    found = {
        "terms": {"group_size": 3},
        "groups": [0, 1],
        "revealed": [1],
        "members": [
            member("invited", None),
            member("joined", 0),
            member("complained", 0),
            member("shared", 0),
            member("included", 0, update="aa"),
            member("included", 1, update="bb"),
            member("shared", 2),
        ],
    }

    counted = {phase: _done_of(found, phase) for phase in ("join", "share", "commit", "reveal")}

    assert counted == {"join": (6, 7), "share": (4, 5), "commit": (2, 3), "reveal": (1, 2)}


def test_an_aggregate_that_does_not_match_is_not_published(
    start, join, securenet, registrar, node, devices, shard
):
    id = start(*alone(devices)).document["id"]
    command = ("fl", "publish", id, "--key", registrar, "--data", shard)
    early = securenet(*command)
    assert early.code == ExitCode.MISSED
    assert "wait until it is finished" in early.err
    join("a")
    aggregate = record(node, id).aggregate.hex()
    node.blobs[aggregate] = bytes(len(node.blobs[aggregate]))

    ended = securenet(*command)

    assert ended.code == ExitCode.MISSED
    assert "other bytes" in ended.err


def test_nothing_is_waited_for_where_a_round_was_aborted(
    start, securenet, registrar, devices, shard
):
    id = start(*alone(devices)).document["id"]
    securenet("fl", "abort", id, "--key", registrar)

    ended = securenet("fl", "publish", id, "--key", registrar, "--data", shard)

    assert (ended.code, "is aborted" in ended.err) == (ExitCode.MISSED, True)
    assert "open another" in ended.err


def test_what_is_published_is_shown_with_its_transaction(
    start, join, securenet, registrar, node, devices, shard
):
    id = start(*alone(devices)).document["id"]
    join("a")

    shown = securenet("fl", "publish", id, "--key", registrar, "--data", shard)

    (published,) = node.chain.blocks[-1].transactions
    assert dict(line.split(maxsplit=1) for line in shown.out.splitlines())["transaction"] == (
        published.id.hex()
    )


def test_what_was_registered_before_is_shown_without_a_transaction(
    start, join, securenet, registrar, node, devices, shard
):
    id = start(*alone(devices)).document["id"]
    join("a")
    command = ("fl", "publish", id, "--key", registrar, "--data", shard)
    first = securenet(*command, "--json").document

    again, shown = securenet(*command, "--json").document, securenet(*command)

    assert again["model"] == first["model"]
    assert again["transaction"] == {"id": None, "status": "registered before"}
    assert shown.out.count(first["model"]) == 1
    assert "transaction" not in shown.out


def test_an_outcome_that_tells_no_rows_apart_is_told_as_what_it_is(
    start, join, securenet, registrar, devices, shard, tmp_path
):
    id = start(*alone(devices)).document["id"]
    join("a")
    rows = [line.split(",") for line in shard.read_text().splitlines()]
    calm = tmp_path / "calm.txt"
    calm.write_text("".join([",".join([*row[:41], "normal", *row[42:]]) + "\n" for row in rows]))
    command = ("fl", "publish", id, "--key", registrar, "--data")

    apart = securenet(*command, calm, "--rate", 100, "--false-alarms", 0)
    vast = securenet(*command, shard, "--rate", 1e15)

    for ended, said in ((apart, f"rows of {calm} apart"), (vast, "numbers are too large")):
        assert (ended.code, said in ended.err) == (ExitCode.USAGE, True), ended.err
        assert "with less noise" in ended.err
    assert "--rate 10, higher --false-alarms" in apart.err


def test_with_a_trusted_hash_what_is_published_is_of_a_proven_round(
    start, join, securenet, registrar, node, devices, shard
):
    id = start(*alone(devices)).document["id"]
    join("a")
    trust = ("--trust", node.chain.genesis.hash.hex())
    command = ("fl", "publish", id, "--key", registrar, "--data", shard, *trust, "--json")
    node.requests.clear()
    node.lies = True

    lied = securenet(*command)
    node.lies = False
    told = securenet(*command)

    assert (lied.code, "proof does not hold" in lied.err) == (ExitCode.MISSED, True)
    assert told.code == ExitCode.OK, told.err
    assert f"GET /v1/rounds/{id}" not in node.requests


def test_a_node_that_is_busy_for_a_moment_is_asked_again(start, join, node, devices):
    id = start(*alone(devices)).document["id"]
    node.overrides[f"/v1/rounds/{id}"] = [problem(429, "rate_limited", "too fast")]

    ended = join("a", "--round", id)

    assert ended.code == ExitCode.OK
    assert ended.err.count("waiting for the node: rate_limited") == 1
    assert "too fast (asked again for 10 minutes)" in ended.err


def test_what_is_waited_for_is_said_again_once_the_node_answers(
    start, join, node, devices, monkeypatch
):
    monkeypatch.setattr("cli.federated.follow.POLL_S", 0.1)
    id = start("--json").document["id"]
    ended = []
    waiting = Thread(target=lambda: ended.append(join("a", "--round", id)))
    waiting.start()
    path = f"/v1/rounds/{id}"
    wait_for(lambda: any(member.has_joined for member in record(node, id).members))
    node.overrides[path] = [problem(503, "not_ready", "it starts") for _ in range(3)]
    wait_for(lambda: not node.overrides[path])
    seen = node.requests.count(f"GET {path}")
    wait_for(lambda: node.requests.count(f"GET {path}") > seen + 1)
    node.overrides[path] = [problem(404, "not_found", "gone")]
    waiting.join()

    lines = [line for line in ended[0].err.splitlines() if line.startswith("•")]
    joining = f"• federated round ({id[:8]}): join, until height"
    assert [line.startswith(joining) for line in lines] == [True, False, True], lines
    assert lines[1].startswith("• waiting for the node: not_ready")


def test_with_a_trusted_hash_every_step_is_proven(start, join, node, devices):
    id = start(*alone(devices)).document["id"]

    ended = join("a", "--round", id, "--trust", node.chain.genesis.hash.hex(), "--json")

    assert ended.code == ExitCode.OK, ended.err
    assert ended.document["part"] == "included"
    assert f"GET /v1/rounds/{id}" not in node.requests
    assert f"GET /v1/rounds/{id}/proof" in node.requests


def test_a_round_that_is_not_proven_is_not_joined(start, join, node, devices):
    id = start(*alone(devices)).document["id"]
    trust = ("--trust", node.chain.genesis.hash.hex())
    other = join("a", "--round", id, "--trust", "11" * 32)
    node.lies = True

    lied = join("a", "--round", id, *trust)

    assert (other.code, lied.code) == (ExitCode.NOT_FOUND, ExitCode.MISSED)
    assert "proof does not hold" in lied.err
    assert record(node, id).members[0].status == "invited"


@pytest.mark.parametrize("mode", [(), ("--all",)])
def test_a_hash_that_the_node_does_not_know_is_told_before_a_round_is_waited_for(
    start, join, node, devices, mode
):
    id = start(*alone(devices)).document["id"]

    ended = join("a", "--trust", "11" * 32, *mode)

    assert (ended.code, "correct --trust" in ended.err) == (ExitCode.NOT_FOUND, True)
    assert "waiting for a federated round" not in ended.err
    assert record(node, id).members[0].status == "invited"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# a page\n", "{path}, row 1"),
        ('{{"version": 1}}\n', "{path}, row 1"),
        ("{row}0,tcp\n", "{path}, row 2"),
        ("", "{path}: there are no rows in it"),
        (None, "{path}/KDDTrain+.txt"),
    ],
)
def test_rows_that_cannot_be_read_are_told_before_a_round_is_waited_for(
    join, node, devices, shard, tmp_path, text, said
):
    path = tmp_path / "deep" / "own"
    path.mkdir(parents=True)
    if text is not None:
        path = path / "rows.txt"
        path.write_text(text.format(row=shard.read_text().splitlines(keepends=True)[0]))

    ended = join("a", data=path)

    assert (ended.code, said.format(path=path) in ended.err) == (ExitCode.USAGE, True), ended.err
    assert node.requests == [], "nothing is waited for"


def test_rows_of_a_table_are_read_before_a_round_is_waited_for(join, node, devices, tmp_path):
    (tmp_path / "other.toml").write_text(SCHEMA)
    (tmp_path / "other.csv").write_text("size,class\nx,ok\n")

    ended = join("a", "--schema", tmp_path / "other.toml", data=tmp_path / "other.csv")

    assert ended.code == ExitCode.USAGE
    assert f"{tmp_path / 'other.csv'}, row 2, size" in ended.err


def test_a_closed_round_and_one_of_others_are_refused(start, join, securenet, registrar, devices):
    id = start(*alone(devices)).document["id"]
    stranger = join("b", "--round", id)
    assert (stranger.code, "not_invited" in stranger.err) == (ExitCode.REFUSED, True)
    securenet("fl", "abort", id, "--key", registrar)

    ended = join("a", "--round", id)

    assert (ended.code, "round_closed" in ended.err) == (ExitCode.REFUSED, True)
    assert join("a", "--round", "00" * 32).code == ExitCode.NOT_FOUND


def test_a_round_that_ended_while_it_was_away_is_told_and_its_own_secrets_go(
    start, join, securenet, registrar, node, devices, tmp_path
):
    id = start(*alone(devices)).document["id"]
    address = Address(bytes.fromhex(devices["a"]))
    store = MemoryStore(tmp_path / "home-a")
    store.save(Memory(round=Digest(bytes(32)), device=address, seed=bytes(32)))
    join_before(node, id, devices, tmp_path)
    securenet("fl", "abort", id, "--key", registrar)

    ended = join("a", "--json")

    assert (ended.code, ended.document["phase"]) == (ExitCode.MISSED, "aborted")
    # The chain has forgotten the other round, or the node does not know it yet: it is kept.
    assert store.unfinished(address) == [Digest(bytes(32))]


@pytest.mark.attack("F10")
def test_nobody_takes_part_unawares_where_the_own_update_can_be_seen(start, join, devices):
    id = start(*alone(devices)).document["id"]

    ended = join("a", "--round", id, unmasked=False)

    assert (ended.code, "masks no updates" in ended.err) == (ExitCode.USAGE, True)


@pytest.mark.attack("F10")
def test_nobody_sends_two_updates_from_one_base_unawares(start, join, node, devices, tmp_path):
    id = start("--group-size", 3, "--json").document["id"]
    device, base = Address(bytes.fromhex(devices["a"])), bundled_model(LINEAR_NAME)[0].digest
    earlier = Memory(round=Digest(bytes(32)), device=device, seed=None, base=base)
    MemoryStore(tmp_path / "home-a").save(earlier)

    ended = join("a", "--round", id, unmasked=False)

    assert (ended.code, "another federated round has" in ended.err) == (ExitCode.USAGE, True)
    assert record(node, id).members[0].status == "invited"


def test_what_is_passed_over_in_any_case_is_not_said_to_be_taken_with_all(
    start, join, securenet, registrar, node, devices, shard, tmp_path
):
    first, second = (start("--json").document["id"] for _ in range(2))
    join_before(node, first, devices, tmp_path, base=bundled_model(LINEAR_NAME)[0].digest)
    ended = []
    waiting = Thread(target=lambda: ended.append(join("a", unmasked=False)))
    waiting.start()
    wait_for(lambda: f"GET /v1/rounds/{second}" in node.requests)
    by_registrar(node, "round.abort", RoundAbort(round=Digest(bytes.fromhex(first))))
    waiting.join()

    assert ended[0].code == ExitCode.MISSED
    assert f"({second}), which invites this device, is passed over" in ended[0].err
    assert "from its published outcome is joined" in ended[0].err
    assert "left alone" not in ended[0].err
    assert "start fl join again" in ended[0].err


@pytest.mark.attack("F10")
@pytest.mark.parametrize("unmasked", [False, True])
def test_nothing_is_handed_unawares_to_a_group_that_another_organisation_fills(
    start, join, node, devices, monkeypatch, unmasked
):
    terms = ("--group-size", 3, "--deadlines", "9,3,1,1,1,1", "--json")
    id = Digest(bytes.fromhex(start(*terms).document["id"]))
    own, *others = [Address(bytes.fromhex(devices[letter])) for letter in LETTERS]
    for letter, other in zip(LETTERS[1:], others, strict=True):
        key = signing_key("ed25519", letter.encode() * 32)
        sender = Sender(genesis_hash=node.chain.genesis.hash, address=other, key=key)
        node.chain.commit([sender.sign("round.join", Learner(other).join(id))])

    async def organisations(self, members):
        return dict.fromkeys(members, Address(b"o" * 32)) | {own: Address(b"a" * 32)}

    monkeypatch.setattr(RoundReader, "organisations", organisations)
    node.has_heartbeat = True

    ended = join("a", "--round", id.hex(), unmasked=unmasked)

    # Nobody else shares, so the only group is void in any case.
    assert ended.code == ExitCode.MISSED
    assert ("could see the own update" in ended.err) == (not unmasked)
    status = {member.device: member.status for member in record(node, id.hex()).members}[own]
    assert status == ("shared" if unmasked else "joined")


def test_a_sum_in_which_one_weighs_most_hides_little():
    federation = Federation()
    federation.open()
    found = federation.record
    heavy = replace(found.members[0], weight=5 * found.members[1].weight)

    assert why_shown(found) is None
    assert why_shown(replace(found, members=(heavy, *found.members[1:]))) is not None


def test_an_unknown_key_and_contradicting_options_are_refused(start, join, devices):
    id = start(*alone(devices)).document["id"]

    ended = join("x", "--round", id)

    assert (ended.code, "no device was registered" in ended.err) == (ExitCode.USAGE, True)
    assert join("a", "--round", id, "--all").code == ExitCode.USAGE
    assert join("a", data=Path("nowhere")).code == ExitCode.USAGE


def test_a_shard_of_another_schema_ends_it_before_anything_is_promised(
    start, join, node, devices, tmp_path
):
    id = start(*alone(devices)).document["id"]
    (tmp_path / "other.toml").write_text(SCHEMA)
    (tmp_path / "other.csv").write_text("size,class\n1,ok\n")
    (tmp_path / "garbage.txt").write_text("no flow\n")

    other = join(
        "a", "--round", id, "--schema", tmp_path / "other.toml", data=tmp_path / "other.csv"
    )
    garbage = join("a", "--round", id, data=tmp_path / "garbage.txt")

    assert (other.code, "other columns" in other.err) == (ExitCode.USAGE, True)
    assert (garbage.code, "row 1" in garbage.err) == (ExitCode.USAGE, True)
    assert record(node, id).members[0].status == "invited"


def test_a_base_that_does_not_match_its_digest_ends_it(
    securenet, registrar, join, node, devices, tmp_path
):
    base = replace(bundled_model(LINEAR_NAME)[0], threshold_ppm=7)
    (tmp_path / "base.safetensors").write_bytes(base.data)
    started = securenet(
        "fl", "start", "--key", registrar, "--base", tmp_path / "base.safetensors",
        *alone(devices),
    )  # fmt: skip
    assert node.blobs[base.digest.hex()] == base.data, "a file is handed in"
    node.blobs[base.digest.hex()] = base.data[:-1] + b"\x01"

    ended = join("a", "--round", started.document["id"])

    assert (ended.code, "other bytes" in ended.err) == (ExitCode.MISSED, True)


@pytest.mark.parametrize("options", [(), ("--no-wait",)])
def test_a_round_whose_base_is_not_taken_is_shown_with_what_to_do(
    securenet, registrar, node, devices, tmp_path, options
):
    base = replace(bundled_model(LINEAR_NAME)[0], threshold_ppm=7)
    (tmp_path / "base.safetensors").write_bytes(base.data)
    full = problem(507, "blobs_full", "the blob store is full")
    node.overrides[f"/v1/blobs/{base.digest.hex()}"] = [full]

    ended = securenet(
        "fl", "start", "--key", registrar, "--base", tmp_path / "base.safetensors",
        "--participants", devices["a"], "--group-size", 1, *options,
    )  # fmt: skip

    assert ended.code == ExitCode.REFUSED
    (opening,) = node.chain.blocks[-1].transactions
    assert opening.id.hex() in ended.out
    assert "committed" in ended.out, "the chain names the base"
    assert "blobs_full" in ended.err
    assert "securenet blob put FILE" in ended.err


def test_a_base_that_the_node_is_still_fetching_is_waited_for(
    securenet, registrar, join, node, devices, tmp_path, monkeypatch
):
    monkeypatch.setattr("cli.federated.follow.POLL_S", 0.1)
    base = replace(bundled_model(LINEAR_NAME)[0], threshold_ppm=7)
    (tmp_path / "base.safetensors").write_bytes(base.data)
    started = securenet(
        "fl", "start", "--key", registrar, "--base", tmp_path / "base.safetensors",
        *alone(devices),
    )  # fmt: skip
    missing = problem(404, "not_found", "the blob is not held here")
    node.overrides[f"/v1/blobs/{base.digest.hex()}"] = [missing]
    node.blobs[base.digest.hex()] = base.data

    ended = join("a", "--round", started.document["id"])

    assert ended.code == ExitCode.OK, ended.err
    assert "does not hold the base model" in ended.err


def test_rows_are_read_once_for_models_that_read_them_alike(node, monkeypatch, shard):
    first = bundled_model(LINEAR_NAME)[0]
    second = replace(first, threshold_ppm=7)
    node.blobs[second.digest.hex()] = second.data
    reads = []

    def read(*given, **kind):
        reads.append(given)
        return [], []

    monkeypatch.setattr("cli.federated.shard.read_rows", read)
    assert isinstance(first.model, Linear)
    terms = partial(make_terms, parameter_count=len(to_parameters(first.model)))

    async def prepare(client):
        rows = Shard(shard, None, client=client, rate=1.0, random=SystemRandom())
        await rows.prepare(terms(base=first.digest))
        await rows.prepare(terms(base=second.digest))
        unchanged = len(reads)
        write_records(shard, generate_mixture(41, 1))
        await rows.prepare(terms(base=first.digest))
        return unchanged

    assert (ask(node.url, prepare), len(reads)) == (1, 2)


def test_one_round_is_seen_through_and_another_is_left_alone_and_named(start, join, node, devices):
    first, second = (start(*alone(devices)).document["id"] for _ in range(2))

    ended = join("a", "--json")

    assert (ended.code, ended.document["round"]) == (ExitCode.OK, first)
    assert f"({second}), which invites this device, is left alone" in ended.err
    assert record(node, second).members[0].status == "invited"


def test_a_round_that_was_begun_goes_before_those_that_are_older(
    start, join, node, devices, tmp_path
):
    older, begun = (start(*alone(devices)).document["id"] for _ in range(2))
    join_before(node, begun, devices, tmp_path)

    ended = join("a", "--json")

    assert (ended.code, ended.document["round"]) == (ExitCode.OK, begun)
    assert record(node, older).members[0].status == "invited"


def test_a_round_that_went_on_without_the_device_is_not_the_one_that_is_seen_through(
    start, join, securenet, registrar, devices, tmp_path
):
    missed = start(*alone(devices)).document["id"]
    address, round_id = (Address(bytes.fromhex(text)) for text in (devices["a"], missed))
    store = MemoryStore(tmp_path / "home-a")
    store.save(Memory(round=Digest(round_id), device=address, seed=bytes(32)))
    securenet("fl", "abort", missed, "--key", registrar)
    following = start(*alone(devices)).document["id"]

    ended = join("a", "--json")

    assert (ended.code, ended.document["round"]) == (ExitCode.OK, following), ended.err
    assert "had not joined it" in ended.err
    assert store.unfinished(address) == []


def test_who_stays_takes_part_in_several_rounds_at_once(start, node, devices, shard, tmp_path):
    both = {start(*alone(devices)).document["id"] for _ in range(2)}
    told = []
    sender = device_sender(
        node.chain.genesis, signing_key("ed25519", b"a" * 32), organisation="acme"
    )

    async def stay(client):
        gateway = Gateway(
            client,
            sender,
            trust=None,
            shard=Shard(shard, None, client=client, rate=1.0, random=SystemRandom()),
            store=MemoryStore(tmp_path / "home-a"),
            progress=Progress(),
            tell=lambda id, over: told.append((id.hex(), over.phase)),
            complains=False,
            shows=True,
        )
        staying = asyncio.create_task(gateway.run(None, forever=True))
        async with asyncio.timeout(60):
            while len(told) < 2:
                await asyncio.sleep(0.01)
        staying.cancel()

    ask(node.url, stay)

    assert {id for id, _ in told} == both
    assert {phase for _, phase in told} == {"finished"}


def test_it_says_that_it_waits_what_it_passes_over_and_that_its_device_is_suspended(
    join, node, devices
):
    device = Address(bytes.fromhex(devices["a"]))
    ended = []
    waiting = Thread(target=lambda: ended.append(join("a", unmasked=False)))
    waiting.start()
    wait_for(lambda: node.requests.count(f"GET /v1/devices/{device.hex()}") > 1)
    height = node.chain.tip.next_height
    opening = RoundOpen(
        terms=make_terms(height, group_size=1, groups_min=1),
        participants=(Invitation(device=device, weight=1, steps=1),),
    )

    id = by_registrar(node, "round.open", opening)
    wait_for(lambda: f"GET /v1/rounds/{id}" in node.requests)
    by_registrar(node, "device.update", DeviceUpdate(device=device, change=Suspend()))
    waiting.join()

    (told,) = ended
    lines = told.err.splitlines()
    assert lines.count("• waiting for a federated round that invites this device") == 1
    assert sum(f"({id})" in line and "without --unmasked" in line for line in lines) == 1
    assert (told.code, "is suspended" in told.err) == (ExitCode.REFUSED, True)


@pytest.mark.parametrize(
    ("roles", "options", "code", "said"),
    [
        (("sensor",), (), ExitCode.REFUSED, "lacks the role participant"),
        (("participant",), ("--device", "00" * 32), ExitCode.USAGE, "is registered"),
        (("participant",), ("--device", "{a}"), ExitCode.USAGE, "signs with another key"),
    ],
)
def test_a_device_that_can_take_part_in_no_round_is_told_at_once(
    join, node, devices, roles, options, code, said
):
    node.register(signing_key("ed25519", b"z" * 32), "z", roles=roles)

    ended = join("z", *[option.format(**devices) for option in options])

    assert (ended.code, said in ended.err) == (code, True), ended.err


def test_a_device_without_the_role_is_told_so_when_a_round_invites_it_too(
    start, join, node, devices, registrar, securenet
):
    id = start(*alone(devices)).document["id"]
    roles = securenet("device", "roles", devices["a"], "--role", "sensor", "--key", registrar)
    assert roles.code == ExitCode.OK

    ended = join("a", "--round", id)

    assert ended.code == ExitCode.REFUSED
    command = f"securenet device roles {devices['a']} --role sensor --role participant --key FILE"
    assert command in ended.err


# --- differential privacy -------------------------------------------------------------------------

NOISE = ("--noise", 1.0, "--delta", 0.00001)


@pytest.mark.attack("F10")
def test_what_rounds_are_told_with_noise_adds_up_until_it_would_be_too_much(
    start, join, securenet, devices, tmp_path
):
    budget = (*NOISE, "--epsilon-max", 8)
    first, second = (start(*alone(devices)).document["id"] for _ in range(2))
    wide = join("a", "--round", first, *budget)
    assert wide.code == ExitCode.OK, wide.err
    home = tmp_path / "home-a"

    told = securenet("fl", "status", "--home", home, "--json").document[0]
    assert (told["device"], told["rounds"], told["models"]) == (devices["a"], 1, 1)
    assert told["rho"] == pytest.approx(0.5, rel=1e-6)
    assert told["epsilon"] == pytest.approx(4.728, rel=1e-3)
    assert "4.73" in securenet("fl", "status", "--home", home).out
    assert join("a", "--round", second, *budget).code == ExitCode.OK
    third = start(*alone(devices)).document["id"]

    refused = join("a", "--round", third, *budget)

    assert refused.code == ExitCode.MISSED
    assert "too much of the own rows: epsilon would be 9.01" in refused.err
    assert securenet("fl", "status", "--home", home, "--json").document[0]["rounds"] == 2


def test_without_noise_a_home_that_counts_takes_part_no_more(start, join, devices):
    ids = [start(*alone(devices)).document["id"] for _ in range(2)]
    join("a", "--round", ids[0], *NOISE)

    ended = join("a", "--round", ids[1])

    assert (ended.code, "without noise all would be told" in ended.err) == (ExitCode.USAGE, True)


KEPT = Promise(noise=1.0, members=1, delta=0.00001, epsilon_max=None)


def test_whoever_starts_again_without_noise_goes_on_with_that_of_joining(
    start, join, securenet, node, devices, tmp_path
):
    id = start(*alone(devices)).document["id"]
    join_before(node, id, devices, tmp_path, promise=KEPT)

    ended = join("a")

    assert ended.code == ExitCode.OK, ended.err
    line = f"• federated round ({id}) goes on with --noise 1.0 --delta 1e-05, as promised"
    assert ended.err.splitlines().count(line) == 1
    told = securenet("fl", "status", "--home", tmp_path / "home-a", "--json").document[0]
    assert (told["rounds"], told["rho"]) == (1, pytest.approx(0.5, rel=1e-6))


@pytest.mark.parametrize("mode", [(), ("--all",)])
def test_whoever_starts_again_with_other_noise_is_refused(
    start, join, node, devices, tmp_path, mode
):
    id = start(*alone(devices)).document["id"]
    join_before(node, id, devices, tmp_path, promise=KEPT)

    ended = join("a", "--noise", 2.0, "--delta", 0.00001, *mode)

    assert ended.code == ExitCode.USAGE
    assert f"round {id} with --noise 1.0 --delta 1e-05, not with --noise 2.0" in ended.err
    assert str(tmp_path / "home-a" / "federated") in ended.err
    assert record(node, id).members[0].status == "joined"


@pytest.mark.parametrize(
    ("terms", "options", "said"),
    [
        ((), (*NOISE, "--epsilon-max", "nan"), "--epsilon-max"),
        ((), ("--delta", 0.1), "no noise is given"),
        ((), ("--noise", 1.0), "needs a --delta"),
        ((), ("--noise", 1.0, "--delta", 1.5), "needs a --delta"),
        ((), (*NOISE, "--noise-members", 2), "cannot share noise in groups of 1"),
        (("--clip", 1e-8), NOISE, "no room for noise"),
    ],
)
def test_noise_that_makes_no_sense_is_refused_in_one_line(
    start, join, node, devices, terms, options, said
):
    id = start(*alone(devices), *terms).document["id"]

    ended = join("a", "--round", id, *options)

    assert (ended.code, said in ended.err) == (ExitCode.USAGE, True), ended.err
    assert record(node, id).members[0].status == "invited"


def test_a_damaged_ledger_is_not_taken_for_an_empty_one(start, join, securenet, devices, tmp_path):
    id = start(*alone(devices)).document["id"]
    folder = tmp_path / "home-a" / "federated"
    folder.mkdir(parents=True)
    (folder / f"{devices['a']}.ledger.json").write_text("{}")

    ended = join("a", "--round", id, *NOISE)

    assert (ended.code, "is damaged" in ended.err) == (ExitCode.USAGE, True)
    shown = securenet("fl", "status", "--home", tmp_path / "home-a")
    assert (shown.code, "is damaged" in shown.err) == (ExitCode.USAGE, True)


def test_two_processes_do_not_share_a_home(start, join, devices, tmp_path):
    id = start(*alone(devices)).document["id"]
    (tmp_path / "home-a" / "federated").mkdir(parents=True)

    with FileLock(tmp_path / "home-a" / "federated" / "lock"):
        ended = join("a", "--round", id)

    assert ended.code == ExitCode.STORAGE
    assert "in use by another securenet fl join" in ended.err
