"""What exactly happens, message by message; the golden text stands in testdata/.

``UPDATE_SCENES=1 pytest tests/interaction`` writes it anew: read the difference before committing.
"""

import os
from pathlib import Path

import pytest

from consensus.durable import Accepted, Floor, LostMemory, Prepared, Signed
from consensus.messages import Commit, Prepare, PrePrepare, RoundChange
from consensus.timers import NS_PER_MS
from tests.interaction.cluster import Cluster

TESTDATA = Path(__file__).parent / "testdata"


class Scribe:
    """Writes down what every replica asks of its driver."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.lines = []
        self.letters = {}
        self.start = cluster.now
        cluster.scribe = self

    def block(self, digest):
        letter = self.letters.setdefault(digest, chr(ord("A") + len(self.letters)))
        return f"block {letter}"

    def say(self, node, text):
        time = (self.cluster.now - self.start) // NS_PER_MS
        self.lines.append(f"{time:5} ms  m{node.index}  {text}")

    def message(self, message):
        text = f"{message.name} h{message.height} r{message.round}"
        if isinstance(message, RoundChange):
            if message.prepared_digest is not None:
                text += f" prepared {self.block(message.prepared_digest)}"
                text += f" in r{message.prepared_round}"
            return text
        text += f" {self.block(message.digest)}"
        if isinstance(message, PrePrepare) and message.justification is not None:
            text += f" justified by {len(message.justification.round_changes)} round-changes"
            if message.justification.certificate is not None:
                text += f" and prepares of r{message.justification.certificate.round}"
        return text

    def record(self, record):
        match record:
            case Signed(message=message):
                return f"signed {message.name}"
            case Accepted(proposal=proposal):
                return f"accepted {self.block(proposal.digest)}"
            case Prepared(certificate=certificate):
                return f"prepared {self.block(certificate.digest)}"
            case Floor(height=height):
                return f"floor {height}"
            case LostMemory(height=height):
                return f"lost memory at {height}"

    def output(self, node, output):
        if output.writes:
            self.say(node, "write  " + ", ".join(self.record(r) for r in output.writes))
        for send in output.sends:
            to = "all" if send.to is None else f"m{self.cluster.by_id(send.to).index}"
            self.say(node, f"send   {self.message(send.message)} to {to}")
        for request in output.requests:
            self.say(node, f"ask    {type(request).__name__}")
        for commit in output.commits:
            certificate = commit.certificate
            signers = " ".join(f"m{vote.index}" for vote in certificate.votes)
            self.say(
                node,
                f"COMMIT {self.block(commit.proposal.digest)} "
                f"of h{commit.height} by {signers} in r{certificate.round}",
            )


def play(name, scene, n=4):
    """Run a scene to the end of height 1, and compare it with its golden text."""
    cluster = Cluster(n=n, seed=1, started=False)
    cluster.delay_ms = (10, 10)
    scribe = Scribe(cluster)
    for node in cluster.nodes:
        node.start()
    scene(cluster, scribe)
    text = "\n".join(scribe.lines) + "\n"
    path = TESTDATA / f"{name}.txt"
    if os.environ.get("UPDATE_SCENES"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def types_of(*types):
    """Return a filter under which messages of these classes are lost."""
    prefixes = tuple(kind.name.encode() for kind in types)

    def passes(sender, receiver, method, args):
        return method != "on_data" or not args[0][2:].startswith(prefixes)

    return passes


class Losing:
    """Loses what `passes` says."""

    def __init__(self, passes):
        self.passes = passes

    def __call__(self, *what):
        return self.passes(*what)

    def on_commit(self, node):
        pass


def finish(cluster):
    cluster.execute_ms = 10**6
    assert cluster.run(for_ms=20_000, until=lambda: all(node.disk.chain for node in cluster.honest))


def test_normal_case():
    play("normal_case", lambda cluster, scribe: finish(cluster))


def test_one_miner_alone():
    play("one_miner", lambda cluster, scribe: finish(cluster), n=1)


@pytest.mark.attack("A1")
def test_silent_proposer():
    """ATTACKS A1: the next round's proposer makes a fresh block."""

    def scene(cluster, scribe):
        cluster.filter = Losing(lambda sender, *_: sender.index != 1)
        cluster.run(for_ms=1_200)
        finish_without(cluster, 1)

    play("silent_proposer", scene)


def finish_without(cluster, index):
    cluster.execute_ms = 10**6
    others = [node for node in cluster.nodes if node.index != index]
    assert cluster.run(for_ms=20_000, until=lambda: all(node.disk.chain for node in others))


@pytest.mark.attack("B2", "B5")
def test_prepared_block_is_proposed_again():
    """All are prepared, every COMMIT is lost: the block survives the round change."""

    def scene(cluster, scribe):
        cluster.filter = Losing(types_of(Commit))
        cluster.run(for_ms=900)
        cluster.filter = None
        finish(cluster)

    play("prepared_block", scene)


def test_proposal_that_reached_too_few_is_given_up():
    def scene(cluster, scribe):
        cluster.filter = Losing(types_of(Prepare))
        cluster.run(for_ms=900)
        cluster.filter = None
        finish(cluster)

    play("unprepared_block", scene)


@pytest.mark.attack("B6")
def test_crashed_miner_keeps_its_prepare():
    def scene(cluster, scribe):
        cluster.filter = Losing(types_of(Prepare, Commit))
        cluster.run(for_ms=100)
        node = cluster.nodes[0]
        node.crash()
        scribe.say(node, "CRASH")
        cluster.filter = None
        cluster.run(for_ms=100)
        scribe.say(node, "RESTART")
        node.start()
        finish(cluster)

    play("crashed_miner", scene)


@pytest.mark.attack("A14")
@pytest.mark.parametrize("wiped", [0, 2])
def test_wiped_miner_stays_silent_for_two_heights(wiped):
    """ATTACKS A14; the other three go on, and it follows without a vote."""
    cluster = Cluster(n=4, seed=3)
    assert cluster.run_to(3)
    node = cluster.nodes[wiped]
    node.crash()
    node.wipe()
    node.start()
    height = node.height
    sent = []
    transmit = node.transmit

    def noted(send):
        sent.append(send.message.height)
        transmit(send)

    node.transmit = noted
    assert cluster.run_to(height + 5)
    assert min(sent) >= height + 2
