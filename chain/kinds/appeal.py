"""`device.appeal`: a device says that the measure against it is a mistake."""

from dataclasses import dataclass
from typing import Final

from chain.blocks import Event
from chain.kinds.base import BlockContext, Kind, Lane, Signer
from chain.measures import open_appeal
from chain.records.measures import APPEAL_TEXT
from chain.schema import Record
from chain.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceAppeal:
    """Asks the registrar to release the sender; `text` is for people."""

    text: str


def _apply(body: DeviceAppeal, transaction: Transaction, block: BlockContext) -> tuple[Event, ...]:
    device = transaction.payload.sender
    open_appeal(device, transaction.id, body.text, block)
    return (Event(name="device_appealed", values=(device.hex(),)),)


KIND: Final = Kind(
    name="device.appeal",
    signer=Signer.DEVICE,
    lane=Lane.REGISTRY,
    # Not metered: a quarantined device may send it, and there is one against each measure.
    body=Record(DeviceAppeal, text=APPEAL_TEXT),
    apply=_apply,
)
