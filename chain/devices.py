"""Whether a device may act: the question of step 2 of Algorithm 1, and of some kinds."""

from chain.errors import Rejection
from chain.records.devices import DEVICE_TABLE, DeviceRecord
from chain.records.organisations import ORGANISATION_TABLE
from chain.state import View
from chain.types import Address


def active_device(device_id: Address, view: View, *, time_ms: int) -> DeviceRecord:
    """Return the record of a registered device that is active at block time `time_ms`.

    Raises
    ------
    Rejection
        It is unknown, or it or its organisation is not active.
    """
    device = view.get(DEVICE_TABLE, device_id)
    if device is None:
        raise Rejection("unknown_device", f"device {device_id.hex()} is not registered")
    if not device.is_active(time_ms):
        until = f" until {device.quarantined_until_ms}" if device.status == "quarantined" else ""
        raise Rejection("device_not_active", f"the device is {device.status}{until}")
    organisation = view.get(ORGANISATION_TABLE, device.organisation)
    if organisation is None or not organisation.active:
        raise Rejection("device_not_active", "the device's organisation is not active")
    return device
