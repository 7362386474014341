"""A Byzantine miner: real keys, a real place in the network, and no node behind them.

It knows the chain as the ledger does, better than any real adversary. When it is its turn to
propose it plays a *trick*: a function that is given the hostile miner and does with the height what
it likes. Besides, it answers questions for the bodies of its blocks, so that honest miners get to
judge them.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from chain.blocks import Block, encode_block, transaction_root
from chain.certificate import CERTIFICATE, VOTE_TAG, SignedVote, VoteCertificate
from chain.eligibility import eligible_miners, proposer_of
from chain.errors import DecodeError, Rejection
from chain.payloads import Flow
from chain.state import miner_sets_of
from chain.transactions import Transaction
from chain.transition import BlockExecution
from chain.types import Address, Digest, Height, Round, Signature, TimestampMs
from consensus.codec import decode_message, encode_message
from consensus.messages import Commit, Message, Prepare, PrePrepare, Proposal, RoundChange
from node.protocol import (
    BLOCKS,
    BODIES,
    CONSENSUS,
    GET_BLOCKS,
    GET_BODIES,
    GET_PROPOSAL,
    PROPOSED,
    STATUS,
    Blocks,
    Bodies,
    GetBlocks,
    GetBodies,
    GetProposal,
    Status,
    SyncBlock,
    decode_body,
    encode_body,
)
from tests.simulation.workload import Client
from tests.simulation.world import FLOW_SCHEMA, World

POLL_S: Final = 0.02
FLOOD: Final = 500
HEARD_MAX: Final = 64

Trick = Callable[["Hostile"], None]


class Hostile:
    """Plays one miner.

    Parameters
    ----------
    name : str
        Named among the world's hostile miners.
    trick : callable
        Called once for each height at which it is this miner's turn in round 0.

    Attributes
    ----------
    turns : int
        How often it was.
    proposed : set of Digest
        The blocks it has proposed.
    bodies : dict of Digest to tuple of bytes
        What it answers when asked for the transactions of a block; by default, these.
    committed : tuple of SyncBlock or None
        What it answers when asked for committed blocks; None is no answer.
    heard : deque of Message
        The last messages of consensus that have reached it.
    """

    def __init__(self, world: World, name: str, trick: Trick) -> None:
        self.world = world
        self.identity = world.identities[name]
        self.client = Client(world, world.random(f"{name}/hostile"))
        self.random = world.random(f"{name}/tricks")
        self.turns = 0
        self.proposed: set[Digest] = set()
        self._trick = trick
        self._transport = world.transport(self.identity)
        self._blocks: dict[Digest, Block] = {}
        self.bodies: dict[Digest, tuple[bytes, ...]] = {}
        self.committed: tuple[SyncBlock, ...] | None = None
        self.heard: deque[Message] = deque(maxlen=HEARD_MAX)

    async def run(self) -> None:
        """Play until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._transport.run(self))
            group.create_task(self._watch())

    # What tricks use

    @property
    def height(self) -> Height:
        """The height that is to be agreed on."""
        return self.world.ledger.tip.next_height

    def others(self) -> list[Address]:
        """Return the node ids it has a session with."""
        return list(self._transport.connected())

    def honest_block(
        self, transactions: Sequence[Transaction] = (), *, time_ms: int | None = None
    ) -> Block:
        """Return a block that follows every rule, as far as its transactions do.

        Those that break one are left out of its execution, and nowhere else.
        """
        tip = self.world.ledger.tip
        time_ms = max(self.world.wall_ms() if time_ms is None else time_ms, tip.header.time_ms + 1)
        execution = BlockExecution(
            tip,
            proposer=self.identity.miner_id,
            proposal_round=Round(0),
            time_ms=TimestampMs(time_ms),
            verify=Transaction.is_signed_by,
        )
        for transaction in transactions:
            try:
                execution.apply(transaction)
            except Rejection:
                continue
        root = transaction_root([transaction.digest for transaction in transactions])
        header = replace(execution.finish().header, transaction_root=root)
        return Block(header=header, transactions=tuple(transactions))

    def propose(self, block: Block, to: Iterable[Address] | None = None) -> Proposal:
        """Send a PRE-PREPARE of round 0 to some, or to all."""
        digests = tuple(transaction.digest for transaction in block.transactions)
        proposal = Proposal(header=block.header, digests=digests)
        self._blocks[proposal.digest] = block
        self.bodies[proposal.digest] = tuple(found.wire for found in block.transactions)
        self.proposed.add(proposal.digest)
        self.world.trace.note(
            self.identity.name, "proposes", block.header.height, proposal.digest.hex()[:12]
        )
        message = PrePrepare(
            sender=self.identity.miner_id,
            height=block.header.height,
            round=Round(0),
            proposal=proposal,
            justification=None,
        )
        self.say(message, to)
        return proposal

    def vote(self, digest: Digest, to: Iterable[Address] | None = None) -> None:
        """Send PREPARE and COMMIT for a block of round 0 to some, or to all."""
        for make in (Prepare, Commit):
            self.say(
                make(
                    sender=self.identity.miner_id,
                    height=self.height,
                    round=Round(0),
                    digest=digest,
                ),
                to,
            )

    def say(self, message: Message, to: Iterable[Address] | None = None) -> None:
        """Sign a message of consensus and send it to some, or to all."""
        statement = message.statement(self.world.genesis.hash)
        signed = replace(message, signature=self.identity.key.sign(VOTE_TAG, statement))
        self.send(CONSENSUS, encode_message(signed), to)

    def send(self, kind: int, payload: bytes, to: Iterable[Address] | None = None) -> None:
        """Send anything to some, or to all."""
        for peer in self.others() if to is None else to:
            self._transport.send(peer, kind, payload)

    # node.ports.Receiver

    def on_connected(self, peer: Address) -> None:
        """Say how far the chain is, as honest nodes do."""
        status = Status(height=Height(self.world.ledger.height))
        self._transport.send(peer, STATUS, encode_body(STATUS, status))

    def on_disconnected(self, peer: Address) -> None:
        """Do nothing."""

    def on_message(self, peer: Address, kind: int, payload: bytes) -> None:
        """Answer for its blocks, and listen to the others' votes."""
        if kind == GET_BODIES:
            request = decode_body(kind, payload)
            assert isinstance(request, GetBodies), "the kind says so"
            wires = self.bodies.get(request.block)
            if wires is not None:
                answer = Bodies(block=request.block, wires=wires)
                self._transport.send(peer, BODIES, encode_body(BODIES, answer))
        elif kind == GET_BLOCKS:
            wanted = decode_body(kind, payload)
            assert isinstance(wanted, GetBlocks), "the kind says so"
            if self.committed is not None:
                forged = Blocks(height=wanted.height, blocks=self.committed)
                self._transport.send(peer, BLOCKS, encode_body(BLOCKS, forged))
        elif kind == GET_PROPOSAL:
            question = decode_body(kind, payload)
            assert isinstance(question, GetProposal), "the kind says so"
            block = self._blocks.get(question.block)
            if block is not None:
                digests = tuple(transaction.digest for transaction in block.transactions)
                proposal = Proposal(header=block.header, digests=digests)
                self._transport.send(peer, PROPOSED, encode_body(PROPOSED, proposal))
        elif kind == CONSENSUS:
            # Another hostile miner may send noise.
            with contextlib.suppress(DecodeError):
                self.heard.append(decode_message(payload))

    async def _watch(self) -> None:
        """Play the trick once at each height at which it is this miner's turn."""
        done = 0
        while True:
            await asyncio.sleep(POLL_S)
            if self.height > done and len(self.others()) > 0:
                done = self.height
                if self._is_my_turn():
                    self.turns += 1
                    self._trick(self)

    def _is_my_turn(self) -> bool:
        state = self.world.ledger.tip.state
        miners, _ = miner_sets_of(state)
        eligible = eligible_miners(state, miners, self.height)
        return proposer_of(eligible, self.height, Round(0)) == self.identity.miner_id


# Tricks: what a proposer may try


def say_nothing(hostile: Hostile) -> None:
    """Let the round pass."""
    del hostile


def _with_header(**changes: Any) -> Trick:
    def trick(hostile: Hostile) -> None:
        block = hostile.honest_block([_fresh_report(hostile)])
        hostile.propose(replace(block, header=replace(block.header, **changes)))

    return trick


wrong_state_root = _with_header(state_root=Digest(bytes(32)))
wrong_receipt_root = _with_header(receipt_root=Digest(bytes(32)))
wrong_transaction_root = _with_header(transaction_root=Digest(bytes(32)))
wrong_parent = _with_header(parent_hash=Digest(bytes(32)))
wrong_miner_set = _with_header(next_miner_set_hash=Digest(bytes(32)))
in_a_strangers_name = _with_header(proposer=Address(bytes(32)))
later_round = _with_header(proposal_round=Round(4))


def in_anothers_name(hostile: Hostile) -> None:
    """Name another miner as the proposer."""
    block = hostile.honest_block([_fresh_report(hostile)])
    victim = next(
        identity.miner_id
        for identity in hostile.world.identities.values()
        if identity.name != hostile.identity.name
    )
    hostile.propose(replace(block, header=replace(block.header, proposer=victim)))


def an_hour_ahead(hostile: Hostile) -> None:
    """Propose a block of the future."""
    hostile.propose(hostile.honest_block([], time_ms=hostile.world.wall_ms() + 3_600_000))


def before_its_parent(hostile: Hostile) -> None:
    """Propose a block that is older than the one before it."""
    block = hostile.honest_block([_fresh_report(hostile)])
    time_ms = TimestampMs(hostile.world.ledger.tip.header.time_ms - 1)
    hostile.propose(replace(block, header=replace(block.header, time_ms=time_ms)))


def empty(hostile: Hostile) -> None:
    """Propose nothing, where no heartbeat is due."""
    hostile.propose(hostile.honest_block())


def two_blocks(hostile: Hostile) -> None:
    """Show each half of the others another block, and vote for both."""
    others = hostile.others()
    cut = hostile.random.randrange(1, max(2, len(others)))
    for group in (others[:cut], others[cut:]):
        proposal = hostile.propose(hostile.honest_block([_fresh_report(hostile)]), group)
        hostile.vote(proposal.digest, group)


def two_blocks_to_all(hostile: Hostile) -> None:
    """Show everybody both blocks, and vote for both."""
    for _ in range(2):
        proposal = hostile.propose(hostile.honest_block([_fresh_report(hostile)]))
        hostile.vote(proposal.digest)


def to_one_alone(hostile: Hostile) -> None:
    """Show the block to a single miner."""
    some = hostile.others()[:1]
    proposal = hostile.propose(hostile.honest_block([_fresh_report(hostile)]), some)
    hostile.vote(proposal.digest)


def without_bodies(hostile: Hostile) -> None:
    """Propose transactions that nobody can get."""
    block = hostile.honest_block([_fresh_report(hostile)])
    proposal = hostile.propose(block)
    hostile.bodies[proposal.digest] = ()


def with_garbled_bodies(hostile: Hostile) -> None:
    """Answer for the bodies with bytes that are no transactions."""
    proposal = hostile.propose(hostile.honest_block([_fresh_report(hostile)]))
    hostile.bodies[proposal.digest] = (b"\xff", hostile.random.randbytes(50))


def boasts(hostile: Hostile) -> None:
    """Claim to be far ahead, and answer nothing."""
    status = Status(height=Height(hostile.height + 1_000))
    hostile.send(STATUS, encode_body(STATUS, status))


def lies_in_sync(hostile: Hostile) -> None:
    """Claim to be ahead, and answer with a block that nobody has decided."""
    block = hostile.honest_block([_fresh_report(hostile)])
    certificate = VoteCertificate(
        height=block.header.height,
        round=Round(0),
        digest=block.header.hash,
        votes=tuple(
            SignedVote(index=index, signature=Signature(bytes(64)))
            for index in range(len(hostile.world.genesis.miners))
        ),
    )
    forged = SyncBlock(block=encode_block(block), certificate=CERTIFICATE.encode(certificate))
    hostile.committed = (forged,)
    status = Status(height=Height(hostile.height + 5))
    hostile.send(STATUS, encode_body(STATUS, status))


def floods(hostile: Hostile) -> None:
    """Sign hundreds of votes, for this height and for many others."""
    for number in range(FLOOD):
        hostile.say(
            Prepare(
                sender=hostile.identity.miner_id,
                height=Height(hostile.height + number % 40),
                round=Round(number),
                digest=Digest(hostile.random.randbytes(32)),
            )
        )


def replays(hostile: Hostile) -> None:
    """Send what it has heard last again, to everybody."""
    for message in list(hostile.heard):
        hostile.send(CONSENSUS, encode_message(message))


def votes_in_anothers_name(hostile: Hostile) -> None:
    """Send votes that another miner did not sign."""
    proposal = hostile.propose(hostile.honest_block([_fresh_report(hostile)]))
    for identity in hostile.world.identities.values():
        hostile.say(
            Commit(
                sender=identity.miner_id,
                height=hostile.height,
                round=Round(0),
                digest=proposal.digest,
            )
        )


def unjustified_rounds(hostile: Hostile) -> None:
    """Announce rounds far ahead, and propose in one without a reason."""
    for round in (1, 7, 1_000_000):
        hostile.say(
            RoundChange(
                sender=hostile.identity.miner_id,
                height=hostile.height,
                round=Round(round),
                prepared_round=None,
                prepared_digest=None,
                certificate=None,
            )
        )
    block = hostile.honest_block([_fresh_report(hostile)])
    digests = tuple(transaction.digest for transaction in block.transactions)
    hostile.say(
        PrePrepare(
            sender=hostile.identity.miner_id,
            height=hostile.height,
            round=Round(4),
            proposal=Proposal(header=block.header, digests=digests),
            justification=None,
        )
    )


def noise(hostile: Hostile) -> None:
    """Send bytes that mean nothing, and real messages cut short."""
    hostile.send(CONSENSUS, hostile.random.randbytes(100))
    block = encode_block(hostile.honest_block())
    hostile.send(CONSENSUS, block[: hostile.random.randrange(len(block))])


def with_transactions(make: Callable[[Hostile], Sequence[Transaction]]) -> Trick:
    """Return the trick of a block which is sound but for the transactions of `make`."""

    def trick(hostile: Hostile) -> None:
        hostile.propose(hostile.honest_block(make(hostile)))

    return trick


def _fresh_report(hostile: Hostile) -> Transaction:
    return hostile.client.report(hostile.client.devices[-1])


def _flow_of(score_ppm: int) -> Flow:
    return Flow(schema=FLOW_SCHEMA, integers=(score_ppm,), categories=())


TRICKS: Final[dict[str, Trick]] = {
    trick.__name__: trick
    for trick in (
        say_nothing,
        in_anothers_name,
        an_hour_ahead,
        before_its_parent,
        empty,
        two_blocks,
        two_blocks_to_all,
        to_one_alone,
        without_bodies,
        with_garbled_bodies,
        boasts,
        lies_in_sync,
        floods,
        replays,
        votes_in_anothers_name,
        unjustified_rounds,
        noise,
    )
} | {
    "wrong_state_root": wrong_state_root,
    "wrong_receipt_root": wrong_receipt_root,
    "wrong_transaction_root": wrong_transaction_root,
    "wrong_parent": wrong_parent,
    "wrong_miner_set": wrong_miner_set,
    "in_a_strangers_name": in_a_strangers_name,
    "later_round": later_round,
}
"""Every trick that needs no particular transaction, by name."""
