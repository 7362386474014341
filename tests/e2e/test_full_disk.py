"""A disk that gets full, or refuses, while a node runs: it stops, says why, and comes back.

The log and the database are each put on a file system of their own, which is then filled. The
others go on meanwhile, and nothing that the node signed is contradicted afterwards.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from cli.exit_codes import ExitCode
from cli.processes import python_command
from cli.signing import Sender
from node.home import Home
from tests.e2e.network import LiveNetwork, commit, live_network, reading

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

VICTIM: Final = 3
SIZE: Final = "48m"
"""Of the file system; more than the node needs."""
COMMITS_MAX: Final = 200
"""After so many blocks it must have met the end of the disk."""
FAILS_FROM: Final = 60
"""The call from which on a failing disk refuses."""


def _can_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    # A container's root may not.
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True
    )
    return tried.returncode == 0


needs_mount = pytest.mark.skipif(not _can_mount(), reason="only root may mount a file system")
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@contextmanager
def _small_disk(path: Path) -> Iterator[None]:
    """Put a small file system at a directory, with what is in it."""
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)
    path.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", path], check=True)
    try:
        shutil.copytree(aside, path, dirs_exist_ok=True, symlinks=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@contextmanager
def _disk_of(home: Home, which: str) -> Iterator[Path]:
    """Put the log, or the database, on a small disk of its own, and yield where that is."""
    home.chain.mkdir(mode=0o700, exist_ok=True)
    with ExitStack() as stack:
        if which == "database":
            stack.enter_context(_small_disk(home.chain))
            yield home.chain
        else:
            elsewhere = home.path / "elsewhere"
            home.chain.rename(elsewhere)
            home.chain.symlink_to(elsewhere)
            stack.enter_context(_small_disk(home.log.parent))
            yield home.log.parent


def _fill(disk: Path) -> Path:
    """Write until nothing more fits."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return ballast


async def _commit_until_it_ends(network: LiveNetwork, device: Sender, first: int = 0) -> int:
    """Let the network commit until the victim has ended; return how it did."""
    client = await network.client(0)
    for number in range(first, first + COMMITS_MAX):
        await commit(client, reading(device, number))
        if VICTIM not in network.running:
            return network.wait_ended(VICTIM)
    raise AssertionError("the node goes on, whatever the disk says")


async def _require_whole(network: LiveNetwork, device: Sender) -> None:
    """Check that the victim takes part again: without node 1 the others need it."""
    network.start(VICTIM)
    await network.wait_ready()
    await network.wait_equal()
    network.stop(1)
    await commit(await network.client(VICTIM), reading(device, COMMITS_MAX))
    await network.wait_equal()
    client = await network.client(0)
    assert (await client.get("/v1/evidence"))["items"] == []
    network.stop(VICTIM)
    verified = subprocess.run(
        python_command("cli", "db", "verify", "--home", str(network.home(VICTIM))),
        capture_output=True,
        text=True,
    )
    assert verified.stdout == "no damage found\n", verified.stderr


def _words(network: LiveNetwork) -> list[str]:
    """Return what the victim said at its end."""
    log = network.layout.log(network.layout.nodes[VICTIM]).read_text(errors="replace")
    return [line for line in log.splitlines() if line.startswith(("error: ", "  try: "))]


@needs_mount
@pytest.mark.parametrize("which", ["log", "database"])
async def test_a_node_whose_disk_gets_full_stops_and_resumes_when_there_is_room(tmp_path, which):
    async with live_network(tmp_path, start=()) as network:
        with _disk_of(Home(network.home(VICTIM)), which) as disk:
            network.start()
            await network.wait_ready()
            (device,) = await network.register_devices(1)
            ballast = _fill(disk)

            status = await _commit_until_it_ends(network, device)

            said = _words(network)
            assert status == ExitCode.STORAGE, said
            assert len(said) == 2, said
            assert "make room" in said[0]
            network.start(VICTIM)
            again = await _commit_until_it_ends(network, device, first=COMMITS_MAX)
            assert again == ExitCode.STORAGE, "there is still no room"
            ballast.unlink()
            await _require_whole(network, device)


@needs_strace
@pytest.mark.parametrize(("which", "call"), [("log", "fsync"), ("database", "fdatasync")])
async def test_a_node_whose_disk_fails_stops_and_resumes_when_it_works_again(tmp_path, which, call):
    async with live_network(tmp_path, start=()) as network:
        options = ["-f", "-qq", "-o", str(tmp_path / "strace.log"), "-e", f"trace={call}"]
        fail = f"inject={call}:error=EIO:when={FAILS_FROM}+"
        network.start(0, 1, 2)
        network.start(VICTIM, through=["strace", "-D", *options, "-e", "signal=none", "-e", fail])
        await network.wait_ready()
        (device,) = await network.register_devices(1)

        status = await _commit_until_it_ends(network, device)

        said = _words(network)
        assert status == ExitCode.STORAGE, said
        assert len(said) == 2, said
        assert "Input/output error" in said[0]
        assert ("consensus.log" if which == "log" else "chain") in said[0]
        await _require_whole(network, device)
