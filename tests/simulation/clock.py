"""A clock that follows the time of an event loop, real or simulated."""

from collections.abc import Callable
from typing import Final

_NS_PER_S: Final = 1_000_000_000
_MS_PER_S: Final = 1_000


class SimulatedClock:
    """The clocks of one simulated node, as a :class:`node.ports.Clock`.

    Parameters
    ----------
    loop_time : callable
        The loop's ``time``: seconds, never going back.
    start_ms : int
        What the wall clock shows where the loop's time is zero.

    Attributes
    ----------
    skew_ms : int
        How far the wall clock is ahead; change it to step the clock. Timers do not notice.
    drift_ppm : int
        How much faster the wall clock runs, from the beginning on.
    """

    def __init__(self, loop_time: Callable[[], float], *, start_ms: int) -> None:
        self._loop_time = loop_time
        self._start_ms = start_ms
        self.skew_ms = 0
        self.drift_ppm = 0

    def monotonic_ns(self) -> int:
        """Nanoseconds since an arbitrary start, never going back."""
        return round(self._loop_time() * _NS_PER_S)

    def wall_ms(self) -> int:
        """Milliseconds since 1970, as this node believes; may jump."""
        elapsed_ms = self._loop_time() * _MS_PER_S
        drift_ms = int(elapsed_ms * self.drift_ppm / 1_000_000)
        return self._start_ms + self.skew_ms + int(elapsed_ms) + drift_ms
