"""Miners of which some run twice with one key, on a network that is cut anew for each round.

After Bano et al., *Twins: BFT Systems Made Robust* (2020): two honest copies of one miner do much
of what a Byzantine miner could, and neither knows of the other. Time passes in steps. In each step
every timer runs out; then messages are delivered, ROUND-CHANGE and PRE-PREPARE first, PREPARE
next, COMMIT last, until nothing is left to say. What a `Move` cuts off is lost for good.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any

from chain.certificate import VoteType
from chain.crypto import address_of
from chain.errors import InvalidCertificate
from chain.types import Height
from consensus import durable, verifier
from consensus.errors import InvalidMessage, SafetyViolation
from consensus.events import (
    BlockBuilt,
    BlockFetched,
    HeightConfig,
    MemoryShown,
    PeerConnected,
    ProposalChecked,
    Received,
    StartHeight,
    Tick,
    WorkPending,
)
from consensus.messages import Phase
from consensus.output import AnswerOldHeight, BuildBlock, CatchUp, CheckProposal, FetchBlock
from consensus.replica import Replica
from consensus.timers import NS_PER_MS, Timing
from tests.interaction.cluster import (
    GENESIS,
    WALL_START_MS,
    genesis_header,
    make_proposal,
    miner_set,
)

STEP_MS = 20_000
"""Longer than any timer."""

TIMING = Timing(
    round_timeout_ms=1_000,
    round_timeout_increment_ms=500,
    round_timeout_max_ms=4_000,
    resend_ms=700,
    precision_ms=500,
    message_delay_ms=10**9,
    message_delay_max_ms=10**9,
)
"""A block is timely steps after it was made, so that nothing honest is ever refused."""

STAGE = {Phase.ROUND_CHANGE: 0, Phase.PRE_PREPARE: 0, Phase.PREPARE: 1, Phase.COMMIT: 2}
STAGES = 3


class Violation(AssertionError):
    """A law of the protocol is broken."""


@dataclass(frozen=True, slots=True)
class Move:
    """What one round is like: who may propose, and from which stage on who hears whom.

    Parameters
    ----------
    proposer : int
        The member; both of its copies propose, each its own block.
    stage : int
        0: from ROUND-CHANGE and PRE-PREPARE on, 1: from PREPARE on, 2: COMMIT only. Before it
        everybody hears everybody.
    hears : tuple of int
        For each node the nodes that it hears, as bits.
    """

    proposer: int
    stage: int
    hears: tuple[int, ...]


class Node:
    """One running copy of a miner, with the driver around its replica."""

    def __init__(self, world: "World", index: int, member: int) -> None:
        self.world = world
        self.index = index
        self.member = member
        self.id = world.ids[member]
        self.chain: list[Any] = []
        self.replica: Any = Replica(
            signer=None if world.is_remote else world.keys[member],
            miner_id=self.id,
            durable=durable.recover([durable.Floor(height=0)]),  # type: ignore[arg-type]  # plain
        )

    @property
    def parent(self) -> Any:
        return self.chain[-1][0].header if self.chain else self.world.genesis

    @property
    def height(self) -> int:
        return len(self.chain) + 1

    def adopt(self, proposal: Any, certificate: Any) -> None:
        """Take a committed block, own or sent, and begin the next height."""
        if proposal.header.height != self.height:
            return
        self.chain.append((proposal, certificate))
        self.world.step(self, StartHeight(config=self.world.config(self.parent)))


class World:
    """Members ``0 … n - 1``, the first `twins` of them twice; node ``n + i`` is the copy of ``i``.

    Parameters
    ----------
    proposers : sequence of int
        The member that proposes in each round of height 1; each next height begins one further.
        It becomes the list E of `chain.eligibility.proposer_of`, which may name a member often:
        so the order of proposers is free, though the rule that reads it is the real one.
    """

    is_remote = False
    """Whether each member has its key in another process, which both of its copies ask."""

    def __init__(self, keys: Any, twins: int, proposers: Any) -> None:
        self.keys = keys
        self.ids = [address_of(key.public) for key in keys]
        self.miners = miner_set(keys)
        self.genesis = genesis_header(self.miners)
        self.twins = frozenset(self.ids[:twins])
        # proposer_of takes E[(h + r) mod |E|], and heights begin with 1.
        self.eligible = tuple(self.ids[member] for member in (proposers[-1], *proposers[:-1]))
        self.now = 0
        self.links: Any = None
        self.blocks: dict[Any, Any] = {}
        self.prepared: dict[tuple[int, int], Any] = {}
        self.committed: dict[int, tuple[Any, int]] = {}
        self.evidence: set[Any] = set()
        self.highest_round = 0
        self.calm_rounds = 0
        self.events: deque[Any] = deque()
        self.bags: tuple[deque[Any], ...] = tuple(deque() for _ in range(STAGES))
        members = [*range(len(keys)), *range(twins)]
        self.nodes = [Node(self, index, member) for index, member in enumerate(members)]
        self.everyone = ((1 << len(self.nodes)) - 1,) * len(self.nodes)
        for node in self.nodes:
            self.step(node, StartHeight(config=self.config(self.genesis)))
            # No copy ever starts from an older copy of its log.
            for miner in self.ids:
                if miner != node.id:
                    self.step(node, MemoryShown(miner=miner, height=Height(1)))

    @property
    def honest(self) -> list[Node]:
        return [node for node in self.nodes if node.id not in self.twins]

    def config(self, parent: Any) -> HeightConfig:
        return HeightConfig(
            height=parent.height + 1,
            genesis_hash=GENESIS,
            miners=self.miners,
            next_miners=self.miners,
            eligible=self.eligible,
            parent=parent,
            timing=TIMING,
        )

    # --- time ---

    def round(self, move: Move) -> None:
        """Let every timer run out, and then what is said be heard as `move` tells."""
        self.links = [self.everyone] * move.stage + [move.hears] * (STAGES - move.stage)
        self.now += STEP_MS * NS_PER_MS
        for node in self.nodes:
            self.step(node, Tick())
            self.step(node, WorkPending())
        self.settle()

    def heal(self, rounds: int) -> int:
        """Restore the links of the honest miners, whose twins are mute now, and then all links.

        Returns after how many rounds the honest miners, alone, are one block further.

        Raises
        ------
        Violation
            They are not after so many `rounds`.
        """
        target = max(len(node.chain) for node in self.nodes) + 1
        mask = sum(1 << node.index for node in self.honest)
        self.connect(mask)
        needed = 0
        while any(len(node.chain) < target for node in self.honest):
            if needed == rounds:
                raise Violation(f"no block within {rounds} rounds after the links were restored")
            self.round(Move(0, 0, (mask,) * len(self.nodes)))
            needed += 1
        self.connect(self.everyone[0])
        self.round(Move(0, 0, self.everyone))
        return needed

    def connect(self, mask: int) -> None:
        """Let the nodes in `mask` meet: they show each other what they missed."""
        self.links = [(mask,) * len(self.nodes)] * STAGES
        for node in self.nodes:
            for miner in self.ids:
                if miner != node.id:
                    self.step(node, PeerConnected(miner=miner))
        self.settle()

    def settle(self) -> None:
        while True:
            if self.events:
                self.step(*self.events.popleft())
                continue
            bag = next((bag for bag in self.bags if bag), None)
            if bag is None:
                return
            receiver, message = bag.popleft()
            wall_ms = WALL_START_MS + self.now // NS_PER_MS
            self.step(receiver, Received(message=message, wall_ms=wall_ms))  # type: ignore[arg-type]

    # --- the driver ---

    def step(self, node: Node, event: Any) -> None:
        try:
            output = node.replica.step(event, self.now)
        except InvalidMessage as refused:
            self.refuse(refused)
            return
        except SafetyViolation as stop:
            raise Violation(str(stop)) from stop
        for late in output.rejected:
            self.refuse(late)
        for record in output.writes:
            if isinstance(record, durable.Prepared):
                self.on_prepared(record.certificate)
        for proof in output.evidence:
            if proof.miner not in self.twins:
                raise Violation("evidence against an honest miner")
            self.evidence.add((proof.miner, proof.type))
        for send in output.sends:
            self.transmit(node, send)
        for request in output.requests:
            self.obey(node, request)
        for commit in output.commits:
            self.on_commit(commit)
            node.adopt(commit.proposal, commit.certificate)

    def refuse(self, error: InvalidMessage) -> None:
        if error.sender not in self.twins:
            raise Violation(f"an honest message was refused: {error}")

    def transmit(self, node: Node, send: Any) -> None:
        message = send.message
        stage = STAGE[message.phase]
        self.highest_round = max(self.highest_round, message.round)
        links = self.everyone if self.links is None else self.links[stage]
        for other in self.nodes:
            if (
                other.id != node.id
                and send.to in (None, other.id)
                and links[other.index] >> node.index & 1
            ):
                self.bags[stage].append((other, message))

    def obey(self, node: Node, request: Any) -> None:
        event: Any
        match request:
            case BuildBlock():
                proposal = make_proposal(
                    self.config(request.parent),
                    proposer=node.id,
                    round=request.round,
                    time_ms=max(WALL_START_MS + self.now // NS_PER_MS, request.parent.time_ms + 1),
                    content=b"%d" % node.index,
                )
                self.blocks[proposal.digest] = proposal
                event = BlockBuilt(height=request.height, round=request.round, proposal=proposal)
            case CheckProposal():
                digest = request.proposal.digest
                event = ProposalChecked(height=request.height, digest=digest, valid=True)
            case FetchBlock():
                proposal = self.blocks[request.digest]
                event = BlockFetched(height=request.height, proposal=proposal)
            case AnswerOldHeight():
                for other in self.nodes:
                    if other.id == request.miner and self.hears(other, node):
                        self.send_chain(node, other)
                return
            case CatchUp():
                for other in self.nodes:
                    if other.id == request.miner and self.hears(node, other):
                        self.send_chain(other, node)
                return
            case _:
                return
        self.events.append((node, event))

    def hears(self, receiver: Node, sender: Node) -> bool:
        return bool(self.links[0][receiver.index] >> sender.index & 1)

    def send_chain(self, sender: Node, receiver: Node) -> None:
        for proposal, certificate in sender.chain[len(receiver.chain) :]:
            receiver.adopt(proposal, certificate)

    # --- the laws ---

    def on_prepared(self, certificate: Any) -> None:
        """One block is prepared in a round, and none but a committed one in any round after."""
        place = (certificate.height, certificate.round)
        if self.prepared.setdefault(place, certificate.digest) != certificate.digest:
            raise Violation(f"two blocks prepared at height and round {place}")
        self.check_height(certificate.height)

    def on_commit(self, commit: Any) -> None:
        """One block is committed at a height, and its certificate proves it to anybody."""
        try:
            commit.certificate.verify(
                type=VoteType.COMMIT,
                genesis_hash=GENESIS,
                miners=self.miners,
                is_signed=verifier.Verifier(),
            )
        except InvalidCertificate as error:
            raise Violation(f"a certificate that proves nothing: {error}") from error
        height, digest, round = commit.height, commit.proposal.digest, commit.certificate.round
        known, lowest = self.committed.get(height, (digest, round))
        if known != digest:
            raise Violation(f"two blocks committed at height {height}")
        self.committed[height] = (digest, min(round, lowest))
        self.check_height(height)

    def check_height(self, height: int) -> None:
        if height in self.committed:
            committed, lowest = self.committed[height]
            for (at, round), digest in self.prepared.items():
                if at == height and round >= lowest and digest != committed:
                    raise Violation(f"another block prepared at height {height} after a commit")
