"""Deadlines and how they grow; a value, not a clock."""

from dataclasses import dataclass
from typing import Final

from chain.types import Round

NS_PER_MS: Final = 1_000_000
LIMIT_SHIFT_MAX: Final = 10
"""A fresh block is never limited to less than 1/1024 of the chain's limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long things may take, in milliseconds.

    Parameters
    ----------
    round_timeout_ms, round_timeout_increment_ms, round_timeout_max_ms : int
        A round lasts ``min(timeout + round × increment, max)``. The bound matters: uncapped growth
        has frozen production networks (besu#7642).
    resend_ms : int
        How often own messages are sent again once a round was given up.
    precision_ms : int
        How far apart the clocks of two honest miners may be.
    message_delay_ms, message_delay_max_ms : int
        How long a PRE-PREPARE may be under way: ``min(delay × (round + 1), max)``.
    """

    round_timeout_ms: int = 2_000
    round_timeout_increment_ms: int = 1_000
    round_timeout_max_ms: int = 10_000
    resend_ms: int = 1_000
    precision_ms: int = 500
    message_delay_ms: int = 2_000
    message_delay_max_ms: int = 15_000

    def round_timeout_ns(self, round: Round) -> int:
        """Return how long `round` lasts."""
        return NS_PER_MS * min(
            self.round_timeout_ms + round * self.round_timeout_increment_ms,
            self.round_timeout_max_ms,
        )

    def resend_ns(self) -> int:
        """Return the time between two sendings of the same messages."""
        return NS_PER_MS * self.resend_ms

    def delay_ms(self, round: Round) -> int:
        """Return how long a PRE-PREPARE of `round` may be under way."""
        return min(self.message_delay_ms * (round + 1), self.message_delay_max_ms)


def limit_shift(round: Round) -> int:
    """Return by how many halvings the limits of a fresh block of `round` shrink."""
    return min(round, LIMIT_SHIFT_MAX)
