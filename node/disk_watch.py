"""How long writes to the consensus log take at present, one that is under way included."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Final

from node.metrics import Metrics
from node.ports import Clock

WRITES_REMEMBERED: Final = 8
FORGOTTEN_NS: Final = 60 * 1_000_000_000
"""What was written so long ago says nothing of the disk any more."""


class DiskWatch:
    """Measures writes for the diagnosis and the metrics."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._writes: deque[tuple[int, int]] = deque(maxlen=WRITES_REMEMBERED)
        self._begun_ns: int | None = None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Measure one write; they come one behind the other."""
        self._begun_ns = begun_ns = self._clock.monotonic_ns()
        try:
            yield
        finally:
            ended_ns = self._clock.monotonic_ns()
            self._begun_ns = None
            self._writes.append((ended_ns, ended_ns - begun_ns))
            self._metrics.log_written(ended_ns - begun_ns)

    def write_ns(self) -> int:
        """Return the median of the last writes, or how long the present one lasts if longer."""
        now_ns = self._clock.monotonic_ns()
        recent = [took_ns for at_ns, took_ns in self._writes if now_ns - at_ns < FORGOTTEN_NS]
        usual_ns = int(median(recent)) if recent else 0
        return max(usual_ns, 0 if self._begun_ns is None else now_ns - self._begun_ns)
