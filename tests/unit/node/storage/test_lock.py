"""Two nodes never share a home."""

import os
from pathlib import Path

import pytest

from node.errors import StorageError, StoreLocked
from node.storage.lock import FileLock, HomeLock
from tests.unit.node.storage.writers import start


def test_a_second_lock_on_one_home_is_refused_and_names_the_holder(tmp_path: Path):
    with HomeLock(tmp_path), pytest.raises(StoreLocked) as refusal:
        HomeLock(tmp_path)

    assert refusal.value.holder == os.getpid()
    assert refusal.value.path == tmp_path
    assert f"in use by process {os.getpid()}" in str(refusal.value)


def test_a_refused_try_does_not_loosen_the_lock(tmp_path: Path):
    with HomeLock(tmp_path):
        for _ in range(3):
            with pytest.raises(StoreLocked):
                HomeLock(tmp_path)


def test_a_lock_given_back_can_be_taken_again(tmp_path: Path):
    lock = HomeLock(tmp_path)
    lock.release()
    lock.release()

    HomeLock(tmp_path).release()


def test_locks_on_two_homes_do_not_meet(tmp_path: Path):
    with HomeLock(tmp_path / "a"), HomeLock(tmp_path / "b"):
        pass


def test_another_process_holds_the_lock_until_it_is_killed(tmp_path: Path):
    with start("lock", tmp_path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "0\n"
        with pytest.raises(StoreLocked) as refusal:
            HomeLock(tmp_path)
        holder.kill()

    assert refusal.value.holder == holder.pid
    HomeLock(tmp_path).release()


def test_a_lock_file_of_a_dead_process_is_no_hindrance(tmp_path: Path):
    (tmp_path / "node.lock").write_text("4711\n")

    HomeLock(tmp_path).release()


def test_a_lock_that_cannot_be_made_says_where(tmp_path: Path):
    (tmp_path / "file").touch()

    with pytest.raises(StorageError) as refusal:
        FileLock(tmp_path / "file" / "lock")

    assert refusal.value.path == tmp_path / "file"
