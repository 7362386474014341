"""Starting processes, knowing them again, and ending only those.

A process is known by its id together with the time it was started: the system gives an id to
another process once the first has ended, and a stranger must never be ended in its place.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from node.clock import SystemClock

PID_MAX: Final = 2**22
"""No process of Linux has a larger id; see proc(5)."""

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_POLL_S: Final = 0.05
_STATE, _UTIME, _STIME, _STARTED, _RESIDENT = 0, 11, 12, 19, 21
"""Fields of /proc/PID/stat behind the command's name; see proc(5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process as it can be known again.

    Parameters
    ----------
    started : int
        When it was started, in the system's ticks since boot.
    """

    pid: Annotated[int, Field(ge=1, le=PID_MAX)]
    started: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a process has used and uses."""

    cpu_s: float
    rss_bytes: int


def start(command: Sequence[str], *, log: Path, directory: Path) -> Process:
    """Start `command` in a session of its own, so that a Ctrl-C at the terminal spares it.

    Parameters
    ----------
    log : Path
        Its output is appended there.
    """
    with log.open("ab") as output:
        child = subprocess.Popen(
            list(command),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    process = process_of(child.pid)
    assert process is not None, "a child stays in the process table until it is waited for"
    # Nothing here waits for the child object: `is_running` reaps it.
    child.returncode = 0
    return process


def process_of(pid: int) -> Process | None:
    """Return the process that has this id now, or None."""
    fields = _stat(pid)
    return None if fields is None else Process(pid=pid, started=int(fields[_STARTED]))


def python_command(*arguments: str) -> list[str]:
    """Return the command line of a module run by this interpreter."""
    # -P: a folder called `node` beside the network is not the package.
    return [sys.executable, "-P", "-m", *arguments]


def is_running(process: Process) -> bool:
    """Tell whether this very process still runs."""
    _reap(process.pid)
    fields = _stat(process.pid)
    return fields is not None and fields[_STATE] != "Z" and int(fields[_STARTED]) == process.started


def usage(process: Process) -> Usage | None:
    """Return what the process uses, or None where it has ended."""
    fields = _stat(process.pid)
    if fields is None or int(fields[_STARTED]) != process.started:
        return None
    ticks = int(fields[_UTIME]) + int(fields[_STIME])
    return Usage(cpu_s=ticks / _TICKS_PER_S, rss_bytes=int(fields[_RESIDENT]) * _PAGE_BYTES)


def stop(processes: Sequence[Process], *, patience_s: float = 15.0) -> int:
    """End the processes, first by asking them, and return how many had to be killed."""
    for process in processes:
        send_signal(process, signal.SIGTERM)
    left = _wait_ended(processes, patience_s)
    for process in left:
        send_signal(process, signal.SIGKILL)
    _wait_ended(left, patience_s)
    return len(left)


def _wait_ended(processes: Sequence[Process], patience_s: float) -> list[Process]:
    clock = SystemClock()
    deadline = clock.monotonic_ns() + int(patience_s * 1e9)
    while left := [process for process in processes if is_running(process)]:
        if clock.monotonic_ns() > deadline:
            break
        time.sleep(_POLL_S)
    return left


def send_signal(process: Process, number: signal.Signals) -> None:
    """Send a signal to this very process, unless it has ended."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        # The handle stays with the process it was opened for, so the id cannot pass to another
        # between the look and the signal.
        if is_running(process):
            signal.pidfd_send_signal(handle, number)
    finally:
        os.close(handle)


def _reap(pid: int) -> None:
    """Let go of a child that has ended; one of somebody else is left alone."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name stands in brackets and may hold anything.
    return text[text.rindex(")") + 2 :].split()
