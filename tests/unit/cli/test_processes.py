"""Processes are known again, and only those are ended."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli.processes import Process, is_running, start, stop, usage

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('up', flush=True); time.sleep(60)"
    ),
]


def started(tmp_path: Path, command: list[str]) -> Process:
    process = start(command, log=tmp_path / "log", directory=tmp_path)
    while "up" not in (tmp_path / "log").read_text():
        assert is_running(process)
    return process


def test_a_started_process_runs_until_it_is_stopped(tmp_path):
    process = started(tmp_path, SLEEPER)

    assert is_running(process)
    used = usage(process)
    assert used is not None
    assert used.rss_bytes > 1_000_000

    assert stop([process]) == 0
    assert not is_running(process)
    assert usage(process) is None


def test_one_that_does_not_listen_is_killed_and_counted(tmp_path):
    process = started(tmp_path, STUBBORN)

    assert stop([process], patience_s=0.3) == 1
    assert not is_running(process)


def test_a_stranger_with_the_same_id_is_never_ended(tmp_path):
    process = started(tmp_path, SLEEPER)
    try:
        remembered = Process(pid=process.pid, started=process.started - 1)

        assert not is_running(remembered)
        assert stop([remembered], patience_s=0.1) == 0
        assert is_running(process)
    finally:
        stop([process])


def test_an_id_nobody_has_is_no_running_process():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()

    assert not is_running(Process(pid=child.pid, started=1))
    assert stop([Process(pid=child.pid, started=1)]) == 0


def test_a_ctrl_c_at_the_terminal_does_not_reach_it(tmp_path):
    process = started(tmp_path, SLEEPER)
    try:
        assert os.getpgid(process.pid) != os.getpgid(0)
    finally:
        stop([process])


def test_its_output_is_appended_to_the_log(tmp_path):
    (tmp_path / "log").write_text("before\n")
    stop([started(tmp_path, SLEEPER)])

    assert (tmp_path / "log").read_text() == "before\nup\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_one_that_ended_by_itself_is_noticed(tmp_path, number):
    process = started(tmp_path, SLEEPER)
    os.kill(process.pid, number)
    while is_running(process):
        pass

    assert stop([process]) == 0
