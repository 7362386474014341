"""What a traitor does with what its node says and hears: one class for each way of cheating.

Everything that a habit signs beside what its node has signed is equivocation, and can be proven
once two honest miners compare; everything else that it does is only bad manners, and has to be
lived with.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from chain.blocks import decode_block, encode_block
from chain.certificate import CERTIFICATE, VOTE_TAG, SignedVote, VoteCertificate, decode_certificate
from chain.transactions import decode_transaction
from chain.types import Address, Digest, Height, Round, Signature, TimestampMs
from consensus.codec import decode_message, encode_message
from consensus.messages import Commit, Message, Prepare, PrePrepare, RoundChange
from node.protocol import (
    BLOCKS,
    CONSENSUS,
    GET_BLOCKS,
    STATUS,
    TRANSACTIONS,
    Blocks,
    GetBlocks,
    Status,
    SyncBlock,
    Transactions,
    decode_body,
    encode_body,
)
from tests.simulation.traitor import Habit, Traitor
from tests.simulation.workload import Client

REPLAYED_MAX: Final = 200
"""Messages that a replaying traitor remembers."""
FAR: Final = 10**9
FLOOD: Final = 40
"""Messages that a babbling traitor adds to one of its own."""
BABBLE_S: Final = 0.5
LAST_MOMENT: Final = 0.9
"""The part of a round that passes before one that waits for the last moment speaks."""
CHECK_S: Final = 1.0


class SaysNothing(Habit):
    """Is mute in consensus, and helpful in everything else."""

    def say(self, peer: Address, kind: int, payload: bytes) -> None:
        if kind != CONSENSUS:
            super().say(peer, kind, payload)


class SaysNothingAtAll(Habit):
    """Stays connected, and says not a word."""

    def say(self, peer: Address, kind: int, payload: bytes) -> None:
        del peer, kind, payload


class IgnoresSome(Habit):
    """Talks to some only; whom, it chooses anew for every height."""

    def __init__(self, traitor: Traitor) -> None:
        super().__init__(traitor)
        self._height = 0
        self._ignored: set[Address] = set()

    def say(self, peer: Address, kind: int, payload: bytes) -> None:
        if self.traitor.height != self._height:
            self._height = self.traitor.height
            others = self.traitor.others()
            count = self.random.randint(1, max(1, len(others) - 1))
            self._ignored = set(self.random.sample(others, min(count, len(others))))
        if peer not in self._ignored:
            super().say(peer, kind, payload)


class VotesTwice(Habit):
    """Votes for its node's block, for another, or for both; each peer sees something else."""

    def say(self, peer: Address, kind: int, payload: bytes) -> None:
        message = decode_message(payload) if kind == CONSENSUS else None
        if not isinstance(message, Prepare | Commit):
            super().say(peer, kind, payload)
            return
        choice = self.random.randrange(4)
        if choice != 0:
            super().say(peer, kind, payload)
        if choice <= 1:
            self.traitor.say(peer, replace(message, digest=Digest(self.random.randbytes(32))))


class Replays(Habit):
    """Sends old messages again, its own and those of others, to anybody."""

    def __init__(self, traitor: Traitor) -> None:
        super().__init__(traitor)
        self._old: deque[bytes] = deque(maxlen=REPLAYED_MAX)

    def say(self, peer: Address, kind: int, payload: bytes) -> None:
        super().say(peer, kind, payload)
        if kind == CONSENSUS:
            self._old.append(payload)
            if self.random.randrange(3) == 0:
                for _ in range(self.random.randint(1, 5)):
                    self.traitor.send(peer, kind, self.random.choice(self._old))

    def hear(self, peer: Address, kind: int, payload: bytes) -> bytes | None:
        if kind == CONSENSUS:
            self._old.append(payload)
        return super().hear(peer, kind, payload)


class WaitsForTheLastMoment(Habit):
    """Says everything in consensus just before the timer of round 0 runs out."""

    def say(self, peer: Address, kind: int, payload: bytes) -> None:
        if kind == CONSENSUS and self.is_delayed(decode_message(payload)):
            self.traitor.send_later(self.delay_s(), peer, kind, payload)
        else:
            super().say(peer, kind, payload)

    def is_delayed(self, message: Message) -> bool:
        """Tell whether this is one of the messages that wait."""
        del message
        return True

    def delay_s(self) -> float:
        """Return how long they wait."""
        timeout_ms = self.traitor.world.settings.parameters.round_timeout_ms
        return LAST_MOMENT * timeout_ms / 1_000


class ProposesAtTheLastMoment(WaitsForTheLastMoment):
    """Proposes just before the timer runs out, and votes in time."""

    def is_delayed(self, message: Message) -> bool:
        return isinstance(message, PrePrepare)


class ForgesRoundChanges(Habit):
    """Reports falsely what it is prepared for, and claims rounds that it has not reached."""

    def say(self, peer: Address, kind: int, payload: bytes) -> None:
        message = decode_message(payload) if kind == CONSENSUS else None
        if isinstance(message, RoundChange):
            self._lie(peer, message)
            return
        super().say(peer, kind, payload)
        if message is not None and self.random.randrange(8) == 0:
            false = RoundChange(
                sender=message.sender,
                height=message.height,
                round=Round(message.round + self.random.choice((1, 2, 7, 1_000_000))),
                prepared_round=None,
                prepared_digest=None,
                certificate=None,
            )
            self._lie(peer, false)

    def _lie(self, peer: Address, message: RoundChange) -> None:
        certificate = message.certificate
        none = replace(message, prepared_round=None, prepared_digest=None, certificate=None)
        lies: list[RoundChange] = [none, *self._invented(message)]
        if certificate is not None:
            digest = Digest(self.random.randbytes(32))
            lies += (
                message,
                replace(message, certificate=None),
                replace(message, certificate=replace(certificate, votes=certificate.votes[:-1])),
                replace(
                    message,
                    prepared_digest=digest,
                    certificate=replace(certificate, digest=digest),
                ),
                replace(message, round=Round(message.round + self.random.randint(1, 50))),
            )
        self.traitor.say(peer, self.random.choice(lies))

    def _invented(self, message: RoundChange) -> Iterator[RoundChange]:
        """Yield a claim to be prepared for nobody's block, with votes that nobody gave."""
        digest = Digest(self.random.randbytes(32))
        genesis = self.traitor.world.genesis
        vote = Prepare(
            sender=message.sender, height=message.height, round=Round(0), digest=digest
        ).statement(genesis.hash)
        signature = self.traitor.identity.key.sign(VOTE_TAG, vote)
        yield replace(
            message,
            prepared_round=Round(0),
            prepared_digest=digest,
            certificate=VoteCertificate(
                height=message.height,
                round=Round(0),
                digest=digest,
                votes=tuple(
                    SignedVote(index=index, signature=signature)
                    for index in range(len(genesis.miners))
                ),
            ),
        )


class ClaimsOtherHeights(Habit):
    """Says to be far ahead or behind, as it likes, and takes back what it said."""

    def say(self, peer: Address, kind: int, payload: bytes) -> None:
        if kind == STATUS:
            height = self.traitor.node.chain.height
            claims = (0, max(0, height - 3), height + 1, height + 7, height + 10_000, FAR)
            status = Status(height=Height(self.random.choice(claims)))
            payload = encode_body(STATUS, status)
        super().say(peer, kind, payload)


class PoisonsSync(ClaimsOtherHeights):
    """Claims heights, and answers questions for blocks with nothing, late, in part or falsely."""

    def say(self, peer: Address, kind: int, payload: bytes) -> None:
        if kind != BLOCKS:
            super().say(peer, kind, payload)
            return
        match self.random.randrange(5):
            case 0:
                return
            case 1:
                self.traitor.send_later(self.random.uniform(1, 8), peer, kind, payload)
            case 2:
                answer = decode_body(BLOCKS, payload)
                assert isinstance(answer, Blocks), "the kind says so"
                self.traitor.send(peer, kind, encode_body(BLOCKS, replace(answer, blocks=())))
            case _:
                answer = decode_body(BLOCKS, payload)
                assert isinstance(answer, Blocks), "the kind says so"
                blocks = tuple(self._spoil(item) for item in answer.blocks)
                self.traitor.send(peer, kind, encode_body(BLOCKS, replace(answer, blocks=blocks)))

    def hear(self, peer: Address, kind: int, payload: bytes) -> bytes | None:
        if kind == GET_BLOCKS:
            question = decode_body(kind, payload)
            assert isinstance(question, GetBlocks), "the kind says so"
            if question.height > self.traitor.node.chain.height:
                self._invent(peer, question.height)
        return super().hear(peer, kind, payload)

    def _spoil(self, item: SyncBlock) -> SyncBlock:
        block, certificate = decode_block(item.block), decode_certificate(item.certificate)
        match self.random.randrange(4):
            case 0:
                votes = [
                    replace(vote, signature=_flipped(vote.signature)) for vote in certificate.votes
                ]
                certificate = replace(certificate, votes=tuple(votes))
            case 1:
                certificate = replace(certificate, votes=certificate.votes[:1])
            case 2:
                time_ms = TimestampMs(block.header.time_ms + 1)
                block = replace(block, header=replace(block.header, time_ms=time_ms))
            case _:
                block = replace(block, transactions=block.transactions[:-1])
        return SyncBlock(block=encode_block(block), certificate=CERTIFICATE.encode(certificate))

    def _invent(self, peer: Address, height: Height) -> None:
        """Answer for a height that nobody has reached with a changed copy of the last block."""
        last = self.traitor.node.chain.encoded(height - 1)
        if last is None:
            return
        block, certificate = decode_block(last[0]), decode_certificate(last[1])
        header = replace(
            block.header,
            height=height,
            parent_hash=block.header.hash,
            time_ms=TimestampMs(block.header.time_ms + 1),
        )
        forged = SyncBlock(
            block=encode_block(replace(block, header=header)),
            certificate=CERTIFICATE.encode(replace(certificate, height=height, digest=header.hash)),
        )
        self.traitor.send(
            peer, BLOCKS, encode_body(BLOCKS, Blocks(height=height, blocks=(forged,)))
        )


class Babbles(Habit):
    """Sends votes of far heights and rounds, copies, noise and transactions, again and again."""

    def __init__(self, traitor: Traitor) -> None:
        super().__init__(traitor)
        self._client = Client(traitor.world, self.random)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(BABBLE_S)
            for peer in self.traitor.others():
                for _ in range(FLOOD):
                    self._babble(peer)

    def say(self, peer: Address, kind: int, payload: bytes) -> None:
        for _ in range(self.random.choice((1, 1, 2, 5))):
            super().say(peer, kind, payload)

    def _babble(self, peer: Address) -> None:
        random, height = self.random, self.traitor.height
        match random.randrange(6):
            case 0 | 1 | 2:
                make = random.choice((Prepare, Commit))
                vote = make(
                    sender=self.traitor.identity.miner_id,
                    height=Height(max(0, height + random.choice((-1, 0, 1, 2, 3, 50, FAR)))),
                    round=Round(random.choice((0, 1, 2, 9, 1_000_000))),
                    digest=Digest(random.randbytes(32)),
                )
                self.traitor.say(peer, vote)
            case 3:
                kind = random.choice((CONSENSUS, STATUS, BLOCKS, TRANSACTIONS))
                self.traitor.send(peer, kind, random.randbytes(random.randint(0, 60)))
            case 4:
                question = GetBlocks(height=Height(random.randint(1, height)), count=64)
                self.traitor.send(peer, GET_BLOCKS, encode_body(GET_BLOCKS, question))
            case _:
                one, other = random.sample(self._client.devices, 2)
                wires = (
                    self._client.report(one, key=other.key).wire,
                    self._client.report(one, time_ms=0).wire,
                )
                body = encode_body(TRANSACTIONS, Transactions(wires=wires))
                self.traitor.send(peer, TRANSACTIONS, body)


class CensorsADevice(Habit):
    """Never takes a transaction of one device into its pool."""

    def __init__(self, traitor: Traitor) -> None:
        super().__init__(traitor)
        self.victim = Client(traitor.world, self.random).devices[-1].id

    def hear(self, peer: Address, kind: int, payload: bytes) -> bytes | None:
        if kind != TRANSACTIONS:
            return payload
        batch = decode_body(kind, payload)
        assert isinstance(batch, Transactions), "the kind says so"
        kept = tuple(
            wire for wire in batch.wires if decode_transaction(wire).payload.sender != self.victim
        )
        return encode_body(TRANSACTIONS, Transactions(wires=kept)) if kept else None


class CensorsEverybody(Habit):
    """Takes no transaction at all: it never proposes but the heartbeat."""

    def hear(self, peer: Address, kind: int, payload: bytes) -> bytes | None:
        return None if kind == TRANSACTIONS else payload


class BendsTime(Habit):
    """Proposes blocks at the edges of what the time rule allows, and a little beyond."""

    async def run(self) -> None:
        parameters = self.traitor.world.settings.parameters
        ahead_ms, ago_ms = parameters.clock_precision_ms, parameters.message_delay_ms
        while True:
            self.traitor.clock.skew_ms = self.random.choice(
                (ahead_ms - 5, ahead_ms + 5, -ahead_ms - ago_ms + 20, -ahead_ms - ago_ms - 5)
            )
            await asyncio.sleep(CHECK_S)


class LeavesOutJustifications(Habit):
    """Proposes in later rounds without a reason, with half of one, or with another block's."""

    def say(self, peer: Address, kind: int, payload: bytes) -> None:
        message = decode_message(payload) if kind == CONSENSUS else None
        if isinstance(message, PrePrepare) and message.justification is not None:
            justification = message.justification
            fewer = replace(justification, round_changes=justification.round_changes[1:])
            bare = replace(justification, certificate=None)
            lies = (message, *(replace(message, justification=j) for j in (None, fewer, bare)))
            payload = encode_message(self.random.choice(lies))
        super().say(peer, kind, payload)


def _flipped(signature: Signature) -> Signature:
    return Signature(bytes([signature[0] ^ 1]) + signature[1:])


HABITS: Final[dict[str, type[Habit]]] = {
    "says_nothing": SaysNothing,
    "says_nothing_at_all": SaysNothingAtAll,
    "ignores_some": IgnoresSome,
    "votes_twice": VotesTwice,
    "replays_old_messages": Replays,
    "waits_for_the_last_moment": WaitsForTheLastMoment,
    "proposes_at_the_last_moment": ProposesAtTheLastMoment,
    "forges_round_changes": ForgesRoundChanges,
    "claims_other_heights": ClaimsOtherHeights,
    "poisons_sync": PoisonsSync,
    "babbles": Babbles,
    "censors_a_device": CensorsADevice,
    "censors_everybody": CensorsEverybody,
    "bends_time": BendsTime,
    "leaves_out_justifications": LeavesOutJustifications,
}
"""Every habit, by name."""
