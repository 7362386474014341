"""Signing transactions in worker processes, ahead of the time when they are sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from chain.crypto import signing_key
from chain.kinds import KINDS
from chain.kinds.device_data import DeviceData
from chain.payloads import DevicePayload, Measurement, Reading
from chain.types import Address, Digest
from cli.errors import BadInput
from cli.signing import Sender

KIND: Final = "device.data"
_MEASUREMENTS_MAX: Final = 8
_NAME_SIZE_MAX: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceKey:
    """A device as it is handed to a worker process."""

    address: Address
    seed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Signed transactions, and their ids in hex."""

    wires: list[bytes]
    ids: list[str]


def sign_batches(
    genesis_hash: Digest,
    devices: Sequence[DeviceKey],
    bodies: Sequence[bytes],
    count: int,
    size: int,
) -> list[Batch]:
    """Sign `count` transactions, the devices and the bodies taking turns, in batches of `size`."""
    senders = [
        Sender(
            genesis_hash=genesis_hash,
            address=device.address,
            key=signing_key("ed25519", device.seed),
        )
        for device in devices
    ]
    batches = []
    for start in range(0, count, size):
        signed = [
            senders[n % len(senders)].sign_body(KIND, bodies[n % len(bodies)])
            for n in range(start, min(start + size, count))
        ]
        batches.append(Batch(wires=[t.wire for t in signed], ids=[t.id.hex() for t in signed]))
    return batches


def body_of(payload: DevicePayload) -> bytes:
    """Return the canonical body that carries `payload`."""
    return KINDS[KIND].body.encode(DeviceData(payload=payload))


def reading_of_size(wire_bytes: int) -> bytes:
    """Return the body of a reading whose transaction has exactly `wire_bytes` bytes.

    Raises
    ------
    BadInput
        No reading has.
    """
    key = signing_key("ed25519", bytes(32))
    sender = Sender(genesis_hash=Digest(bytes(32)), address=Address(bytes(32)), key=key)
    for count, length, unit in product(
        range(1, _MEASUREMENTS_MAX + 1), range(1, _NAME_SIZE_MAX + 1), ("C", "Cs")
    ):
        names = [*(f"{n}".ljust(_NAME_SIZE_MAX, "x") for n in range(count - 1)), "y" * length]
        values = tuple(
            Measurement(name=name, value=2_150, exponent=-2, unit=unit) for name in names
        )
        body = body_of(Reading(values=values))
        if len(sender.sign_body(KIND, body).wire) == wire_bytes:
            return body
    raise BadInput(f"no reading makes a transaction of {wire_bytes} bytes", "try 300")
