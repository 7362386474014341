"""A clock that follows the time of an event loop, real or simulated."""

from collections.abc import Callable
from typing import Final

_NS_PER_S: Final = 1_000_000_000
_NS_PER_MS: Final = 1_000_000
_NS_PER_S_AND_PPM: Final = 1_000


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
    """

    def __init__(self, loop_time: Callable[[], float], *, start_ms: int) -> None:
        self._loop_time = loop_time
        self._start_ms = start_ms
        self.skew_ms = 0
        self._drift_ppm = 0
        # Where the present drift began, in the loop's time and in the node's.
        self._since_s = 0.0
        self._since_ns = 0

    def monotonic_ns(self) -> int:
        """Nanoseconds since an arbitrary start, never going back."""
        passed_s = self._loop_time() - self._since_s
        return self._since_ns + round(passed_s * (_NS_PER_S + self._drift_ppm * _NS_PER_S_AND_PPM))

    def wall_ms(self) -> int:
        """Milliseconds since 1970, as this node believes; may jump."""
        return self._start_ms + self.skew_ms + self.monotonic_ns() // _NS_PER_MS

    def drift(self, ppm: int) -> None:
        """Let both clocks run too fast from now on, or too slow where `ppm` is below zero."""
        self._since_ns = self.monotonic_ns()
        self._since_s = self._loop_time()
        self._drift_ppm = ppm

    def set_right(self) -> None:
        """End the drift, and step the wall clock to the true time."""
        self.drift(0)
        true_ns = round(self._since_s * _NS_PER_S)
        self.skew_ms = true_ns // _NS_PER_MS - self._since_ns // _NS_PER_MS
