"""Hostile attempts: what the demonstration sends that no honest device would.

Each attempt names the step of Algorithm 1 that has to refuse it, and the demonstration fails where
another one does, or none.
"""

from dataclasses import dataclass
from typing import Final

from chain.crypto import tagged_hash
from chain.kinds.device_data import DeviceData
from chain.kinds.device_registry import DeviceRegister
from chain.payloads import Measurement, Reading
from chain.transactions import PAYLOAD, SIGNATURE_TAG, Transaction, attach_signature
from chain.types import Digest
from cli.signing import Sender
from node.clock import SystemClock

TIMES: Final = 10
"""How often each attempt is made."""
FLOOD_LIMIT: Final = 5
"""Transactions a minute that the flooding device may send."""
EXPIRED_MS: Final = 10 * 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Transactions that have to be refused with one code."""

    name: str
    code: str
    transactions: tuple[Transaction, ...]


def reading(value: int) -> DeviceData:
    """Return a temperature in tenths of a degree."""
    measurement = Measurement(name="temperature", value=value, exponent=-1, unit="C")
    return DeviceData(payload=Reading(values=(measurement,)))


def unregistered(stranger: Sender) -> Attempt:
    """Let a device send that nobody registered."""
    sent = [stranger.sign("device.data", reading(n)) for n in range(TIMES)]
    return Attempt(name="unregistered", code="unknown_device", transactions=tuple(sent))


def forged(victim: Sender, forger: Sender) -> Attempt:
    """Send in the name of a registered device with another key."""
    sent = []
    for n in range(TIMES):
        payload = victim.sign("device.data", reading(n)).payload
        signature = forger.key.sign(SIGNATURE_TAG, PAYLOAD.encode(payload))
        sent.append(attach_signature(payload, signature))
    return Attempt(name="forged", code="bad_signature", transactions=tuple(sent))


def replayed(committed: list[Transaction]) -> Attempt:
    """Send again what is on the chain."""
    return Attempt(name="replayed", code="duplicate", transactions=tuple(committed))


def expired(device: Sender) -> Attempt:
    """Send what was signed long ago."""
    time_ms = SystemClock().wall_ms() - EXPIRED_MS
    sent = [device.sign("device.data", reading(n), time_ms=time_ms) for n in range(TIMES)]
    return Attempt(name="expired", code="expired", transactions=tuple(sent))


def flooding(device: Sender) -> Attempt:
    """Go on sending with a budget that is used up."""
    sent = [device.sign("device.data", reading(n)) for n in range(TIMES)]
    return Attempt(name="flooding", code="rate_limited", transactions=tuple(sent))


def overreaching(device: Sender) -> Attempt:
    """Let a device register devices, which is the registrar's to do."""
    sent = [
        device.sign(
            "device.register",
            DeviceRegister(
                name=f"accomplice-{n}",
                key=device.key.public,
                roles=("sensor",),
                gateway=None,
                limits=None,
            ),
        )
        for n in range(TIMES)
    ]
    return Attempt(name="overreaching", code="not_permitted", transactions=tuple(sent))


def foreign(device: Sender) -> Attempt:
    """Send what was signed for another chain."""
    other = Sender(
        genesis_hash=Digest(tagged_hash(b"securenet/demo/another-chain", device.genesis_hash)),
        address=device.address,
        key=device.key,
    )
    sent = [other.sign("device.data", reading(n)) for n in range(TIMES)]
    return Attempt(name="of another chain", code="wrong_chain", transactions=tuple(sent))


def quarantined(device: Sender) -> Attempt:
    """Let a quarantined attacker try again."""
    sent = [device.sign("device.data", reading(n)) for n in range(TIMES)]
    return Attempt(name="quarantined", code="device_not_active", transactions=tuple(sent))
