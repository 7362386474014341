"""Progress of long commands, on stderr: bars on a terminal, lines elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import typer

from node.clock import SystemClock
from node.exit_codes import printable

LINE_EVERY_S: Final = 2.0


class Bar(Protocol):
    """How far one piece of work is."""

    def advance(self, count: int = 1) -> None:
        """Tell that `count` more of the total are done."""
        ...


class Progress:
    """Tells what a command is at."""

    def phase(self, text: str) -> None:
        """Tell that something begins that has no measure."""
        typer.echo(f"• {printable(text)}", err=True)

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show what is waited for, in place on a terminal; elsewhere the lines before have to do.

        Nothing else may be printed meanwhile.
        """
        if not text or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.text import Text

        with Console(stderr=True).status(Text(printable(text))):
            yield

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Bar]:
        """Show how far a piece of work with a measure is."""
        if not sys.stderr.isatty():
            lines = _Lines(text, total)
            yield lines
            lines.end()
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("• {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with RichProgress(*columns, console=Console(stderr=True)) as rich:
            task = rich.add_task(printable(text), total=total)
            yield _RichBar(lambda count: rich.advance(task, count))


class _RichBar:
    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance

    def advance(self, count: int = 1) -> None:
        self._advance(count)


class _Lines:
    def __init__(self, text: str, total: int) -> None:
        self._text = printable(text)
        self._total = total
        self._done = 0
        self._shown: int | None = None
        self._clock = SystemClock()
        self._next_ns = self._clock.monotonic_ns() + int(LINE_EVERY_S * 1e9)

    def advance(self, count: int = 1) -> None:
        self._done += count
        now = self._clock.monotonic_ns()
        if now >= self._next_ns:
            self._next_ns = now + int(LINE_EVERY_S * 1e9)
            self.end()

    def end(self) -> None:
        """Print a line, unless it was the last."""
        if self._shown != self._done:
            self._shown = self._done
            typer.echo(f"• {self._text} {self._done}/{self._total}", err=True)
