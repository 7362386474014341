"""`device.data`: what a device reports. The kind that Algorithm 1 is about."""

from dataclasses import dataclass
from typing import Final

from chain.kinds.base import Kind, Lane, Signer
from chain.payloads import DEVICE_PAYLOAD, Chunked, DevicePayload, Flow
from chain.records.models import MODEL_TABLE
from chain.schema import Record
from chain.state import View, active_model_at
from chain.transactions import Transaction
from chain.types import Height


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceData:
    """One report of a device."""

    payload: DevicePayload


def is_judged(payload: DevicePayload, view: View, height: Height) -> bool:
    """Tell whether detectors judge this payload: a flow that the block's active model reads."""
    if not isinstance(payload, Flow):
        return False
    digest = active_model_at(view, height)
    model = None if digest is None else view.get(MODEL_TABLE, digest)
    return model is not None and model.schema == payload.schema


def file_of(transaction: Transaction) -> Chunked | None:
    """Return the file that a transaction names; None for all but such a report of a device."""
    if transaction.payload.kind != KIND.name:
        return None
    payload = KIND.decode(transaction).payload
    return payload if isinstance(payload, Chunked) else None


KIND: Final = Kind(
    name="device.data",
    signer=Signer.DEVICE,
    lane=Lane.TELEMETRY,
    metered=True,
    body=Record(DeviceData, payload=DEVICE_PAYLOAD),
    body_size_max=8 * 1024,
    # A report is data: what follows from it, verdicts bring about.
    apply=None,
)
