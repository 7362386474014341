"""What happened in a world, in order: a hash over everything, and the last lines to read.

Two runs of one seed must give one hash; where they do not, the full text of both tells the first
line that differs.
"""

from collections import deque
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from typing import Any, Final, NoReturn

import structlog

LINES_MAX: Final = 400
"""Lines kept to be read; the hash covers all of them."""

WORLD: Final = "world"
"""In whose name the world itself acts."""

NODE: Final[ContextVar[str]] = ContextVar("node", default=WORLD)
"""Whose code runs now."""


@contextmanager
def acting(node: str) -> Iterator[None]:
    """Run a block in the name of a node."""
    token = NODE.set(node)
    try:
        yield
    finally:
        NODE.reset(token)


def short(data: bytes) -> str:
    """Return a digest that is short enough to be read."""
    return sha256(data).hexdigest()[:12]


class Trace:
    """A chain of lines ``time node event values``.

    Parameters
    ----------
    time_ns : callable
        The simulated time.
    write : callable, optional
        Gets every line, for a file.
    """

    def __init__(
        self, time_ns: Callable[[], int], *, write: Callable[[str], object] | None = None
    ) -> None:
        self.lines: deque[str] = deque(maxlen=LINES_MAX)
        self.count = 0
        self._time_ns = time_ns
        self._write = write
        self._hash = sha256()

    def note(self, node: str, event: str, *values: object) -> None:
        """Add a line."""
        line = " ".join((f"{self._time_ns() / 1e9:.9f}", node, event, *map(str, values)))
        self._hash.update(line.encode() + b"\n")
        self.lines.append(line)
        self.count += 1
        if self._write is not None:
            self._write(line + "\n")

    def hexdigest(self) -> str:
        """Return the hash over all lines so far."""
        return self._hash.copy().hexdigest()

    @contextmanager
    def logs(self, seen: Callable[[str, str, MutableMapping[str, Any]], None]) -> Iterator[None]:
        """Take what the nodes log as lines of the trace, and print none of it.

        Parameters
        ----------
        seen : callable
            ``seen(node, event, fields)``, told of each log line.
        """

        def take(_: object, level: str, fields: MutableMapping[str, Any]) -> NoReturn:
            node, event = NODE.get(), str(fields.pop("event"))
            text = (f"{name}={value}" for name, value in sorted(fields.items()))
            self.note(node, f"log.{level}", repr(event), *text)
            seen(node, event, fields)
            raise structlog.DropEvent

        before = structlog.get_config() if structlog.is_configured() else None
        # Else a level that an earlier command of this process has set would hide lines.
        structlog.reset_defaults()
        structlog.configure(processors=[take], cache_logger_on_first_use=False)
        try:
            yield
        finally:
            structlog.reset_defaults()
            if before is not None:
                structlog.configure(**before)
