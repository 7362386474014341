"""A node killed at every system call by which it makes something durable: nothing is lost.

``strace`` ends a real node with SIGKILL as it enters the n-th call of one sort, in whichever thread
that is, LevelDB's own included; n counts up until the node gets through. ``make crashpoints``
counts to the end, the suite to the first.
"""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import Final

import pytest

from chain.transactions import Transaction
from cli.errors import CliError
from cli.signing import Sender
from node.home import Home
from tests.e2e.network import (
    PATIENCE_S,
    LiveNetwork,
    all_blocks,
    commit,
    live_network,
    patience,
    reading,
    wait_committed,
)

POINTS: Final = int(os.environ.get("POINTS", "1"))
"""How many calls of each sort are tried in each phase, at most."""
CALLS: Final = ("fsync", "fdatasync", "rename", "unlink", "pwrite64", "ftruncate", "mkdir")
VICTIM: Final = 0
HELPER: Final = 1
COURSE: Final = 4
"""Blocks that the victim takes part in while it waits for its end."""
LOG_COURSE: Final = 200
"""Blocks after which the write-ahead log has been rewritten."""
ATTACH_S: Final = 30.0

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed: apt install strace"
)


class Crashes:
    """Kills one node of a network again and again, and keeps the account."""

    def __init__(self, network: LiveNetwork, device: Sender, tell: Callable[[str], None]) -> None:
        self._network = network
        self._device = device
        self._tell = tell
        self._sent = 0
        self.acknowledged: list[Transaction] = []
        self.points: dict[str, int] = {}

    async def enumerate(self, phase: str, call: str) -> None:
        """Kill the victim at the first call of the phase, the second, … until it gets through."""
        for number in range(1, POINTS + 1):
            crash = {"birth": self._birth, "start": self._start, "run": self._run}[phase]
            died = await crash(call, number)
            if not died:
                # The call is waited for no longer; in a start it could still come.
                self._network.kill(VICTIM)
            # While births are tried the chain stands: the next one has to take in all of it again,
            # and would never get through.
            await self._recover(commits=phase != "birth" or not died)
            if not died:
                break
            self.points[f"{phase} {call}"] = number
        self._tell(f"crashpoints: {self.points.get(f'{phase} {call}', 0)} kills at {phase} {call}")

    async def _birth(self, call: str, number: int) -> bool:
        """Kill it in its first start, with nothing but its keys."""
        self._network.kill(VICTIM)
        shutil.rmtree(Home(self._network.home(VICTIM)).path / "data")
        return await self._start(call, number, course=0)

    async def _start(self, call: str, number: int, course: int = COURSE) -> bool:
        """Kill it in a start over what is there."""
        self._network.kill(VICTIM)
        # As a grandchild, so that the node itself stays the child that is waited for.
        self._network.start(VICTIM, through=["strace", "-D", *self._inject(call, number)])
        return await self._course(course)

    async def _run(self, call: str, number: int) -> bool:
        """Kill it while it takes part."""
        process = self._network.process_id(VICTIM)
        tracer = subprocess.Popen(["strace", *self._inject(call, number), "-p", str(process)])
        try:
            async with patience("strace has attached", ATTACH_S):
                while _tracer_of(process) != tracer.pid:
                    await asyncio.sleep(0.01)
            return await self._course(LOG_COURSE if call == "rename" else COURSE)
        finally:
            tracer.send_signal(signal.SIGTERM)
            tracer.wait(PATIENCE_S)

    async def _course(self, blocks: int) -> bool:
        """Let the others commit, with the victim as long as it lives; tell whether it died."""
        for _ in range(blocks):
            await self._commit(HELPER)
            if VICTIM not in self._network.running:
                return True
        with_victim = await self._network.client(VICTIM)
        for _ in range(int(PATIENCE_S / 0.05)):
            if VICTIM not in self._network.running:
                return True
            try:
                if await with_victim.is_ready(min_peers=1):
                    return False
            except CliError:
                pass  # it starts, or it is dying
            await asyncio.sleep(0.05)
        raise AssertionError(f"node{VICTIM} neither dies nor gets ready")

    async def _recover(self, *, commits: bool) -> None:
        """Start the victim as an operator would, and let it commit."""
        self._network.start(VICTIM)
        await self._network.wait_ready()
        # It may have lost everything, and have heard from nobody yet how far they are.
        await self._network.wait_equal()
        if commits:
            await self._commit(VICTIM)
            await self._network.wait_equal()

    def _inject(self, call: str, number: int) -> Sequence[str]:
        log = self._network.layout.directory / "strace.log"
        kill = f"inject={call}:signal=KILL:when={number}"
        return ("-f", "-qq", "-o", str(log), "-e", f"trace={call}", "-e", "signal=none", "-e", kill)

    async def _commit(self, number: int) -> None:
        self._sent += 1
        transaction = reading(self._device, self._sent)
        await commit(await self._network.client(number), transaction)
        self.acknowledged.append(transaction)


def _tracer_of(process: int) -> int:
    with open(f"/proc/{process}/status") as status:
        (line,) = [line for line in status if line.startswith("TracerPid:")]
    return int(line.split()[1])


@pytest.mark.attack("B6")
@needs_strace
@pytest.mark.slow
@pytest.mark.timeout(600 + 60 * POINTS * len(CALLS))
async def test_a_node_killed_at_any_call_that_makes_something_durable_comes_back(tmp_path, capsys):
    def tell(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="", flush=True)

    async with live_network(tmp_path) as network:
        home = Home(network.home(VICTIM))
        # strace counts the calls of each thread: with one thread for the disk that is all of them.
        home.config.write_text(home.config.read_text().replace("threads = 4", "threads = 1"))
        (device,) = await network.register_devices(1)
        crashes = Crashes(network, device, tell)
        for phase in ("birth", "start", "run"):
            for call in CALLS:
                await crashes.enumerate(phase, call)

        chains = [await all_blocks(client) for client in await network.clients()]
        committed = [id for block in chains[0] for id in block["transaction_ids"]]
        assert len(committed) == len(set(committed))
        assert {transaction.id.hex() for transaction in crashes.acknowledged} <= set(committed)
        hashes = [[block["header"]["hash"] for block in chain] for chain in chains]
        shortest = min(map(len, hashes))
        assert all(chain[:shortest] == hashes[0][:shortest] for chain in hashes)
        await wait_committed(await network.client(VICTIM), crashes.acknowledged[-1])
        for node in network.layout.nodes:
            assert "signed two things" not in network.layout.log(node).read_text()

    assert sum(crashes.points.values()) >= len(CALLS)
    tell(
        f"crashpoints: {sum(crashes.points.values())} kills at {crashes.points}; "
        f"{len(crashes.acknowledged)} acknowledged, none lost, none double; "
        "no conflicting signature, no manual step\n"
    )
