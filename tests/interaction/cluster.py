"""A cluster of replicas on a simulated network, disk and clock: one seed is one world.

The driver here is the smallest that obeys `consensus.output` to the letter: blocks are made up, a
check takes a while and always tells the truth, and what is not on the disk is gone after a crash.
"""

import heapq
import random
from dataclasses import dataclass, field, replace
from typing import Any

from chain.blocks import Header, transaction_root
from chain.certificate import VOTE_TAG, VoteCertificate, VoteType
from chain.crypto import address_of, signing_key, tagged_hash
from chain.miners import Miner, MinerSet
from chain.types import ZERO_DIGEST, Height, Round, TimestampMs
from consensus.codec import decode_message, encode_message
from consensus.durable import Floor, decode_record, encode_record, recover
from consensus.errors import InvalidMessage, SafetyViolation
from consensus.events import (
    BlockBuilt,
    BlockFetched,
    HeightConfig,
    HeightSeen,
    MemoryShown,
    MessageSigned,
    PeerConnected,
    ProposalChecked,
    Received,
    SignerSeen,
    SigningRefused,
    StartHeight,
    Tick,
    WorkPending,
)
from consensus.key_memory import encode_key_record
from consensus.messages import (
    Commit,
    Justification,
    Prepare,
    PrePrepare,
    Proposal,
    RoundChange,
)
from consensus.output import (
    AnswerOldHeight,
    BuildBlock,
    CatchUp,
    CheckProposal,
    FetchBlock,
    GossipPending,
    SignMessage,
    TellFloor,
)
from consensus.replica import Replica
from consensus.timers import NS_PER_MS, Timing
from node.signer.keeper import KeyKeeper
from node.signer.wire import Answer, SetFloor, SignVote

GENESIS = tagged_hash(b"test/genesis")
EMPTY = tagged_hash(b"test/empty")
INVALID = tagged_hash(b"test/invalid-state")
"""The state root of blocks that no honest miner finds valid."""
WALL_START_MS = 1_700_000_000_000
TIMING = Timing(
    round_timeout_ms=1_000,
    round_timeout_increment_ms=500,
    round_timeout_max_ms=4_000,
    resend_ms=700,
    precision_ms=500,
    message_delay_ms=1_000,
    message_delay_max_ms=4_000,
)


def miner_keys(n):
    """Return n keys in the order of their miners' ids."""
    keys = [signing_key("ed25519", bytes([index + 1]) * 32) for index in range(n)]
    return sorted(keys, key=lambda key: address_of(key.public))


def miner_set(keys):
    return MinerSet(tuple(Miner(id=address_of(key.public), key=key.public) for key in keys))


def genesis_header(miners):
    return Header(
        version=1,
        genesis_hash=GENESIS,
        height=Height(0),
        time_ms=TimestampMs(WALL_START_MS - 1_000),
        parent_hash=ZERO_DIGEST,
        transaction_root=EMPTY,
        receipt_root=EMPTY,
        state_root=EMPTY,
        miner_set_hash=miners.hash,
        next_miner_set_hash=miners.hash,
        proposer=miners.members[0].id,
        proposal_round=Round(0),
    )


def make_proposal(config, *, proposer, round=0, time_ms=None, content=b"", state_root=EMPTY):
    """Return a block on the config's parent that keeps every rule consensus knows."""
    digests = (tagged_hash(b"test/transaction", content),)
    header = Header(
        version=1,
        genesis_hash=config.genesis_hash,
        height=config.height,
        time_ms=config.parent.time_ms + 1 if time_ms is None else time_ms,
        parent_hash=config.parent.hash,
        transaction_root=transaction_root(digests),
        receipt_root=EMPTY,
        state_root=state_root,
        miner_set_hash=config.miners.hash,
        next_miner_set_hash=config.miners.hash,
        proposer=proposer,
        proposal_round=round,
    )
    return Proposal(header=header, digests=digests)


def make_config(miners, parent=None, timing=TIMING, next_miners=None):
    parent = genesis_header(miners) if parent is None else parent
    return HeightConfig(
        height=parent.height + 1,
        genesis_hash=GENESIS,
        miners=miners,
        next_miners=miners if next_miners is None else next_miners,
        eligible=tuple(miner.id for miner in miners),
        parent=parent,
        timing=timing,
    )


def sign(key, message, genesis_hash=GENESIS):
    """Return `message` with its sender's signature."""
    return replace(message, signature=key.sign(VOTE_TAG, message.statement(genesis_hash)))


@dataclass
class Disk:
    """What survives a crash."""

    log: list[bytes] = field(default_factory=list)
    blocks: dict[bytes, Proposal] = field(default_factory=dict)
    chain: list[tuple[Proposal, VoteCertificate]] = field(default_factory=list)


class Node:
    """A miner: replica, disk, and the driver between them."""

    def __init__(self, cluster, index, disk):
        self.cluster = cluster
        self.index = index
        self.disk = disk
        self.key = cluster.keys[index]
        self.id = address_of(self.key.public)
        self.skew_ms = 0
        self.alive = False
        self.life = 0
        self.rejected = []
        self.evidence = []
        self.said: set[Any] = set()
        self.replica: Any = None
        self.crash_in = None
        self.blocks_made = 0

    # --- life ---

    def start(self):
        self.alive = True
        self.life += 1
        self.deadline = None
        durable = recover(decode_record(data) for data in self.disk.log)
        self.replica = self.make_replica(durable)
        self.start_height()
        # No miner here ever starts from an older copy of its log.
        for miner in self.cluster.miners:
            if miner.id != self.id:
                self.feed(MemoryShown(miner=miner.id, height=Height(1)))
        for other in self.cluster.nodes:
            if other is not self and other.alive and self.cluster.linked(self.index, other.index):
                self.cluster.connect(self, other)

    def make_replica(self, durable):
        return Replica(signer=self.key, miner_id=self.id, durable=durable)

    def crash(self):
        self.alive = False
        self.life += 1
        self.replica = None

    def wipe(self):
        self.disk.log = []

    @property
    def parent(self):
        return self.disk.chain[-1][0].header if self.disk.chain else self.cluster.genesis

    @property
    def height(self):
        return self.parent.height + 1

    def start_height(self):
        self.feed(StartHeight(config=self.cluster.config(self.parent)))
        if not self.alive:
            return
        for other in self.cluster.nodes:
            if other is not self:
                self.cluster.post(self, other, "on_status", self.id, self.height)
        if self.cluster.busy:
            self.feed(WorkPending())

    def later(self, delay_ms, action, *args):
        life = self.life

        def run():
            if self.alive and self.life == life:
                action(*args)

        self.cluster.at(self.cluster.now + int(delay_ms * NS_PER_MS), run)

    # --- the driver ---

    def wall_ms(self):
        return WALL_START_MS + self.cluster.now // NS_PER_MS + self.skew_ms

    def feed(self, event):
        if not self.alive:
            return
        try:
            output = self.replica.step(event, self.cluster.now)
        except InvalidMessage as error:
            self.rejected.append(error)
            return
        self.obey(output)

    def obey(self, output):
        if self.cluster.scribe is not None:
            self.cluster.scribe.output(self, output)
        self.rejected += output.rejected
        self.evidence += output.evidence
        if output.writes and self.crashes():
            return
        self.disk.log += [encode_record(record) for record in output.writes]
        if output.writes and self.crashes():
            return
        for send in output.sends:
            assert encode_message(send.message) == send.data
            self.said.add(send.message)
            self.transmit(send)
        for request in output.requests:
            self.on_request(request)
        for commit in output.commits:
            assert commit.proposal.digest in self.disk.blocks, "committed what is not stored"
            self.append(commit.proposal, commit.certificate)
        if output.commits:
            self.later(self.cluster.execute_ms, self.start_height_once, self.height)
        self.arm(output.deadline_ns)

    def crashes(self):
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in <= 0:
                self.crash_in = None
                self.crash()
                self.cluster.on_crash(self)
                return True
        return False

    def start_height_once(self, height):
        if self.height == height:
            self.disk.log = [encode_record(record) for record in self.replica.durable.records()]
            self.start_height()

    def append(self, proposal, certificate):
        members = self.cluster.members(proposal.header.height)
        certificate.verify(type=VoteType.COMMIT, genesis_hash=GENESIS, miners=members)
        assert certificate.digest == proposal.digest
        assert proposal.header.parent_hash == self.parent.hash
        self.disk.chain.append((proposal, certificate))
        self.cluster.on_commit(self, proposal)

    def arm(self, deadline):
        self.deadline = deadline
        if deadline is not None:
            wait = max(0, deadline - self.cluster.now) / NS_PER_MS
            self.later(wait, self.on_timer, deadline)

    def on_timer(self, deadline):
        if self.deadline == deadline and self.cluster.now >= deadline:
            self.deadline = None
            self.feed(Tick())

    def transmit(self, send):
        for other in self.cluster.nodes:
            if other.id != self.id and send.to in (None, other.id):
                self.cluster.post(self, other, "on_data", send.data)

    def on_data(self, data):
        self.feed(Received(message=decode_message(data), wall_ms=self.wall_ms()))

    def on_status(self, miner, height):
        self.feed(HeightSeen(miner=miner, height=height))
        if self.alive and height > self.height:
            self.later(300, self.catch_up, miner)

    def on_block(self, proposal, certificate):
        if proposal.header.height == self.height:
            self.append(proposal, certificate)
            self.start_height()

    def on_ask(self, miner, height):
        if height < self.height:
            other = self.cluster.by_id(miner)
            self.cluster.post(self, other, "on_block", *self.disk.chain[height - 1])

    def catch_up(self, miner):
        other = self.cluster.by_id(miner)
        if other.height > self.height:
            self.cluster.post(self, other, "on_ask", self.id, self.height)
            self.later(500, self.catch_up, miner)

    def on_request(self, request):
        cluster = self.cluster
        match request:
            case BuildBlock():
                self.later(cluster.rng.uniform(1, 20), self.build, request)
            case CheckProposal():
                self.later(cluster.rng.uniform(1, cluster.check_ms_max), self.check, request)
            case FetchBlock():
                self.later(cluster.rng.uniform(1, 50), self.fetch, request)
            case GossipPending():
                pass
            case AnswerOldHeight():
                self.on_ask(request.miner, request.height)
            case CatchUp():
                self.catch_up(request.miner)

    def build(self, request):
        if request.height != self.height:
            return
        self.blocks_made += 1
        proposal = make_proposal(
            self.cluster.config(self.parent),
            proposer=self.id,
            round=request.round,
            time_ms=max(self.wall_ms(), self.parent.time_ms + 1),
            content=b"%d %d %d" % (self.index, self.life, self.blocks_made),
        )
        self.disk.blocks[proposal.digest] = proposal
        self.feed(BlockBuilt(height=request.height, round=request.round, proposal=proposal))

    def check(self, request):
        if request.height != self.height:
            return
        proposal = request.proposal
        valid = proposal.header.state_root != INVALID
        if valid:
            self.disk.blocks[proposal.digest] = proposal
        self.feed(ProposalChecked(height=request.height, digest=proposal.digest, valid=valid))

    def fetch(self, request):
        if request.height != self.height:
            return
        for holder in request.holders:
            other = self.cluster.by_id(holder)
            if other.alive and self.cluster.linked(self.index, other.index):
                proposal = other.serve(request.digest)
                if proposal is not None:
                    self.feed(BlockFetched(height=request.height, proposal=proposal))
                    return
        self.later(400, self.fetch, request)

    def serve(self, digest):
        return self.disk.blocks.get(digest)


class Liar(Node):
    """A Byzantine miner: runs the protocol, and on top of it whatever its habits say."""

    HABITS = ("mute", "equivocate", "double-vote", "stale", "forge", "amnesia", "withhold", "split")

    def __init__(self, cluster, index, disk, habits):
        super().__init__(cluster, index, disk)
        self.habits = habits
        self.old = []
        self.proposals = {}

    def feed(self, event):
        try:
            super().feed(event)
        except (AssertionError, SafetyViolation):
            # Its own lies may confuse it; the others must not care.
            self.later(100, self.restart)

    def restart(self):
        self.crash()
        self.cluster.at(self.cluster.now + 50 * NS_PER_MS, self.start)

    def serve(self, digest):
        return None if "withhold" in self.habits else super().serve(digest)

    def others(self):
        return [node for node in self.cluster.nodes if node.id != self.id]

    def say(self, message, targets):
        data = encode_message(sign(self.key, message))
        for other in targets:
            self.cluster.post(self, other, "on_data", data)

    def some(self):
        return [other for other in self.others() if self.cluster.rng.random() < 0.5]

    def transmit(self, send):
        rng, message = self.cluster.rng, send.message
        self.old = [*self.old[-30:], send.data]
        if "mute" in self.habits and rng.random() < 0.7:
            return
        if "split" in self.habits and rng.random() < 0.5:
            targets = self.some()
            for other in targets:
                self.cluster.post(self, other, "on_data", send.data)
            return
        if "equivocate" in self.habits and isinstance(message, PrePrepare):
            header = message.proposal.header
            if header.proposal_round == message.round:
                root = INVALID if rng.random() < 0.2 else EMPTY
                other = make_proposal(
                    make_config(self.cluster.miners, self.parent),
                    proposer=self.id,
                    round=message.round,
                    time_ms=header.time_ms,
                    content=b"other %d" % rng.randrange(3),
                    state_root=root,
                )
                self.disk.blocks[other.digest] = other
                half = self.some()
                self.say(replace(message, proposal=other), half)
                self.proposals[other.digest] = other
                for node in self.others():
                    if node not in half:
                        self.cluster.post(self, node, "on_data", send.data)
                return
        if "amnesia" in self.habits and isinstance(message, RoundChange):
            message = replace(message, prepared_round=None, prepared_digest=None, certificate=None)
            self.say(message, self.others())
            return
        super().transmit(send)

    def on_data(self, data):
        message = decode_message(data)
        rng = self.cluster.rng
        if isinstance(message, PrePrepare):
            self.proposals[message.digest] = message.proposal
        if message.height == self.height and "double-vote" in self.habits:
            round = max(0, message.round + rng.choice((-1, 0, 0, 0, 1)))
            digest = getattr(message, "digest", None)
            if digest is None or rng.random() < 0.2:
                digest = rng.choice(sorted(self.proposals)) if self.proposals else EMPTY
            for make in (Prepare, Commit):
                if rng.random() < 0.5:
                    vote = make(sender=self.id, height=message.height, round=round, digest=digest)
                    self.say(vote, self.some())
        if "stale" in self.habits and self.old and rng.random() < 0.3:
            for other in self.some():
                self.cluster.post(self, other, "on_data", rng.choice(self.old))
        if "forge" in self.habits and rng.random() < 0.2:
            self.forge(message)
        super().on_data(data)

    def forge(self, message):
        """Propose without a right to: old or invented round changes, no or another certificate."""
        rng = self.cluster.rng
        config = make_config(self.cluster.miners, self.parent)
        if message.height != config.height:
            return
        round = message.round + rng.randrange(1, 5)
        while config.eligible[(config.height + round) % len(config.eligible)] != self.id:
            round += 1
        proposal = make_proposal(
            config, proposer=self.id, round=round, time_ms=self.wall_ms(), content=b"forged"
        )
        self.disk.blocks[proposal.digest] = proposal
        own = sign(
            self.key,
            RoundChange(
                sender=self.id,
                height=config.height,
                round=round,
                prepared_round=None,
                prepared_digest=None,
                certificate=None,
            ),
        )
        members = [miner.id for miner in config.miners]
        q = config.miners.quorum
        forged = rng.choice(
            (
                (own,),
                (own,) * q,
                tuple(replace(own, sender=member) for member in members[:q]),
            )
        )
        self.say(
            PrePrepare(
                sender=self.id,
                height=config.height,
                round=round,
                proposal=proposal,
                justification=Justification(round_changes=forged, certificate=None),
            ),
            self.others(),
        )
        self.say(own, self.some())
        for make in (Prepare, Commit):
            vote = make(sender=self.id, height=config.height, round=round, digest=proposal.digest)
            self.later(rng.uniform(1, 100), self.say, vote, self.others())


class Journal:
    """A log that keeps everything."""

    def __init__(self):
        self.kept = []

    def records(self):
        return list(self.kept)

    def append(self, records):
        self.kept += records

    def rewrite(self, records):
        self.kept = list(records)

    def close(self):
        pass


class RemoteNode(Node):
    """A miner whose key is in another process, which is slow, gets lost, and starts again."""

    def __init__(self, cluster, index, disk):
        super().__init__(cluster, index, disk)
        self.journal = Journal()
        self.journal.append([encode_key_record(Floor(height=Height(0)))])
        self.keeper: Any = None
        self.session = 0
        self.free_at = 0

    def make_replica(self, durable):
        return Replica(signer=None, miner_id=self.id, durable=durable)

    def start(self):
        self.keeper = None
        super().start()
        self.session += 1
        self.later(self.cluster.rng.uniform(1, 100), self.reach, self.session)

    def wipe(self):
        """Lose the log here, or that of the signer, or both."""
        if self.cluster.rng.random() < 0.7:
            self.journal.kept = []
        if self.journal.kept or self.cluster.rng.random() < 0.5:
            super().wipe()

    def reach(self, session):
        """Meet the signer's process, a new one that has read its journal."""
        if session == self.session:
            self.keeper = KeyKeeper(genesis_hash=GENESIS, keys=[self.key], journal=self.journal)
            hello = self.keeper.hello()
            self.feed(SignerSeen(keys=hello.keys, remembers=hello.remembers))

    def lose(self, for_ms):
        """Lose the signer for a while; what is under way gets lost with it."""
        self.session += 1
        self.keeper = None
        self.feed(SignerSeen(keys=()))
        self.later(for_ms, self.reach, self.session)

    def on_request(self, request):
        if not isinstance(request, SignMessage | TellFloor):
            super().on_request(request)
            return
        rng = self.cluster.rng
        self.free_at = max(self.free_at, self.cluster.now) + int(rng.uniform(0, 30) * NS_PER_MS)
        delay_ms = (self.free_at - self.cluster.now) / NS_PER_MS
        self.later(delay_ms, self.ask, request, self.session)

    def ask(self, request, session):
        if session != self.session or self.keeper is None:
            return
        if isinstance(request, TellFloor):
            self.keeper.answer(SetFloor(height=request.height))
            return
        answer = self.keeper.answer(
            SignVote(number=1, key=request.key, statement=request.statement)
        )
        if self.cluster.rng.random() < self.cluster.signer_loss:
            self.lose(self.cluster.rng.uniform(1, 2_000))
        elif isinstance(answer, Answer):
            signed = replace(request.message, signature=answer.signature)
            self.feed(MessageSigned(message=signed))
        else:
            self.feed(SigningRefused(message=request.message))


class Cluster:
    """Miners, the links between them, and simulated time."""

    def __init__(self, n=4, seed=0, liars=None, timing=TIMING, started=True, remote=()):
        self.rng = random.Random(seed)
        self.timing = timing
        self.keys = miner_keys(n)
        self.miners = miner_set(self.keys)
        self.genesis = genesis_header(self.miners)
        self.now = 1_000 * NS_PER_MS
        self.queue = []
        self.sequence = 0
        self.busy = True
        self.drop = 0.0
        self.signer_loss = 0.0
        self.duplicate = 0.0
        self.delay_ms = (1, 10)
        self.check_ms_max = 30
        self.execute_ms = 1
        self.rounds = 0
        self.cut = set()
        self.decided = {}
        self.commits = []
        self.filter: Any = None
        self.restart_crashed = True
        self.scribe: Any = None
        self.nodes = []
        for index in range(n):
            disk = Disk(log=[encode_record(Floor(height=Height(0)))])
            habits = (liars or {}).get(index)
            make = RemoteNode if index in remote else Node
            node = make(self, index, disk) if habits is None else Liar(self, index, disk, habits)
            self.nodes.append(node)
        if started:
            for node in self.nodes:
                node.start()

    @property
    def honest(self):
        return [node for node in self.nodes if not isinstance(node, Liar)]

    def members(self, height):
        """Return the miner set of `height`; scenes about membership have another at each."""
        return self.miners

    def config(self, parent):
        """Return what agreement on the block after `parent` depends on."""
        return make_config(self.members(parent.height + 1), parent, self.timing)

    def by_id(self, miner_id):
        return next(node for node in self.nodes if node.id == miner_id)

    def at(self, when, action):
        self.sequence += 1
        heapq.heappush(self.queue, (when, self.sequence, action))

    def linked(self, a, b):
        return (a, b) not in self.cut and (b, a) not in self.cut

    def connect(self, a, b):
        for one, two in ((a, b), (b, a)):
            two.later(5, two.feed, PeerConnected(miner=one.id))
            self.post(one, two, "on_status", one.id, one.height)

    def partition(self, *groups):
        side = {index: number for number, group in enumerate(groups) for index in group}
        self.cut = {(a, b) for a in side for b in side if side[a] != side[b]}

    def heal(self):
        cut, self.cut = self.cut, set()
        for a, b in sorted(cut):
            if a < b and self.nodes[a].alive and self.nodes[b].alive:
                self.connect(self.nodes[a], self.nodes[b])

    def post(self, sender, receiver, method, *args):
        """Send one thing; the network loses, doubles, delays and so reorders."""
        if not self.linked(sender.index, receiver.index):
            return
        if self.filter is not None and not self.filter(sender, receiver, method, args):
            return
        copies = 0 if self.rng.random() < self.drop else 1
        copies += self.rng.random() < self.duplicate
        for _ in range(copies):
            delay = int(self.rng.uniform(*self.delay_ms) * NS_PER_MS)
            self.at(self.now + delay, lambda: self._deliver(sender, receiver, method, args))

    def _deliver(self, sender, receiver, method, args):
        if receiver.alive and self.linked(sender.index, receiver.index):
            getattr(receiver, method)(*args)

    def on_crash(self, node):
        if self.restart_crashed:
            self.at(self.now + int(self.rng.uniform(10, 3_000) * NS_PER_MS), node.start)

    def on_commit(self, node, proposal):
        """Check agreement and validity: the laws that hold whatever happens."""
        if self.filter is not None:
            self.at(self.now, lambda: self.filter and self.filter.on_commit(node))
        if isinstance(node, Liar):
            return
        height = proposal.header.height
        assert self.decided.setdefault(height, proposal.digest) == proposal.digest, (
            f"two blocks at height {height}"
        )
        assert proposal.header.state_root != INVALID, "an invalid block was committed"
        self.commits.append((node.index, height, proposal.digest))

    def run(self, *, for_ms=None, until=None):
        """Let time pass; True once `until` holds."""
        end = None if for_ms is None else self.now + int(for_ms * NS_PER_MS)
        while self.queue:
            if until is not None and until():
                return True
            when, _, action = self.queue[0]
            if end is not None and when > end:
                break
            heapq.heappop(self.queue)
            self.now = max(self.now, when)
            action()
        if end is not None:
            self.now = max(self.now, end)
        return until is not None and until()

    def run_to(self, height, *, for_ms=60_000, nodes=None):
        """Run until every honest miner has committed `height`."""
        nodes = self.honest if nodes is None else nodes
        return self.run(for_ms=for_ms, until=lambda: all(node.height > height for node in nodes))
