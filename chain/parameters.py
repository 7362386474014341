"""The chain's parameters: what miners may change by vote, and within which bounds."""

from dataclasses import dataclass
from typing import Final

from chain.errors import DecodeError
from chain.fields import TIME_MS
from chain.limits import Limits, RateLimits, RateWindow
from chain.schema import Integer, Record
from chain.table import Table

LIFETIME_MS_MAX: Final = 600_000
"""The longest L that can be voted for."""
FUTURE_DRIFT_MS: Final = 5_000
"""D: how far ahead of a block's time a transaction's time may be."""
VERDICT_WINDOW: Final = 256
"""A verdict is taken for so many heights after the block it judges."""
ANCHOR_INTERVAL: Final = 32
"""So many heights lie between blocks by which a candidate can show how far it has come."""
ANCHOR_WINDOW: Final = 100_000
"""Such blocks are remembered for so many heights, a multiple of the interval."""
EVIDENCE_WINDOW: Final = 100_000
"""Evidence is taken for so many heights after the one it is about: a day of a busy chain, within
which whoever was cut off has met the others again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The values in force, and since when what is older than `transaction_lifetime_ms` stays dead.

    Parameters
    ----------
    transaction_lifetime_ms : int
        L: a transaction is timely in a block of time B if B − L < time_ms ≤ B + D.
    lifetime_floor_ms : int
        Nothing at or before it is timely. It moves up when L is raised, so that raising L never
        revives what was too old before. Not subject to votes.
    block_transactions_max, block_bytes_max : int
        What a block may hold.
    heartbeat_ms : int
        An idle chain makes an empty block after this long.
    round_timeout_ms, round_timeout_step_ms, round_timeout_max_ms : int
        Time-out of round 0, what each further round adds, and the cap.
    clock_precision_ms, message_delay_ms : int
        Bounds of the time rule for fresh blocks.
    proposal_lifetime_ms : int
        A governance proposal that is not decided by then is closed.
    organisation_devices_max : int
        Devices that one organisation may register.
    device_limits : RateLimits
        For devices whose registration names none.
    registrar_limits : RateLimits
        For what the registrar of one organisation sends: by default room for a fleet at a stroke,
        and for less than a block can hold in the long run.
    join_heights_max : int
        A candidate shows that it has come to within so many blocks of the one that adds it. By
        default what a node catches up with in about a minute.
    """

    transaction_lifetime_ms: int = 60_000
    lifetime_floor_ms: int = 0
    block_transactions_max: int = 4_000
    block_bytes_max: int = 4 * 1024 * 1024
    heartbeat_ms: int = 60_000
    round_timeout_ms: int = 2_000
    round_timeout_step_ms: int = 1_000
    round_timeout_max_ms: int = 20_000
    clock_precision_ms: int = 500
    message_delay_ms: int = 2_000
    proposal_lifetime_ms: int = 7 * 24 * 3_600_000
    organisation_devices_max: int = 100_000
    device_limits: RateLimits = ()
    registrar_limits: RateLimits = (
        RateWindow(capacity=5_000, seconds=1),
        RateWindow(capacity=50_000, seconds=60),
    )
    join_heights_max: int = 10_000


PARAMETERS: Final = Record(
    Parameters,
    transaction_lifetime_ms=Integer(5_000, LIFETIME_MS_MAX),
    lifetime_floor_ms=TIME_MS,
    block_transactions_max=Integer(1, 10_000),
    block_bytes_max=Integer(64 * 1024, 7 * 1024 * 1024),
    heartbeat_ms=Integer(1_000, 24 * 3_600_000),
    round_timeout_ms=Integer(200, 60_000),
    round_timeout_step_ms=Integer(0, 60_000),
    round_timeout_max_ms=Integer(200, 120_000),
    clock_precision_ms=Integer(10, 10_000),
    message_delay_ms=Integer(100, 30_000),
    proposal_lifetime_ms=Integer(60_000, 90 * 24 * 3_600_000),
    organisation_devices_max=Integer(1, 1_000_000),
    device_limits=Limits(),
    registrar_limits=Limits(),
    join_heights_max=Integer(ANCHOR_INTERVAL, ANCHOR_WINDOW),
)


def check_parameters(parameters: Parameters) -> None:
    """Check what the bounds of single parameters do not show.

    Raises
    ------
    DecodeError
        The values contradict one another.
    """
    if parameters.round_timeout_ms > parameters.round_timeout_max_ms:
        raise DecodeError(
            "round_timeout_ms",
            f"{parameters.round_timeout_ms} is above round_timeout_max_ms "
            f"{parameters.round_timeout_max_ms}",
        )


CHANGEABLE: Final = tuple(name for name in PARAMETERS.fields if name != "lifetime_floor_ms")
"""Parameters that a `param.change` may name."""
PARAMETERS_TABLE: Final = Table(b"parameters", PARAMETERS)
