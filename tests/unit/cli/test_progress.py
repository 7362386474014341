"""What commands show while they run."""

import sys
from io import StringIO

import pytest

from cli import progress
from cli.progress import Progress


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "is_shown"), [(Terminal(), True), (StringIO(), False)])
def test_what_is_waited_for_is_shown_in_place_on_a_terminal_alone(monkeypatch, stream, is_shown):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream)

    with Progress().waiting("waits for 3 members of [week-1]"):
        pass

    assert ("waits for 3 members of [week-1]" in stream.getvalue()) == is_shown


def test_a_line_is_printed_once_for_each_change(monkeypatch):
    stream = StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)

    with Progress().bar("joined", 3) as bar:
        for count in (0, 0, 1, 0, 1, 0):
            bar.advance(count)

    assert stream.getvalue().splitlines() == [f"• joined {done}/3" for done in range(3)]
