"""Tricks: what a proposer without a node may try when it is its turn.

Each is a function that is given the hostile miner and does with the height what it likes.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from chain.blocks import encode_block
from chain.certificate import CERTIFICATE, VOTE_TAG, SignedVote, VoteCertificate
from chain.kinds.evidence import Equivocation
from chain.state import miner_sets_of
from chain.transactions import Transaction
from chain.types import Address, Digest, Height, Round, Signature, TimestampMs
from consensus.codec import encode_message
from consensus.messages import Commit, Justification, Prepare, RoundChange
from node.protocol import (
    CONSENSUS,
    STATUS,
    TRANSACTIONS,
    Status,
    SyncBlock,
    Transactions,
    encode_body,
)
from tests.simulation.hostile import Hostile, Trick

FLOOD: Final = 500


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
    # Round |E| is this miner's again.
    again = len(hostile.eligible())
    hostile.propose(hostile.honest_block([_fresh_report(hostile)], round=again), round=again)


def forged_justification(hostile: Hostile) -> None:
    """Propose in a later round with ROUND-CHANGEs that their senders did not sign."""
    round = Round(len(hostile.eligible()))
    miners, _ = miner_sets_of(hostile.world.ledger.tip.state)
    unsigned = tuple(
        RoundChange(
            sender=miner.id,
            height=hostile.height,
            round=round,
            prepared_round=None,
            prepared_digest=None,
            certificate=None,
        )
        for miner in miners
    )
    hostile.propose(
        hostile.honest_block([_fresh_report(hostile)], round=round),
        round=round,
        justification=Justification(round_changes=unsigned, certificate=None),
    )


def frames_another(hostile: Hostile) -> None:
    """Propose a block with evidence against an honest miner, whose signatures are missing."""
    hostile.propose(hostile.honest_block([_forged_evidence(hostile)]))


def spreads_forged_evidence(hostile: Hostile) -> None:
    """Send the same evidence to all as a transaction, for others to propose."""
    wires = (_forged_evidence(hostile).wire,)
    hostile.send(TRANSACTIONS, encode_body(TRANSACTIONS, Transactions(wires=wires)))


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


def _forged_evidence(hostile: Hostile) -> Transaction:
    world = hostile.world
    victim = next(
        identity.miner_id
        for name, identity in world.identities.items()
        if name[0] == "m" and name not in world.settings.hostile
    )
    first, second = sorted(
        Commit(
            sender=victim,
            height=Height(world.ledger.height),
            round=Round(0),
            digest=Digest(hostile.random.randbytes(32)),
        ).statement(world.genesis.hash)
        for _ in range(2)
    )
    body = Equivocation(
        miner=victim,
        first=first,
        first_signature=hostile.identity.key.sign(VOTE_TAG, first),
        second=second,
        second_signature=hostile.identity.key.sign(VOTE_TAG, second),
    )
    return hostile.client.make(
        "evidence", body, sender=hostile.identity.miner_id, key=hostile.identity.key
    )


def _fresh_report(hostile: Hostile) -> Transaction:
    return hostile.client.report(hostile.client.devices[-1])


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
        forged_justification,
        frames_another,
        spreads_forged_evidence,
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
