"""JSON Schemas of what the RPC takes and answers.

Whatever the chain stores or signs is described by its own record; only what the RPC puts around it
is written here.
"""

from collections.abc import Mapping
from typing import Any, Final, get_args

from chain.blocks import BLOCK_RECEIPT, HEADER, RECEIPT
from chain.certificate import CERTIFICATE
from chain.federated.records import (
    PHASES,
    REVEAL_TABLE,
    ROUND_TABLE,
    SHARES_TABLE,
    STATUSES,
)
from chain.fields import DIGEST
from chain.genesis import GENESIS
from chain.kinds import KINDS
from chain.kinds.verdict import Reason
from chain.miners import MINERS
from chain.parameters import PARAMETERS
from chain.records.devices import DEVICE_TABLE
from chain.records.measures import MEASURE_TABLE
from chain.records.miners import EVIDENCE_TABLE, MINER_TABLE
from chain.records.models import MODEL_TABLE
from chain.records.organisations import ORGANISATION_TABLE
from chain.records.policies import POLICY
from chain.records.proposals import PROPOSAL_TABLE
from chain.records.verdicts import DETECTOR_TABLE, TALLY_TABLE
from chain.schema import Blob
from chain.state_tree import STATE_PROOF
from chain.transactions import PAYLOAD
from chain.types import SIGNATURE_SIZE
from node.api import ModelState
from node.diagnosis import CODES
from node.rpc.feed import TYPES
from node.rpc.limits import BATCH_TRANSACTIONS_MAX
from node.storage.schema import KEPT_APART

Schema = dict[str, Any]

ID: Final = DIGEST.describe()
BYTES: Final[Schema] = {"type": "string", "pattern": "^([0-9a-f]{2})*$"}
TEXT: Final[Schema] = {"type": "string"}
INTEGER: Final[Schema] = {"type": "integer"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
BINARY: Final[Schema] = {"type": "string", "format": "binary"}
BOOLEAN: Final[Schema] = {"type": "boolean"}
PATH: Final[Schema] = {"type": "array", "items": ID}


def nullable(schema: Schema) -> Schema:
    """Return the schema of a value that may be null."""
    return {"anyOf": [schema, {"type": "null"}]}


def record(**members: Schema) -> Schema:
    """Return the schema of an object that always has these members; later versions add some."""
    return {"type": "object", "properties": members, "required": list(members)}


def array(items: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def ref(name: str) -> Schema:
    """Return a reference to a named schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def page_of(name: str) -> Schema:
    """Return the schema of a page of a named schema."""
    return record(items=array(ref(name)), cursor=nullable(TEXT))


def _joined(*schemas: Schema) -> Schema:
    """Return the schema of one object with the members of all."""
    properties = {name: item for schema in schemas for name, item in schema["properties"].items()}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _state_proof(**member: Schema) -> Schema:
    """Return the schema of what proves a record of the state, which is one more member."""
    return record(
        header=ref("Header"),
        certificate=nullable(ref("Certificate")),
        miners=nullable(ref("Miners")),
        key=BYTES,
        value=nullable(BYTES),
        proof=STATE_PROOF.describe(),
        **member,
    )


def _transaction(kind: str) -> Schema:
    described = PAYLOAD.describe()
    members = {
        **described["properties"],
        "kind": {"const": kind},
        "body": KINDS[kind].body.describe(),
        "signature": Blob(SIGNATURE_SIZE).describe(),
    }
    return {**record(**members), "additionalProperties": False}


def _kind_name(kind: str) -> str:
    return "Transaction." + kind


_PROBLEM: Final = record(
    type=TEXT, title=TEXT, status=INTEGER, detail=TEXT, code={"type": "string"}
)

SCHEMAS: Final[Mapping[str, Schema]] = {
    "Problem": _PROBLEM,
    "Status": record(
        chain_id=TEXT,
        genesis_hash=ID,
        node_id=ID,
        miner_id=nullable(ID),
        height=COUNT,
        block_hash=ID,
        state_root=ID,
        time_ms=COUNT,
        clock_ms=COUNT,
        round=COUNT,
        syncing=BOOLEAN,
        highest_seen=COUNT,
        first_heights=record(**dict.fromkeys(KEPT_APART, COUNT)),
        peers=COUNT,
        peer_ids=array(ID),
        mempool=COUNT,
        mempool_bytes=COUNT,
        version=TEXT,
    ),
    "Blob": record(id=ID, size=COUNT, chunks=COUNT),
    "Genesis": GENESIS.describe(),
    "Header": _joined(HEADER.describe(), record(hash=ID)),
    "Certificate": CERTIFICATE.describe(),
    "Miners": MINERS.describe(),
    "Receipt": RECEIPT.describe(),
    "BlockReceipt": BLOCK_RECEIPT.describe(),
    "Block": _joined(
        record(
            header=ref("Header"),
            transaction_ids=array(ID),
            certificate=nullable(ref("Certificate")),
        ),
        BLOCK_RECEIPT.describe(),
    ),
    "BlockProof": record(
        header=ref("Header"),
        certificate=nullable(ref("Certificate")),
        miners=nullable(ref("Miners")),
        receipt=ref("BlockReceipt"),
        receipt_bytes=BYTES,
        index=COUNT,
        receipt_leaf_count=COUNT,
        receipt_path=PATH,
    ),
    "Parameters": record(height=COUNT, parameters=PARAMETERS.describe()),
    "Consensus": record(
        height=COUNT,
        round=COUNT,
        phase=TEXT,
        signing=TEXT,
        proposer=ID,
        proposal=nullable(ID),
        diagnosis={"enum": list(CODES)},
        explanation=TEXT,
        miner=ID,
        heard=COUNT,
        phase_for_ms=INTEGER,
        refusal=nullable(record(round=COUNT, proposer=ID, untimely=BOOLEAN, reason=TEXT)),
        fault=nullable(TEXT),
        prepared_round=nullable(COUNT),
        quorum=COUNT,
        members=array(
            record(
                miner=ID,
                round=COUNT,
                pre_prepare=BOOLEAN,
                prepare=BOOLEAN,
                commit=BOOLEAN,
                round_change=BOOLEAN,
                missing_for_ms=nullable(INTEGER),
                height_reported=nullable(COUNT),
                clock_offset_ms=nullable(INTEGER),
            )
        ),
        missing=array(ID),
        deadline_in_ms=nullable(INTEGER),
        rounds=array(
            record(round=COUNT, entered_ms_ago=INTEGER, cause=TEXT, lacked=nullable(TEXT))
        ),
    ),
    **{_kind_name(kind): _transaction(kind) for kind in KINDS},
    "Transaction": {
        "oneOf": [ref(_kind_name(kind)) for kind in KINDS],
        "discriminator": {
            "propertyName": "kind",
            "mapping": {kind: ref(_kind_name(kind))["$ref"] for kind in KINDS},
        },
    },
    "TransactionBatch": {
        "type": "array",
        "items": ref("Transaction"),
        "minItems": 1,
        "maxItems": BATCH_TRANSACTIONS_MAX,
    },
    "TransactionBytes": {
        "type": "string",
        "contentMediaType": "application/msgpack",
        "description": "The canonical bytes of docs/spec/encoding.md.",
    },
    "TransactionBatchBytes": {
        "type": "string",
        "contentMediaType": "application/msgpack",
        "description": f"An array of 1 to {BATCH_TRANSACTIONS_MAX} byte strings, each the "
        "canonical bytes of a transaction.",
    },
    "Pooled": record(id=ID, status={"const": "pending"}),
    "Result": {
        "type": "object",
        "properties": {
            "id": nullable(ID),
            "status": {"enum": ["pending", "rejected"]},
            "error": ref("Problem"),
        },
        "required": ["id", "status"],
    },
    "Results": record(results=array(ref("Result"))),
    "TransactionStatus": record(
        id=ID,
        status={"enum": ["pending", "committed", "rejected", "expired", "unknown"]},
        height=nullable(COUNT),
        index=nullable(COUNT),
        transaction=nullable(ref("Transaction")),
        receipt=nullable(ref("Receipt")),
        code=nullable(TEXT),
        detail=nullable(TEXT),
    ),
    "TransactionProof": record(
        header=ref("Header"),
        certificate=nullable(ref("Certificate")),
        miners=nullable(ref("Miners")),
        transaction=BYTES,
        receipt=ref("Receipt"),
        receipt_bytes=BYTES,
        index=COUNT,
        leaf_count=COUNT,
        transaction_path=PATH,
        receipt_leaf_count=COUNT,
        receipt_path=PATH,
    ),
    "DeviceRecord": DEVICE_TABLE.record.describe(),
    "Device": _joined(
        record(id=ID, active=BOOLEAN, limited=BOOLEAN),
        DEVICE_TABLE.record.describe(),
        record(
            tally=nullable(
                _joined(
                    TALLY_TABLE.record.describe(),
                    record(in_window=COUNT, window=COUNT, anomalous_min=COUNT),
                )
            ),
            measure=nullable(MEASURE_TABLE.record.describe()),
        ),
    ),
    "Measure": _joined(record(device=ID), MEASURE_TABLE.record.describe()),
    "SentTransaction": record(id=ID, height=COUNT, index=COUNT),
    "Budget": record(
        id=ID,
        time_ms=COUNT,
        windows=array(
            record(
                subject={"enum": ["device", "organisation", "gateway"]},
                subject_id=ID,
                capacity=COUNT,
                seconds=COUNT,
                used=COUNT,
                remaining=COUNT,
                free_at_ms=nullable(COUNT),
            )
        ),
        remaining=nullable(COUNT),
    ),
    "Behaviour": record(
        id=ID,
        from_height=COUNT,
        height=COUNT,
        score_ppm=COUNT,
        reason=nullable(TEXT),
        quantities=array(
            record(
                name=TEXT,
                count=COUNT,
                mean=COUNT,
                deviation=COUNT,
                latest_mean=nullable(COUNT),
                group_count=COUNT,
                group_mean=COUNT,
                group_deviation=COUNT,
                score_ppm=COUNT,
                group_score_ppm=COUNT,
                is_drifting=BOOLEAN,
                reason=nullable(TEXT),
            )
        ),
    ),
    "DeviceProof": _state_proof(device=nullable(ref("DeviceRecord"))),
    "Organisation": _joined(record(id=ID), ORGANISATION_TABLE.record.describe()),
    "Policy": _joined(record(organisation=ID, is_default=BOOLEAN), POLICY.describe()),
    "Miner": _joined(
        record(id=ID),
        MINER_TABLE.record.describe(),
        record(
            index=nullable(COUNT),
            passed_over_until=nullable(COUNT),
            evidence=nullable(ref("EvidenceRecord")),
            detector=nullable(DETECTOR_TABLE.record.describe()),
        ),
    ),
    "EvidenceRecord": EVIDENCE_TABLE.record.describe(),
    "Evidence": _joined(record(miner=ID), EVIDENCE_TABLE.record.describe()),
    "EvidenceProof": _state_proof(evidence=nullable(ref("EvidenceRecord"))),
    "Proposal": _joined(
        record(id=ID), PROPOSAL_TABLE.record.describe(), record(body={"type": "object"})
    ),
    "Model": _joined(
        record(id=ID),
        MODEL_TABLE.record.describe(),
        record(
            active=BOOLEAN,
            active_from_height=nullable(COUNT),
            here=nullable(
                record(state={"enum": list(get_args(ModelState))}, reason=nullable(TEXT))
            ),
        ),
    ),
    "RoundSummary": record(
        id=ID,
        coordinator=ID,
        name=TEXT,
        base=ID,
        phase={"enum": list(PHASES)},
        deadline=nullable(COUNT),
        opened_height=COUNT,
        phase_height=COUNT,
        statuses=record(**dict.fromkeys(STATUSES, COUNT)),
        groups=COUNT,
        aggregate=nullable(ID),
        reason=nullable(TEXT),
    ),
    "Round": _joined(
        record(id=ID),
        ROUND_TABLE.record.describe(),
        record(deadline=nullable(COUNT), groups=array(COUNT), awaited=array(ID)),
    ),
    "RoundRecord": ROUND_TABLE.record.describe(),
    "RoundProof": _state_proof(round=nullable(ref("RoundRecord"))),
    "RoundShares": _joined(record(device=ID), SHARES_TABLE.record.describe()),
    "RoundSharesProof": _state_proof(shares=nullable(SHARES_TABLE.record.describe())),
    "RoundReveal": _joined(record(device=ID), REVEAL_TABLE.record.describe()),
    "Verdict": record(
        transaction_id=ID,
        height=COUNT,
        index=COUNT,
        miner=ID,
        judged_height=COUNT,
        model=ID,
        threshold_ppm=nullable(COUNT),
        judged=ID,
        scores_ppm=array(COUNT),
        reasons=array({"enum": [reason.name.lower() for reason in Reason]}),
    ),
    "Nothing": {"type": "object"},
    "Subscription": {
        "type": "object",
        "properties": {
            "subscribe": {"type": "array", "items": {"enum": list(TYPES)}, "minItems": 1},
            "from": nullable(TEXT),
        },
        "required": ["subscribe"],
        "additionalProperties": False,
    },
    "StreamMessage": {
        "anyOf": [
            record(subscribed=array(TEXT), cursor=TEXT),
            record(type={"enum": list(TYPES)}, cursor=TEXT, data={"type": "object"}),
            record(error=ref("Problem"), cursor=TEXT),
        ]
    },
    "Live": record(live=BOOLEAN),
    "Ready": record(ready=BOOLEAN, height=COUNT, lag_blocks=COUNT, peers=COUNT),
}
"""Every schema by its name in the OpenAPI document."""
