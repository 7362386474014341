"""`evidence`: a miner has signed two things where it may sign one, and is demoted for it.

Every message of consensus signs ``[genesis hash, type, height, round, …]``, and an honest miner
never signs two that agree in these four and differ in the rest. So the proof needs no more than the
statements, the signatures and the miner's key. DESIGN rule 11; docs/spec/state.md, section
"Evidence", is normative.
"""

from dataclasses import dataclass, replace
from typing import Final

from chain import codec
from chain.blocks import Event
from chain.certificate import STATEMENT_TYPES, VOTE_TAG
from chain.crypto import tagged_hash, verify
from chain.eligibility import keeps_quorum
from chain.errors import DecodeError, Rejection
from chain.fields import ADDRESS, DIGEST, HEIGHT, ROUND
from chain.kinds.base import BlockContext, Kind, Lane, Signer, require
from chain.parameters import EVIDENCE_WINDOW
from chain.records.miners import EVIDENCE_TABLE, MINER_TABLE, EvidenceRecord, MinerRecord
from chain.schema import Blob, Record, Word
from chain.state import decided_set
from chain.transactions import Transaction
from chain.types import (
    SIGNATURE_SIZE,
    Address,
    Digest,
    Height,
    Round,
    Signature,
)

EVIDENCE_TAG: Final = b"securenet/evidence/v1"
STATEMENT_SIZE_MAX: Final = 128
"""No message of consensus signs more; the longest is a ROUND-CHANGE with about a hundred bytes."""
STATEMENT_ITEMS_MAX: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivocation:
    """Two statements of one miner that contradict each other.

    Parameters
    ----------
    miner : Address
        The accused.
    first, second : bytes
        The statements as they were signed under `chain.certificate.VOTE_TAG`, in ascending order.
    """

    miner: Address
    first: bytes
    first_signature: Signature
    second: bytes
    second_signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What two statements have to agree in to contradict each other."""

    genesis_hash: Digest
    type: str
    height: Height
    round: Round


_HEAD: Final = Record(
    Head,
    genesis_hash=DIGEST,
    type=Word(*STATEMENT_TYPES),
    height=HEIGHT,
    round=ROUND,
)


def read_head(statement: bytes) -> Head:
    """Return what a statement is about; what it says of it does not matter.

    Raises
    ------
    DecodeError
        These are not the canonical bytes of a statement.
    """
    items = codec.decode(
        statement, what="statement", size_max=STATEMENT_SIZE_MAX, items_max=STATEMENT_ITEMS_MAX
    )
    return _HEAD.read(items[: len(_HEAD.fields)], "statement")


def evidence_digest(body: Equivocation) -> Digest:
    """Return the digest that names a contradiction, whoever reports it."""
    return tagged_hash(EVIDENCE_TAG, codec.encode((body.first, body.second)))


def _apply(body: Equivocation, transaction: Transaction, block: BlockContext) -> tuple[Event, ...]:
    """Convict the accused. What costs most, the signatures, is asked last."""
    reporter = transaction.payload.sender
    require(reporter in block.miners, "not_permitted", "the sender is no miner of this height")
    head = _contradiction(body, block)
    require(head.height <= block.height, "too_early", f"height {head.height} has not begun")
    require(
        head.height >= block.height - EVIDENCE_WINDOW,
        "too_late",
        f"evidence of height {head.height} is not taken any more",
    )
    accused = _accused(body, head, block)
    for statement, signature in (
        (body.first, body.first_signature),
        (body.second, body.second_signature),
    ):
        require(
            verify(accused.key_at(head.height), VOTE_TAG, statement, signature),
            "not_proven",
            "a statement is not signed by the accused",
        )
    record = EvidenceRecord(
        type=head.type,
        height=head.height,
        round=head.round,
        digest=evidence_digest(body),
        transaction=transaction.id,
        reporter=reporter,
        accepted_height=block.height,
        pardoned_height=None,
    )
    block.state.put(EVIDENCE_TABLE, record, body.miner)
    if accused.status == "removed":
        # It has nothing left to lose, but whoever votes on adding it again shall know.
        return ()
    block.state.put(MINER_TABLE, replace(accused, status="demoted"), body.miner)
    values = (body.miner.hex(), head.type, str(head.height), str(head.round))
    return (Event(name="miner_demoted", values=values),)


def _contradiction(body: Equivocation, block: BlockContext) -> Head:
    """Return what both statements are about; raise `Rejection` where they prove nothing."""
    require(body.first < body.second, "malformed", "the statements are equal or out of order")
    try:
        head, other = read_head(body.first), read_head(body.second)
    except DecodeError as error:
        raise Rejection("malformed", str(error)) from error
    require(head == other, "malformed", "the statements are about different things")
    require(
        head.genesis_hash == block.genesis_hash,
        "wrong_chain",
        "the statements are signed for another chain",
    )
    return head


def _accused(body: Equivocation, head: Head, block: BlockContext) -> MinerRecord:
    """Return the record of the accused, if it can be convicted of this.

    Notes
    -----
    A miner keeps its id when its keys are replaced, and its record has those it had before: what it
    signed with one while that was its key counts, what anybody signs with it later does not.
    """
    accused = block.state.get(MINER_TABLE, body.miner)
    if accused is None:
        raise Rejection("not_found", f"{body.miner.hex()} was never a miner")
    known = block.state.get(EVIDENCE_TABLE, body.miner)
    if known is not None:
        pardoned = known.pardoned_height
        if pardoned is None:
            raise Rejection("already_convicted", "the miner was convicted and not restored since")
        require(
            head.height > pardoned, "pardoned", f"a vote has pardoned what is not above {pardoned}"
        )
    members = [member.id for member in decided_set(block.state)]
    require(
        accused.status == "removed" or keeps_quorum(block.state, members, without=body.miner),
        "limit_reached",
        "fewer than a quorum would stay active, and nobody could restore anybody",
    )
    return accused


KIND: Final = Kind(
    name="evidence",
    signer=Signer.MINER,
    lane=Lane.GOVERNANCE,
    body=Record(
        Equivocation,
        miner=ADDRESS,
        first=Blob(1, STATEMENT_SIZE_MAX),
        first_signature=Blob(SIGNATURE_SIZE),
        second=Blob(1, STATEMENT_SIZE_MAX),
        second_signature=Blob(SIGNATURE_SIZE),
    ),
    apply=_apply,
)
