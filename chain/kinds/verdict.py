"""`verdict`: what a miner's detector says of the flows of one block.

Scores are data: rounded once, signed, carried in the chain, and never computed again by a state
transition. docs/spec/state.md, section "Verdicts and quarantine", is normative.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from chain.blocks import BLOCK_TRANSACTIONS_MAX, Event
from chain.detectors import count_outcome, count_verdict
from chain.eligibility import counted
from chain.errors import Rejection
from chain.fields import DIGEST
from chain.kinds.base import BlockContext, Kind, Lane, Signer, require
from chain.measures import Judged, tally_flows
from chain.parameters import VERDICT_WINDOW
from chain.records.models import MODEL_TABLE
from chain.records.verdicts import JUDGEMENT_TABLE, JudgementRecord, VerdictVote
from chain.schema import Blob, Integer, Record
from chain.state import active_model_at
from chain.table import height_key
from chain.transactions import Transaction
from chain.types import HEIGHT_MAX, Address, Digest, Height

OPINION_SIZE: Final = 3
SCORE_MAX: Final = 1_000_000
REASON_BITS: Final = 4
FLAGGED_EVENTS_MAX: Final = 64
"""Devices that one verdict names as flagged; the event `block_judged` counts all of them. An
observed device can be flagged in every block, so this is what bounds receipts."""
_REASON_MASK: Final = (1 << REASON_BITS) - 1


class Reason(IntEnum):
    """Why a flow is called anomalous; the label that goes with a score."""

    NORMAL = 0
    """It is not: the score is below the model's threshold."""
    MODEL = 1
    """The model's score reaches the threshold."""
    UNREADABLE = 2
    """It has the model's schema and values that an honest device does not send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What a detector says of one flow.

    Parameters
    ----------
    score_ppm : int
        In parts per million; higher is more suspicious.
    """

    score_ppm: int
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The opinions on the judged flows of one block.

    Parameters
    ----------
    height : Height
        The block judged.
    model : Digest
        The model that was active at that height.
    judged : Digest
        What was judged; `chain.lookback.judged_digest` of the transactions with these flows.
    opinions : bytes
        For each flow in block order 3 bytes, big-endian: the score in the upper 20 bits, the reason
        in the lower 4.
    """

    height: Height
    model: Digest
    judged: Digest
    opinions: bytes


def opinion_of(score_ppm: int | None, threshold_ppm: int) -> Opinion:
    """Return what follows from a score under a model's threshold; None is unreadable."""
    score = SCORE_MAX if score_ppm is None else score_ppm
    if score < threshold_ppm:
        return Opinion(score_ppm=score, reason=Reason.NORMAL)
    return Opinion(score_ppm=score, reason=Reason.UNREADABLE if score_ppm is None else Reason.MODEL)


def pack_opinions(opinions: Sequence[Opinion]) -> bytes:
    """Return the bytes of opinions."""
    return b"".join(
        [
            (opinion.score_ppm << REASON_BITS | opinion.reason).to_bytes(OPINION_SIZE, "big")
            for opinion in opinions
        ]
    )


def unpack_scores(data: bytes) -> list[int]:
    """Return the scores of `pack_opinions`, in parts per million."""
    return [value >> REASON_BITS for value in _values(data)]


def unpack_reasons(data: bytes) -> list[int]:
    """Return the reasons of `pack_opinions`, known or not."""
    return [value & _REASON_MASK for value in _values(data)]


def _values(data: bytes) -> list[int]:
    return [
        int.from_bytes(data[start : start + OPINION_SIZE], "big")
        for start in range(0, len(data), OPINION_SIZE)
    ]


def _apply(body: Verdict, transaction: Transaction, block: BlockContext) -> tuple[Event, ...]:
    miner = transaction.payload.sender
    require(miner in block.miners, "not_permitted", "the sender is no miner of this height")
    require(body.height < block.height, "too_early", f"block {body.height} is not committed")
    require(
        body.height >= block.height - VERDICT_WINDOW,
        "too_late",
        f"verdicts on block {body.height} are not taken any more",
    )
    key = height_key(body.height)
    judgement = block.state.get(JUDGEMENT_TABLE, key) or JudgementRecord(
        miners=(), votes=(), outcome=None
    )
    require(miner not in judgement.miners, "duplicate_verdict", "the miner has judged this block")
    flows = block.recent.flows(body.height)
    require(bool(flows), "nothing_to_judge", f"block {body.height} holds no flow to judge")
    model = active_model_at(block.state, body.height)
    require(body.model == model, "wrong_model", "another model was active at that height")
    require(
        body.judged == block.recent.judged(body.height),
        "wrong_input",
        f"block {body.height} holds other flows than those judged",
    )
    said = _said(body, len(flows), block)
    is_late = judgement.outcome is not None
    count_verdict(miner, said, flows=len(flows), is_late=is_late, state=block.state)
    # Members only, so that the lists stay bounded however often the set changes.
    judges = tuple(judge for judge in judgement.miners if judge in block.miners)
    judgement = replace(judgement, miners=(*judges, miner))
    events: tuple[Event, ...] = ()
    if judgement.outcome is not None:
        count_outcome(miner, said, int.from_bytes(judgement.outcome, "big"), block.state)
    else:
        before = tuple(vote for vote in judgement.votes if vote.miner in block.miners)
        votes = (*before, VerdictVote(miner=miner, anomalous=_packed(said, len(flows))))
        judgement = replace(judgement, votes=votes)
        if counted(tuple(vote.miner for vote in votes), block.miners, block.state) >= (
            block.miners.quorum
        ):
            outcome, events = _decide(body, votes, flows, block)
            judgement = replace(judgement, votes=(), outcome=_packed(outcome, len(flows)))
    block.state.put(JUDGEMENT_TABLE, judgement, key)
    return events


def _said(body: Verdict, count: int, block: BlockContext) -> int:
    """Check opinions against the number of flows, and return which say anomalous.

    Here and below what is said of the flows of a block is one integer, with a bit for each, the
    lowest for the last: it is compared at a stroke, however many flows and miners there are.
    """
    require(
        len(body.opinions) == OPINION_SIZE * count,
        "malformed",
        f"{len(body.opinions)} bytes of opinions for {count} flows of {OPINION_SIZE} bytes",
    )
    scores, reasons = unpack_scores(body.opinions), unpack_reasons(body.opinions)
    require(max(scores) <= SCORE_MAX, "malformed", f"a score is above {SCORE_MAX}")
    require(max(reasons) <= max(Reason), "malformed", "a reason is unknown")
    record = block.state.get(MODEL_TABLE, body.model)
    if record is None:
        raise Rejection("wrong_model", "the model is not registered")
    flags = [score >= record.threshold_ppm for score in scores]
    require(
        flags == [reason > 0 for reason in reasons],
        "malformed",
        "a reason stands exactly where the score reaches the model's threshold",
    )
    return int("".join(["1" if flag else "0" for flag in flags]), 2)


def _decide(
    body: Verdict,
    votes: Sequence[VerdictVote],
    flows: Sequence[Address],
    block: BlockContext,
) -> tuple[int, tuple[Event, ...]]:
    """Settle which flows of a block are anomalous, and what follows for their devices.

    A flow is anomalous when a weak quorum of miners says so: at least one of them is honest, so
    that one liar frames nobody; and among a quorum of verdicts the honest ones alone make a weak
    quorum, so that one liar shields nobody.
    """
    said = {
        vote.miner: int.from_bytes(vote.anomalous, "big")
        for vote in votes
        if counted((vote.miner,), block.miners, block.state)
    }
    needed = block.miners.weak_quorum
    columns = zip(*[f"{bits:0{len(flows)}b}" for bits in said.values()], strict=True)
    found = [column.count("1") >= needed for column in columns]
    outcome = int("".join(["1" if anomalous else "0" for anomalous in found]), 2)
    for miner, bits in said.items():
        count_outcome(miner, bits, outcome, block.state)
    places: dict[Address, list[int]] = {}
    for index, device in enumerate(flows):
        places.setdefault(device, []).append(index)
    judged = Judged(height=body.height, model=body.model, flows=body.judged)
    events: list[Event] = []
    flagged_count = 0
    for device, indices in places.items():
        own = sum([1 << len(flows) - 1 - index for index in indices if found[index]])
        taken, is_flagged = tally_flows(
            device,
            [found[index] for index in indices],
            # Where a miner stood alone the decision has overruled it already.
            {miner: (bits & own).bit_count() for miner, bits in said.items()} if own else {},
            judged,
            block,
        )
        if taken is not None:
            events.append(taken)
        if is_flagged:
            flagged_count += 1
            if flagged_count <= FLAGGED_EVENTS_MAX:
                events.append(Event(name="device_flagged", values=(device.hex(),)))
    counts = (body.height, len(flows), sum(found), flagged_count)
    block_judged = Event(name="block_judged", values=tuple([str(count) for count in counts]))
    return outcome, (block_judged, *events)


def _packed(bits: int, count: int) -> bytes:
    return bits.to_bytes((count + 7) // 8, "big")


KIND: Final = Kind(
    name="verdict",
    signer=Signer.MINER,
    lane=Lane.VERDICT,
    body=Record(
        Verdict,
        height=Integer(1, HEIGHT_MAX),
        model=DIGEST,
        judged=DIGEST,
        opinions=Blob(OPINION_SIZE, OPINION_SIZE * BLOCK_TRANSACTIONS_MAX),
    ),
    body_size_max=32 * 1024,
    apply=_apply,
)
