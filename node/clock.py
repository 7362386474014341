"""The one module that reads the time."""

import time

_NS_PER_MS = 1_000_000


class SystemClock:
    """The clocks of the operating system, as a :class:`node.ports.Clock`."""

    __slots__ = ()

    def monotonic_ns(self) -> int:
        """Nanoseconds since an arbitrary start, never going back."""
        return time.monotonic_ns()

    def wall_ms(self) -> int:
        """Milliseconds since 1970, as the operating system believes; may jump."""
        return time.time_ns() // _NS_PER_MS
