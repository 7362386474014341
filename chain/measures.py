"""What judged flows bring upon a device, and how that is taken back.

Decided flows are tallied; where the tally crosses the line of the organisation's policy a *measure*
is taken: the device is limited, quarantined or revoked. A measure ends by itself, or the registrar
releases the device, asked by an appeal or not. docs/spec/state.md, section "Verdicts and
quarantine", is normative.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from chain.blocks import Event
from chain.detectors import count_released
from chain.errors import Rejection
from chain.kinds.base import BlockContext, require
from chain.records.devices import DEVICE_TABLE, DeviceRecord
from chain.records.measures import MEASURE_TABLE, Appeal, MeasureRecord
from chain.records.policies import POLICY_TABLE, RING_BITS, PolicyRecord
from chain.records.verdicts import TALLY_TABLE, Accuser, TallyRecord
from chain.state import View
from chain.types import Address, Digest, Height

_RING_MASK: Final = (1 << RING_BITS) - 1
_CLEARED: Final = bytes(RING_BITS // 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The judgement by which flows were decided.

    Parameters
    ----------
    height : Height
        The block judged.
    model, flows : Digest
        The model that judged, and the digest of what was judged.
    """

    height: Height
    model: Digest
    flows: Digest


def policy_of(organisation: Address, view: View) -> PolicyRecord:
    """Return the policy of an organisation, or the default."""
    return view.get(POLICY_TABLE, organisation) or PolicyRecord()


def anomalous_in_window(tally: TallyRecord, policy: PolicyRecord) -> int:
    """Return how many of the last judged flows that the policy looks back on are anomalous."""
    return _in_window(int.from_bytes(tally.ring, "big"), policy)


def _in_window(ring: int, policy: PolicyRecord) -> int:
    return (ring & (1 << policy.window) - 1).bit_count()


def tally_flows(
    device_id: Address,
    outcomes: Sequence[bool],
    accusations: Mapping[Address, int],
    judged: Judged,
    block: BlockContext,
) -> tuple[Event | None, bool]:
    """Write down what was found of a device's flows, and take the measure that it calls for.

    Parameters
    ----------
    outcomes : sequence of bool
        Which of the flows are anomalous, in block order.
    accusations : mapping of Address to int
        How many of those that are anomalous each miner called so.

    Returns
    -------
    event : Event or None
        The measure, if one was taken.
    is_flagged : bool
        Whether the line was crossed and the policy only observes.
    """
    device = block.state.get(DEVICE_TABLE, device_id)
    assert device is not None, "flows come from registered devices, and none is ever forgotten"
    policy = policy_of(device.organisation, block.state)
    tally = block.state.get(TALLY_TABLE, device_id) or TallyRecord(
        judged=0, anomalous=0, ring=_CLEARED
    )
    event: Event | None = None
    is_flagged = False
    accusers = tally.accusers
    if device.is_active(block.time_ms):
        accusers = _added(accusers, accusations, block)
    ring = int.from_bytes(tally.ring, "big")
    for anomalous in outcomes:
        if not device.is_active(block.time_ms):
            # It has been stopped for flows like these already. Kept in the ring, they would stop
            # it once more with the first flow that it sends afterwards, however normal.
            break
        ring = (ring << 1 | anomalous) & _RING_MASK
        found = _in_window(ring, policy)
        if found < policy.anomalous_min:
            continue
        if policy.action == "observe":
            is_flagged = True
        else:
            device, taken = _take(device_id, device, found, accusers, policy, judged, block)
            event = taken or event
        ring, accusers = 0, ()
    block.state.put(
        TALLY_TABLE,
        TallyRecord(
            judged=tally.judged + len(outcomes),
            anomalous=tally.anomalous + sum(outcomes),
            ring=ring.to_bytes(RING_BITS // 8, "big"),
            accusers=accusers,
        ),
        device_id,
    )
    return event, is_flagged


def _take(
    device_id: Address,
    device: DeviceRecord,
    anomalous: int,
    accusers: tuple[Accuser, ...],
    policy: PolicyRecord,
    judged: Judged,
    block: BlockContext,
) -> tuple[DeviceRecord, Event | None]:
    """Do to a device what the policy says; the event is None where nothing begins."""
    until_ms = 0 if policy.action == "revoke" else block.time_ms + policy.duration_ms
    was_limited = device.is_limited(block.time_ms)
    match policy.action:
        case "limit":
            device = replace(
                device, status="active", quarantined_until_ms=0, limited_until_ms=until_ms
            )
        case "quarantine":
            device = replace(
                device, status="quarantined", quarantined_until_ms=until_ms, limited_until_ms=0
            )
        case _:
            device = replace(device, status="revoked", quarantined_until_ms=0, limited_until_ms=0)
    block.state.put(DEVICE_TABLE, device, device_id)
    if policy.action == "limit" and was_limited:
        # The same measure goes on: no second appeal, and no event in every block.
        standing = block.state.get(MEASURE_TABLE, device_id)
        assert standing is not None, "a measure has limited it"
        added = _added(standing.accusers, {a.miner: a.flows for a in accusers}, block)
        longer = replace(standing, until_ms=until_ms, accusers=added)
        block.state.put(MEASURE_TABLE, longer, device_id)
        return device, None
    measure = MeasureRecord(
        action=policy.action,
        height=block.height,
        until_ms=until_ms,
        judged_height=judged.height,
        model=judged.model,
        judged=judged.flows,
        anomalous=anomalous,
        window=policy.window,
        accusers=accusers,
        appeal=None,
        answer="none",
        answered_height=None,
    )
    block.state.put(MEASURE_TABLE, measure, device_id)
    values = (device_id.hex(), str(until_ms))
    return device, Event(name=_EVENTS[policy.action], values=values)


_EVENTS: Final = {
    "limit": "device_limited",
    "quarantine": "device_quarantined",
    "revoke": "device_revoked",
}


def open_appeal(device_id: Address, transaction: Digest, text: str, block: BlockContext) -> None:
    """Put on record what a device says against the measure that holds for it.

    Raises
    ------
    Rejection
        No measure holds, or it has been appealed against already.
    """
    device = block.state.get(DEVICE_TABLE, device_id)
    assert device is not None, "its key was found there"
    is_stopped = device.status == "quarantined" and not device.is_active(block.time_ms)
    require(
        is_stopped or device.is_limited(block.time_ms),
        "invalid_state",
        "the device is neither quarantined nor limited",
    )
    measure = block.state.get(MEASURE_TABLE, device_id)
    if measure is None or measure.appeal is not None:
        raise Rejection("already_appealed", "there is one appeal against each measure")
    appeal = Appeal(transaction=transaction, height=block.height, text=text)
    block.state.put(MEASURE_TABLE, replace(measure, appeal=appeal), device_id)


def refuse_appeal(device_id: Address, block: BlockContext) -> None:
    """Answer an appeal: the measure stays.

    Raises
    ------
    Rejection
        No appeal waits for an answer.
    """
    measure = block.state.get(MEASURE_TABLE, device_id)
    if measure is None or not measure.is_appealed:
        raise Rejection("invalid_state", "no appeal of the device waits for an answer")
    block.state.put(
        MEASURE_TABLE,
        replace(measure, answer="refused", answered_height=block.height),
        device_id,
    )


def release(device_id: Address, block: BlockContext) -> None:
    """Forget what spoke against a device, and hold it against those who said it."""
    tally = block.state.get(TALLY_TABLE, device_id)
    if tally is not None:
        block.state.put(TALLY_TABLE, replace(tally, ring=_CLEARED, accusers=()), device_id)
    measure = block.state.get(MEASURE_TABLE, device_id)
    if measure is not None:
        block.state.put(
            MEASURE_TABLE,
            replace(measure, answer="released", answered_height=block.height),
            device_id,
        )
    accusers = (*(measure.accusers if measure else ()), *(tally.accusers if tally else ()))
    for accuser in accusers:
        count_released(accuser.miner, accuser.flows, block.state)


def _added(
    accusers: Sequence[Accuser], accusations: Mapping[Address, int], block: BlockContext
) -> tuple[Accuser, ...]:
    """Add accusations; members only, so that the list stays bounded however the set changes."""
    flows = {accuser.miner: accuser.flows for accuser in accusers if accuser.miner in block.miners}
    for miner, count in accusations.items():
        if count:
            flows[miner] = flows.get(miner, 0) + count
    return tuple([Accuser(miner=miner, flows=flows[miner]) for miner in sorted(flows)])
