"""Records of the chain as the documents of docs/spec/rpc.md; the forms come from their schemas."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from chain.admission import limits_of
from chain.blocks import BLOCK_RECEIPT, BlockReceipt, Event, Header, Receipt, render_header
from chain.certificate import CERTIFICATE, CommitCertificate
from chain.federated.progress import awaited
from chain.federated.records import ROUND_TABLE, STATUSES, FederatedRound
from chain.kinds import KINDS
from chain.kinds.verdict import KIND as VERDICT
from chain.kinds.verdict import Reason, Verdict, unpack_reasons, unpack_scores
from chain.measures import anomalous_in_window, policy_of
from chain.miners import MINERS, MinerSet
from chain.records.devices import DEVICE_TABLE, DeviceRecord
from chain.records.measures import MEASURE_TABLE, MeasureRecord
from chain.records.miners import EVIDENCE_TABLE, MINER_TABLE, EvidenceRecord, MinerRecord
from chain.records.models import MODEL_TABLE, ModelRecord
from chain.records.organisations import ORGANISATION_TABLE, OrganisationRecord
from chain.records.policies import POLICY_TABLE, PolicyRecord
from chain.records.proposals import PROPOSAL_TABLE, ProposalRecord
from chain.records.verdicts import DETECTOR_TABLE, TALLY_TABLE, TallyRecord
from chain.state import State, passed_over_of
from chain.transactions import BODY_SIZE_MAX, Transaction
from chain.transition import Tip
from chain.types import Address, Digest
from consensus.height import Refusal
from consensus.snapshot import MemberView, Snapshot
from node.api import ModelStanding, NodeApi
from node.diagnosis import Diagnosis
from node.storage.chain_store import ChainStore
from node.storage.schema import KEPT_APART

if TYPE_CHECKING:
    # It brings numpy, and commands that never ask for it load this module too.
    from node.behaviour_service import Watched

NS_PER_MS: Final = 1_000_000


def certificate(value: CommitCertificate | None) -> dict[str, Any] | None:
    """Render a certificate; genesis has none."""
    return None if value is None else CERTIFICATE.render(value)


def block(
    header: Header, proof: CommitCertificate | None, ids: list[str], receipt: BlockReceipt
) -> dict[str, Any]:
    """Render a block without its transactions."""
    return {
        "header": render_header(header),
        "transaction_ids": ids,
        **BLOCK_RECEIPT.render(receipt),
        "certificate": certificate(proof),
    }


def deciding_miners(chain: ChainStore, header: Header) -> list[Any] | None:
    """Render the set that decided `header`, if this node keeps it."""
    miners = chain.miners(header.miner_set_hash)
    return None if miners is None else MINERS.render(miners.members)


def device(state: State, id: bytes, record: DeviceRecord, *, time_ms: int) -> dict[str, Any]:
    """Render a device as of `time_ms`."""
    tally = state.get(TALLY_TABLE, id)
    taken = state.get(MEASURE_TABLE, id)
    return {
        "id": id.hex(),
        "active": record.is_active(time_ms),
        **DEVICE_TABLE.record.render(record),
        "limited": record.is_active(time_ms) and record.is_limited(time_ms),
        "tally": None if tally is None else _tally(tally, policy_of(record.organisation, state)),
        "measure": None if taken is None else MEASURE_TABLE.record.render(taken),
    }


def _tally(record: TallyRecord, policy: PolicyRecord) -> dict[str, Any]:
    """Render a tally, and how far it is from the line of a policy."""
    return {
        **TALLY_TABLE.record.render(record),
        "in_window": anomalous_in_window(record, policy),
        "window": policy.window,
        "anomalous_min": policy.anomalous_min,
    }


def measure(id: bytes, record: MeasureRecord) -> dict[str, Any]:
    """Render the last measure against a device."""
    return {"device": id.hex(), **MEASURE_TABLE.record.render(record)}


def behaviour(id: bytes, watched: "Watched") -> dict[str, Any]:
    """Render how a device behaves."""
    return {
        "id": id.hex(),
        "from_height": watched.from_height,
        "height": watched.height,
        **asdict(watched.behaviour),
    }


def budget(tip: Tip, id: Address, record: DeviceRecord, *, time_ms: int) -> dict[str, Any]:
    """Render what a device may still send at `time_ms`."""
    windows: list[dict[str, Any]] = []
    for subject, limits in limits_of(id, record, tip.state, time_ms=time_ms):
        name = {id: "device", record.organisation: "organisation"}.get(subject, "gateway")
        for window in limits:
            used = tip.recent.sent_since(subject, time_ms - window.seconds * 1000)
            remaining = max(0, window.capacity - used)
            windows.append(
                {
                    "subject": name,
                    "subject_id": subject.hex(),
                    "capacity": window.capacity,
                    "seconds": window.seconds,
                    "used": used,
                    "remaining": remaining,
                    "free_at_ms": None if remaining else tip.recent.free_at_ms(subject, window),
                }
            )
    return {
        "id": id.hex(),
        "time_ms": time_ms,
        "windows": windows,
        "remaining": min((window["remaining"] for window in windows), default=None),
    }


def organisation(id: bytes, record: OrganisationRecord) -> dict[str, Any]:
    """Render an organisation."""
    return {"id": id.hex(), **ORGANISATION_TABLE.record.render(record)}


def policy(id: bytes, record: PolicyRecord | None) -> dict[str, Any]:
    """Render an organisation's policy, or the default."""
    return {
        "organisation": id.hex(),
        "is_default": record is None,
        **POLICY_TABLE.record.render(record or PolicyRecord()),
    }


def miner(state: State, id: bytes, record: MinerRecord, miners: MinerSet) -> dict[str, Any]:
    """Render a miner with its place in the set of the next height, its detector and its crime."""
    entries = passed_over_of(state).entries
    until = [entry.until_height for entry in entries if entry.miner == id]
    convicted = state.get(EVIDENCE_TABLE, id)
    detector = state.get(DETECTOR_TABLE, id)
    return {
        "id": id.hex(),
        **MINER_TABLE.record.render(record),
        "index": miners.index_of(Address(id)),
        "passed_over_until": until[0] if until else None,
        "evidence": None if convicted is None else EVIDENCE_TABLE.record.render(convicted),
        "detector": None if detector is None else DETECTOR_TABLE.record.render(detector),
    }


def evidence(id: bytes, record: EvidenceRecord) -> dict[str, Any]:
    """Render of what a miner was convicted last."""
    return {"miner": id.hex(), **EVIDENCE_TABLE.record.render(record)}


def proposal(id: bytes, record: ProposalRecord) -> dict[str, Any]:
    """Render a governance proposal with its body."""
    body = KINDS[record.kind].body
    value = body.decode(record.body, what="proposal.body", size_max=BODY_SIZE_MAX)
    return {
        "id": id.hex(),
        **PROPOSAL_TABLE.record.render(record),
        "body": body.render(value),
    }


def model(
    id: bytes,
    record: ModelRecord,
    active: dict[bytes, int],
    now: bytes | None,
    here: ModelStanding | None,
) -> Any:
    """Render a model.

    Parameters
    ----------
    active : dict of bytes to int
        The last activation of each model.
    now : bytes or None
        The model that judges the next height.
    here : ModelStanding or None
        How it stands at this node.
    """
    return {
        "id": id.hex(),
        **MODEL_TABLE.record.render(record),
        "active": id == now,
        "active_from_height": active.get(id),
        "here": None if here is None else {"state": here.state, "reason": here.reason},
    }


def round_summary(id: bytes, found: FederatedRound) -> dict[str, Any]:
    """Render a federated round without its members."""
    counts = Counter([member.status for member in found.members])
    return {
        "id": id.hex(),
        "coordinator": found.coordinator.hex(),
        "name": found.terms.name,
        "base": found.terms.base.hex(),
        "phase": found.phase,
        "deadline": found.deadline,
        "opened_height": found.opened_height,
        "phase_height": found.phase_height,
        "statuses": {status: counts[status] for status in STATUSES},
        "groups": len(found.groups),
        "aggregate": None if found.aggregate is None else found.aggregate.hex(),
        "reason": found.reason,
    }


def federated_round(id: bytes, found: FederatedRound) -> dict[str, Any]:
    """Render a federated round with its members, and whom it waits for."""
    return {
        "id": id.hex(),
        **ROUND_TABLE.record.render(found),
        "deadline": found.deadline,
        "groups": list(found.groups),
        "awaited": [member.device.hex() for member in awaited(found)],
    }


def thresholds(state: State, verdicts: Iterable[Transaction]) -> dict[Digest, int]:
    """Return the thresholds of the models that verdict transactions name."""
    models = {VERDICT.decode(transaction).model for transaction in verdicts}
    records = {id: state.get(MODEL_TABLE, id) for id in sorted(models)}
    return {id: record.threshold_ppm for id, record in records.items() if record is not None}


def verdict(
    transaction: Transaction, place: tuple[int, int], known: Mapping[Digest, int]
) -> dict[str, Any]:
    """Render a verdict transaction; `known` are the thresholds of models."""
    body: Verdict = VERDICT.decode(transaction)
    return {
        "transaction_id": transaction.id.hex(),
        "height": place[0],
        "index": place[1],
        "miner": transaction.payload.sender.hex(),
        "judged_height": body.height,
        "model": body.model.hex(),
        "threshold_ppm": known.get(body.model),
        "judged": body.judged.hex(),
        "scores_ppm": unpack_scores(body.opinions),
        "reasons": [Reason(code).name.lower() for code in unpack_reasons(body.opinions)],
    }


def transaction(value: Transaction, place: tuple[int, int]) -> dict[str, Any]:
    """Render what a transaction is about, without its body."""
    payload = value.payload
    return {
        "id": value.id.hex(),
        "height": place[0],
        "index": place[1],
        "kind": payload.kind,
        "sender": payload.sender.hex(),
        "time_ms": payload.time_ms,
    }


def event(value: Event, height: int, receipt: Receipt | None) -> dict[str, Any]:
    """Render something that a transaction brought about, or None: the end of the block."""
    return {
        "name": value.name,
        "values": list(value.values),
        "transaction_id": None if receipt is None else receipt.transaction_id.hex(),
        "height": height,
        "index": None if receipt is None else receipt.index,
    }


def kept_from(chain: ChainStore) -> str:
    """Return what has to be said of the answer that something is unknown here."""
    first = chain.whole_from
    return f"; this node does not keep all of what lies below block {first}" if first else ""


def status(node: NodeApi) -> dict[str, Any]:
    """Render how the node and its chain are doing."""
    doing = node.status()
    header = node.chain.tip.header
    return {
        "chain_id": node.genesis.chain_id,
        "genesis_hash": node.genesis.hash.hex(),
        "node_id": doing.node_id.hex(),
        "miner_id": None if doing.miner_id is None else doing.miner_id.hex(),
        "height": header.height,
        "block_hash": header.hash.hex(),
        "state_root": header.state_root.hex(),
        "time_ms": header.time_ms,
        "clock_ms": node.time_ms(),
        "round": doing.round,
        "syncing": doing.syncing,
        "highest_seen": max(doing.highest_seen, header.height),
        "first_heights": {name: node.chain.first(what) for name, what in KEPT_APART.items()},
        "peers": len(doing.peers),
        "peer_ids": [peer.hex() for peer in doing.peers],
        "mempool": doing.mempool_transactions,
        "mempool_bytes": doing.mempool_bytes,
        "version": doing.version,
    }


def consensus(snapshot: Snapshot, diagnosis: Diagnosis, *, now_ns: int) -> dict[str, Any]:
    """Render what agreement waits for; times are relative to `now_ns`."""
    return {
        "height": snapshot.height,
        "round": snapshot.round,
        "phase": snapshot.phase,
        "signing": snapshot.signing,
        "proposer": snapshot.proposer.hex(),
        "proposal": None if snapshot.proposal is None else snapshot.proposal.hex(),
        "diagnosis": diagnosis.code,
        "explanation": diagnosis.text,
        "miner": snapshot.me.hex(),
        "heard": diagnosis.heard,
        "phase_for_ms": (now_ns - snapshot.phase_since_ns) // NS_PER_MS,
        "refusal": None if snapshot.refusal is None else _refusal(snapshot.refusal),
        "fault": snapshot.fault or None,
        "prepared_round": snapshot.prepared_round,
        "quorum": snapshot.quorum,
        "members": [_member(member, now_ns) for member in snapshot.members],
        "missing": [
            member.miner.hex() for member in snapshot.members if member.missing_since_ns is not None
        ],
        "deadline_in_ms": (
            None if snapshot.deadline_ns is None else (snapshot.deadline_ns - now_ns) // NS_PER_MS
        ),
        "rounds": [
            {
                "round": entry.round,
                "entered_ms_ago": (now_ns - entry.at_ns) // NS_PER_MS,
                "cause": entry.cause,
                "lacked": entry.lacked,
            }
            for entry in snapshot.rounds
        ],
    }


def _member(member: MemberView, now_ns: int) -> dict[str, Any]:
    since = member.missing_since_ns
    return {
        "miner": member.miner.hex(),
        "round": member.round,
        "pre_prepare": member.pre_prepare,
        "prepare": member.prepare,
        "commit": member.commit,
        "round_change": member.round_change,
        "missing_for_ms": None if since is None else (now_ns - since) // NS_PER_MS,
        "height_reported": member.height_reported,
        "clock_offset_ms": member.clock_offset_ms,
    }


def _refusal(refusal: Refusal) -> dict[str, Any]:
    return {
        "round": refusal.round,
        "proposer": refusal.proposer.hex(),
        "untimely": refusal.untimely,
        "reason": refusal.reason,
    }
