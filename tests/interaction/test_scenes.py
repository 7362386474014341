"""What exactly happens, message by message; the golden text stands in testdata/.

``REWRITE=1 pytest tests/interaction`` writes it anew: read the difference before committing.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from consensus.codec import encode_message
from consensus.durable import Accepted, Floor, LostMemory, Prepared, Signed
from consensus.messages import Commit, Prepare, PrePrepare, RoundChange
from consensus.output import AnswerOldHeight, CatchUp, FetchBlock
from consensus.timers import NS_PER_MS
from tests.interaction.cluster import Cluster, make_proposal, miner_set, sign

TESTDATA = Path(__file__).parent / "testdata"


class Scribe:
    """Writes down what every replica asks of its driver."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.only = None
        self.lines: list[str] = []
        self.letters = {}
        self.start = cluster.now
        cluster.scribe = self

    def block(self, digest):
        letter = self.letters.setdefault(digest, chr(ord("A") + len(self.letters)))
        return f"block {letter}"

    def say(self, node, text):
        if self.only not in (None, node.index):
            return
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

    def request(self, request):
        name = type(request).__name__
        match request:
            case FetchBlock(digest=digest, certificate=certificate):
                return f"{name} {self.block(digest)}" + (", committed" if certificate else "")
            case AnswerOldHeight(miner=miner, height=height) | CatchUp(miner=miner, height=height):
                return f"{name} h{height} m{self.cluster.by_id(miner).index}"
        return name

    def output(self, node, output):
        if output.writes:
            self.say(node, "write  " + ", ".join(self.record(r) for r in output.writes))
        for send in output.sends:
            to = "all" if send.to is None else f"m{self.cluster.by_id(send.to).index}"
            self.say(node, f"send   {self.message(send.message)} to {to}")
        for request in output.requests:
            self.say(node, f"ask    {self.request(request)}")
        for proof in output.evidence:
            liar = self.cluster.by_id(proof.miner).index
            self.say(
                node, f"proof  against m{liar}, two {proof.type}s of h{proof.height} r{proof.round}"
            )
        for commit in output.commits:
            certificate = commit.certificate
            signers = " ".join(f"m{vote.index}" for vote in certificate.votes)
            self.say(
                node,
                f"COMMIT {self.block(commit.proposal.digest)} "
                f"of h{commit.height} by {signers} in r{certificate.round}",
            )


def play(name, scene, n=4, make=Cluster):
    """Run a scene to its end, and compare it with its golden text."""
    cluster = make(n=n, seed=1, started=False)
    cluster.delay_ms = (10, 10)
    scribe = Scribe(cluster)
    for node in cluster.nodes:
        node.start()
    scene(cluster, scribe)
    text = "\n".join(scribe.lines) + "\n"
    path = TESTDATA / f"{name}.txt"
    if os.environ.get("REWRITE"):
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


def test_split_proposer():
    """ATTACKS B1: m1 shows A to m0 and m2, B to m3, and commits nothing.

    docs/spec/round_change.md, "One lies".
    """

    def scene(cluster, scribe):
        liar = cluster.nodes[1]
        plain = liar.transmit
        other = {}

        def transmit(send):
            message = send.message
            if message.round > 0:
                plain(send)
                return
            if isinstance(message, Commit):
                return
            if isinstance(message, PrePrepare):
                config = cluster.config(liar.parent)
                other["block"] = make_proposal(config, proposer=liar.id, content=b"B")
                lie = replace(message, proposal=other["block"])
            else:
                lie = replace(message, digest=other["block"].digest)
            for node in (cluster.nodes[0], cluster.nodes[2]):
                cluster.post(liar, node, "on_data", send.data)
            lie = sign(liar.key, lie)
            scribe.say(liar, f"lie    {scribe.message(lie)} to m3")
            cluster.post(liar, cluster.nodes[3], "on_data", encode_message(lie))

        liar.transmit = transmit
        finish_without(cluster, 1)
        assert len({node.disk.chain[0][0].digest for node in cluster.nodes}) == 1

    play("split_proposer", scene)


def test_split_proposer_is_convicted_where_both_proposals_meet():
    """DESIGN rule 11: m3 passes on what m1 told it alone."""

    def scene(cluster, scribe):
        liar, witness = cluster.nodes[1], cluster.nodes[0]
        cluster.filter = Losing(types_of(Prepare))
        cluster.run(for_ms=100)
        other = make_proposal(cluster.config(liar.parent), proposer=liar.id, content=b"B")
        first = next(m for m in liar.said if isinstance(m, PrePrepare))
        lie = sign(liar.key, replace(first, proposal=other))
        scribe.say(liar, f"lie    {scribe.message(lie)} to m0")
        witness.on_data(encode_message(lie))
        assert [proof.miner for proof in witness.evidence] == [liar.id]

    play("split_proposer_convicted", scene)


def test_late_commits_complete_a_past_round():
    """DESIGN rule 2: a quorum of COMMITs of any one round, even a past one."""

    def scene(cluster, scribe):
        late = []

        def keep(sender, receiver, method, args):
            if method == "on_data" and args[0][2:].startswith(b"commit"):
                if receiver.index == 0:
                    late.append(args[0])
                return False
            return (
                method != "on_data"
                or not args[0][2:].startswith(b"pre-prepare")
                or (cluster.now - scribe.start < 900 * NS_PER_MS)
            )

        cluster.filter = Losing(keep)
        cluster.run(for_ms=1_100)
        node = cluster.nodes[0]
        assert node.replica.snapshot().round == 1
        scribe.say(node, "the COMMITs of r0 arrive")
        cluster.execute_ms = 10**6
        for data in late:
            node.on_data(data)
        assert node.disk.chain

    play("late_commits", scene)


def test_miner_jumps_with_a_weak_quorum():
    """DESIGN rule 8: m3 heard nothing for three rounds; f + 1 in a later round take it along."""

    def scene(cluster, scribe):
        proposals = types_of(PrePrepare)
        cluster.filter = Losing(
            lambda sender, receiver, method, args: (
                receiver.index != 3 and proposals(sender, receiver, method, args)
            )
        )
        cluster.nodes[3].crash()
        cluster.run(until=lambda: cluster.nodes[0].replica.snapshot().round == 3)
        scribe.only = 3
        cluster.filter = None
        cluster.nodes[3].start()
        finish(cluster)

    play("jump", scene)


def test_message_of_an_old_height_is_answered_with_block_and_certificate():
    """DESIGN rule 8; nothing but its own ROUND-CHANGE says that m3 is behind."""

    def scene(cluster, scribe):
        lonely = cluster.nodes[3]
        cluster.filter = Losing(lambda sender, receiver, *_: lonely not in (sender, receiver))
        cluster.run(until=lambda: all(node.disk.chain for node in cluster.nodes[:3]))
        cluster.busy = False
        cluster.run(for_ms=100)
        cluster.filter = Losing(lambda sender, receiver, method, args: method != "on_status")
        take = lonely.on_block

        def on_block(proposal, certificate):
            scribe.say(lonely, f"given  {scribe.block(proposal.digest)} and its certificate")
            take(proposal, certificate)

        lonely.on_block = on_block
        assert cluster.run(for_ms=5_000, until=lambda: bool(lonely.disk.chain))

    play("old_height", scene)


def test_miner_without_memory_says_nothing_until_it_may():
    """DESIGN rule 6: m0 is wiped at height 2; only its lines are shown."""

    def scene(cluster, scribe):
        scribe.only = 0
        node = cluster.nodes[0]
        cluster.run(until=lambda: len(node.disk.chain) == 1)
        node.crash()
        node.wipe()
        scribe.say(node, "WIPED")
        node.start()
        cluster.run(until=lambda: bool(node.disk.log) and b"signed" in node.disk.log[-1])
        cluster.run(for_ms=100)

    play("lost_memory", scene)


class Joining(Cluster):
    """m4 joins with height 3: decided in height 1, effective two heights later."""

    def members(self, height):
        return miner_set(self.keys[: 4 if height < 3 else 5])


def test_miner_joins_two_heights_after_the_decision():
    """DESIGN rule 12: m4 follows, and signs from height 3 on; then four votes are a quorum."""

    def scene(cluster, scribe):
        scribe.only = 4
        joiner = cluster.nodes[4]
        cluster.run(until=lambda: len(joiner.disk.chain) == 3)
        assert [len(certificate.votes) for _, certificate in joiner.disk.chain] == [3, 3, 4]
        assert min(message.height for message in joiner.said) == 3

    play("joining", scene, n=5, make=Joining)


class Skipping(Cluster):
    """m2 is demoted, or passed over, from height 2 on."""

    def config(self, parent):
        config = super().config(parent)
        if config.height < 2:
            return config
        others = tuple(id for id in config.eligible if id != self.nodes[2].id)
        return replace(config, eligible=others)


def test_demoted_proposer_is_skipped():
    """DESIGN rules 10 and 11: height 2 would be m2's; m3 proposes, in round 0, and m2 votes."""

    def scene(cluster, scribe):
        cluster.run(until=lambda: all(len(node.disk.chain) == 2 for node in cluster.nodes))
        headers = [proposal.header for proposal, _ in cluster.nodes[0].disk.chain]
        assert [header.proposer for header in headers] == [cluster.nodes[i].id for i in (1, 3)]
        assert [header.proposal_round for header in headers] == [0, 0]

    play("demoted_proposer", scene, make=Skipping)


def test_committed_block_that_is_not_held_is_fetched():
    """DESIGN rule 8: m3 never got the PRE-PREPARE, but a quorum of COMMITs."""

    def scene(cluster, scribe):
        proposals = types_of(PrePrepare)
        cluster.filter = Losing(
            lambda sender, receiver, *what: (
                receiver.index != 3 or proposals(sender, receiver, *what)
            )
        )
        finish(cluster)

    play("fetched", scene)
