"""What commands show while they run."""

import sys
from io import StringIO

import pytest

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
