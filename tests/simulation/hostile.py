"""A Byzantine miner: real keys, a real place in the network, and no node behind them.

It knows the chain as the ledger does, better than any real adversary. When it is its turn to
propose it plays a *trick*: a function that is given the hostile miner and does with the height what
it likes. Besides, it answers questions for the bodies of its blocks, so that honest miners get to
judge them. The tricks stand in `tests.simulation.tricks`; a Byzantine miner that has a node, and
bends what it says, is a `tests.simulation.traitor.Traitor`.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from chain.blocks import Block, transaction_root
from chain.eligibility import eligible_miners, proposer_of
from chain.errors import DecodeError, Rejection
from chain.state import miner_sets_of
from chain.transactions import Transaction
from chain.transition import BlockExecution
from chain.types import Address, Digest, Height, Round, TimestampMs
from consensus.codec import decode_message, encode_message
from consensus.messages import Commit, Justification, Message, Prepare, PrePrepare, Proposal
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
from tests.simulation.world import World

POLL_S: Final = 0.02
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
    lies : dict of int to callable
        ``lie(body)`` returns what it answers to a question of a kind, or None for nothing.
    status : Status or None
        What it says of itself, if not how far the chain is.
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
        self.lies: dict[int, Callable[[Any], tuple[int, bytes] | None]] = {}
        self.status: Status | None = None
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

    def eligible(self) -> Sequence[Address]:
        """Return who may propose at this height, in order."""
        state = self.world.ledger.tip.state
        miners, _ = miner_sets_of(state)
        return eligible_miners(state, miners, self.height)

    def others(self) -> list[Address]:
        """Return the node ids it has a session with."""
        return list(self._transport.connected())

    def honest_block(
        self,
        transactions: Sequence[Transaction] = (),
        *,
        time_ms: int | None = None,
        round: int = 0,
    ) -> Block:
        """Return a block that follows every rule, as far as its transactions do.

        Those that break one are left out of its execution, and nowhere else.
        """
        tip = self.world.ledger.tip
        time_ms = max(self.world.wall_ms() if time_ms is None else time_ms, tip.header.time_ms + 1)
        execution = BlockExecution(
            tip,
            proposer=self.identity.miner_id,
            proposal_round=Round(round),
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

    def propose(
        self,
        block: Block,
        to: Iterable[Address] | None = None,
        *,
        round: int = 0,
        justification: Justification | None = None,
    ) -> Proposal:
        """Send a PRE-PREPARE to some, or to all."""
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
            round=Round(round),
            proposal=proposal,
            justification=justification,
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
        signed = self.identity.sign(message, self.world.genesis.hash)
        self.send(CONSENSUS, encode_message(signed), to)

    def send(self, kind: int, payload: bytes, to: Iterable[Address] | None = None) -> None:
        """Send anything to some, or to all."""
        for peer in self.others() if to is None else to:
            self._transport.send(peer, kind, payload)

    # node.ports.Receiver

    def on_connected(self, peer: Address) -> None:
        """Say how far the chain is, as honest nodes do."""
        status = self.status or Status(height=Height(self.world.ledger.height))
        self._transport.send(peer, STATUS, encode_body(STATUS, status))

    def on_disconnected(self, peer: Address) -> None:
        """Do nothing."""

    def on_message(self, peer: Address, kind: int, payload: bytes) -> None:
        """Answer for its blocks, and listen to the others' votes."""
        # Another hostile miner may send noise.
        with contextlib.suppress(DecodeError):
            self._hear(peer, kind, payload)

    def _hear(self, peer: Address, kind: int, payload: bytes) -> None:
        if kind in self.lies:
            answer = self.lies[kind](decode_body(kind, payload))
            if answer is not None:
                self._transport.send(peer, *answer)
        elif kind == GET_BODIES:
            request = decode_body(kind, payload)
            assert isinstance(request, GetBodies), "the kind says so"
            wires = self.bodies.get(request.block)
            if wires is not None:
                bodies = Bodies(block=request.block, wires=wires)
                self._transport.send(peer, BODIES, encode_body(BODIES, bodies))
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
        return proposer_of(self.eligible(), self.height, Round(0)) == self.identity.miner_id
