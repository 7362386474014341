"""What the state holds of policies: when an organisation's devices are acted on, and how."""

from dataclasses import dataclass
from typing import Final

from chain.limits import Limits, RateLimits, RateWindow
from chain.schema import Integer, Record, Word
from chain.table import Table

RING_BITS: Final = 256
"""Upper bound of m, the judged flows that a quarantine policy looks back on."""
ACTIONS: Final = ("observe", "limit", "quarantine", "revoke")
"""What a policy can do with a device that crosses its line; all but the first are measures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRecord:
    """What happens to an organisation's devices whose flows are anomalous too often.

    Parameters
    ----------
    action : {"observe", "limit", "quarantine", "revoke"}
        What follows when a device crosses the line. `observe` only says so; `limit` lets it go on
        under `limits`; `revoke` is for good.
    anomalous_min, window : int
        k and m: k anomalous among the last m judged flows cross the line.
    duration_ms : int
        How long a limit or a quarantine lasts unless it is released.
    limits : RateLimits
        Hold for a limited device besides its own.
    """

    action: str = "quarantine"
    anomalous_min: int = 30
    window: int = 100
    duration_ms: int = 3_600_000
    limits: RateLimits = (RateWindow(capacity=6, seconds=60),)


POLICY: Final = Record(
    PolicyRecord,
    action=Word(*ACTIONS),
    anomalous_min=Integer(1, RING_BITS),
    window=Integer(1, RING_BITS),
    duration_ms=Integer(1_000, 365 * 24 * 3_600_000),
    limits=Limits(),
)
POLICY_TABLE: Final = Table(b"policy/", POLICY)
