"""`verdict`: what a miner's detector says of the flows of one block.

Scores are data: rounded once, signed, carried in the chain, and never computed again by a state
transition. docs/spec/state.md, section "Verdicts and quarantine", is normative.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from chain.blocks import BLOCK_TRANSACTIONS_MAX, Event
from chain.errors import Rejection
from chain.governance import counted
from chain.kinds.base import BlockContext, Kind, Lane, Signer, require
from chain.parameters import VERDICT_WINDOW
from chain.records import (
    DEVICE_TABLE,
    JUDGEMENT_TABLE,
    MODEL_TABLE,
    POLICY_TABLE,
    RING_BITS,
    TALLY_TABLE,
    JudgementRecord,
    PolicyRecord,
    TallyRecord,
    VerdictVote,
    height_key,
)
from chain.schema import Blob, Integer, Record
from chain.state import active_model_at
from chain.transactions import Transaction
from chain.types import DIGEST_SIZE, HEIGHT_MAX, Address, Digest, Height

SCORE_SIZE: Final = 3
SCORE_MAX: Final = 1_000_000
FLAGGED_EVENTS_MAX: Final = 64
"""Devices that one verdict names as flagged; the event `block_judged` counts all of them. An
observed device can be flagged in every block, so this is what bounds receipts."""
_RING_MASK: Final = (1 << RING_BITS) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The scores of the judged flows of one block.

    Parameters
    ----------
    height : Height
        The block judged.
    model : Digest
        The model that was active at that height.
    scores : bytes
        A score in parts per million for each flow in block order, 3 bytes each, big-endian.
    """

    height: Height
    model: Digest
    scores: bytes


def pack_scores(scores: Sequence[int]) -> bytes:
    """Return the bytes of scores in parts per million."""
    return b"".join([score.to_bytes(SCORE_SIZE, "big") for score in scores])


def unpack_scores(data: bytes) -> list[int]:
    """Return the scores of `pack_scores`."""
    return [
        int.from_bytes(data[start : start + SCORE_SIZE], "big")
        for start in range(0, len(data), SCORE_SIZE)
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
        miners=(), votes=(), decided=False
    )
    require(miner not in judgement.miners, "duplicate_verdict", "the miner has judged this block")
    flows = block.recent.flows(body.height)
    require(bool(flows), "nothing_to_judge", f"block {body.height} holds no flow to judge")
    model = active_model_at(block.state, body.height)
    require(body.model == model, "wrong_model", "another model was active at that height")
    require(
        len(body.scores) == SCORE_SIZE * len(flows),
        "malformed",
        f"{len(body.scores)} bytes of scores for {len(flows)} flows of {SCORE_SIZE} bytes",
    )
    scores = unpack_scores(body.scores)
    require(max(scores) <= SCORE_MAX, "malformed", f"a score is above {SCORE_MAX}")
    # Members only, so that the lists stay bounded however often the set changes.
    judges = tuple(judge for judge in judgement.miners if judge in block.miners)
    judgement = replace(judgement, miners=(*judges, miner))
    events: tuple[Event, ...] = ()
    if not judgement.decided:
        flags = _pack_flags(scores, _threshold(body.model, block))
        before = tuple(vote for vote in judgement.votes if vote.miner in block.miners)
        votes = (*before, VerdictVote(miner=miner, anomalous=flags))
        judgement = replace(judgement, votes=votes)
        if counted(tuple(vote.miner for vote in votes), block.miners, block.state) >= (
            block.miners.quorum
        ):
            events = _decide(body.height, votes, flows, block)
            judgement = replace(judgement, votes=(), decided=True)
    block.state.put(JUDGEMENT_TABLE, judgement, key)
    return events


def _threshold(model: Digest, block: BlockContext) -> int:
    record = block.state.get(MODEL_TABLE, model)
    if record is None:
        raise Rejection("wrong_model", "the model is not registered")
    return record.threshold_ppm


def _decide(
    height: Height,
    votes: Sequence[VerdictVote],
    flows: Sequence[Address],
    block: BlockContext,
) -> tuple[Event, ...]:
    """Settle which flows of a block are anomalous, and what follows for their devices.

    A flow is anomalous when a weak quorum of miners says so: at least one of them is honest, so
    that one liar frames nobody; and among a quorum of verdicts the honest ones alone make a weak
    quorum, so that one liar shields nobody.
    """
    valid = [vote for vote in votes if counted((vote.miner,), block.miners, block.state)]
    columns = zip(*(_unpack_flags(vote.anomalous, len(flows)) for vote in valid), strict=True)
    needed = block.miners.weak_quorum
    by_device: dict[Address, list[bool]] = {}
    anomalous_count = 0
    for device, says in zip(flows, columns, strict=True):
        anomalous = sum(says) >= needed
        anomalous_count += anomalous
        by_device.setdefault(device, []).append(anomalous)
    events: list[Event] = []
    flagged_count = 0
    for device, outcomes in by_device.items():
        quarantined_until, is_flagged = _tally(device, outcomes, block)
        if quarantined_until is not None:
            values = (device.hex(), str(quarantined_until))
            events.append(Event(name="device_quarantined", values=values))
        if is_flagged:
            flagged_count += 1
            if flagged_count <= FLAGGED_EVENTS_MAX:
                events.append(Event(name="device_flagged", values=(device.hex(),)))
    counts = (height, len(flows), anomalous_count, flagged_count)
    judged = Event(name="block_judged", values=tuple([str(count) for count in counts]))
    return (judged, *events)


def _tally(
    device_id: Address, outcomes: Sequence[bool], block: BlockContext
) -> tuple[int | None, bool]:
    """Write down what was found of a device's flows.

    Returns
    -------
    quarantined_until_ms : int or None
        Set if that quarantines the device.
    is_flagged : bool
        Whether it would have, if the policy did not only observe.
    """
    device = block.state.get(DEVICE_TABLE, device_id)
    assert device is not None, "flows come from registered devices, and none is ever forgotten"
    policy = block.state.get(POLICY_TABLE, device.organisation) or PolicyRecord()
    tally = block.state.get(TALLY_TABLE, device_id) or TallyRecord(
        judged=0, anomalous=0, ring=bytes(RING_BITS // 8)
    )
    ring = int.from_bytes(tally.ring, "big")
    window = (1 << policy.window) - 1
    quarantined_until: int | None = None
    is_flagged = False
    for anomalous in outcomes:
        if not device.is_active(block.time_ms):
            # It has been stopped for flows like these already. Kept in the ring, they would stop
            # it once more with the first flow that it sends afterwards, however normal.
            break
        ring = (ring << 1 | anomalous) & _RING_MASK
        if (ring & window).bit_count() >= policy.anomalous_min:
            ring = 0
            if policy.action == "observe":
                is_flagged = True
                continue
            quarantined_until = block.time_ms + policy.duration_ms
            device = replace(device, status="quarantined", quarantined_until_ms=quarantined_until)
            block.state.put(DEVICE_TABLE, device, device_id)
    block.state.put(
        TALLY_TABLE,
        TallyRecord(
            judged=tally.judged + len(outcomes),
            anomalous=tally.anomalous + sum(outcomes),
            ring=ring.to_bytes(RING_BITS // 8, "big"),
        ),
        device_id,
    )
    return quarantined_until, is_flagged


def _pack_flags(scores: Sequence[int], threshold: int) -> bytes:
    bits = "".join(["1" if score >= threshold else "0" for score in scores])
    return int(bits, 2).to_bytes((len(bits) + 7) // 8, "big")


def _unpack_flags(data: bytes, count: int) -> list[int]:
    return [int(bit) for bit in f"{int.from_bytes(data, 'big'):0{count}b}"]


KIND: Final = Kind(
    name="verdict",
    signer=Signer.MINER,
    lane=Lane.VERDICT,
    body=Record(
        Verdict,
        height=Integer(1, HEIGHT_MAX),
        model=Blob(DIGEST_SIZE),
        scores=Blob(SCORE_SIZE, SCORE_SIZE * BLOCK_TRANSACTIONS_MAX),
    ),
    body_size_max=32 * 1024,
    apply=_apply,
)
