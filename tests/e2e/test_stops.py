"""Nodes that stop, come back, and start from nothing.

``BLOCKS=5000`` makes the chain that an empty node fetches as long as that, and the rest in
proportion; times are printed, and asserted only where the protocol promises them.
"""

import asyncio
import os
import shutil
import statistics
import time
from collections.abc import Sequence
from typing import Any, Final

import pytest

from cli.client import Client
from cli.signing import Sender
from node.home import Home
from tests.e2e.network import (
    POLL_S,
    LiveNetwork,
    all_blocks,
    commit,
    is_reachable,
    live_network,
    patience,
    reading,
    wait_committed,
)

BLOCKS: Final = int(os.environ.get("BLOCKS", "150"))
IS_LONG: Final = BLOCKS > 1_000
COMMITS: Final = 200 if IS_LONG else 30
QUIET_S: Final = 30.0 if IS_LONG else 5.0
BACK_S: Final = 30.0
"""From the moment the third of four listens again to the next commit."""
DEVICES: Final = 5
ASKED: Final = 40


@pytest.mark.slow
@pytest.mark.timeout(1_200)
async def test_three_of_four_commit_and_two_wait_for_a_third(tmp_path, capsys):
    async with live_network(tmp_path) as network:
        devices = await network.register_devices(DEVICES)
        four_s = await _commit_times(network, devices, [0, 1, 2])
        network.stop(3)
        three_s = await _commit_times(network, devices, [0, 1, 2])

        network.stop(2)
        client = await network.client(0)
        waiting = reading(devices[0])
        before = await network.wait_equal(0, 1)
        await client.submit(waiting.wire)
        quiet_until = time.monotonic() + QUIET_S
        while time.monotonic() < quiet_until:
            for each in await network.clients([0, 1]):
                status = await each.status()
                assert (status["height"], status["block_hash"]) == (
                    before["height"],
                    before["block_hash"],
                ), "two of four commit nothing"
            await asyncio.sleep(0.2)

        started = time.monotonic()
        network.start(2)
        third = await network.client(2)
        async with patience("the third node listens"):
            while not await is_reachable(third):
                network.require_running(2)
                await asyncio.sleep(POLL_S)
        listening = time.monotonic()
        receipt = await wait_committed(client, waiting)
        committed = time.monotonic()
        network.start(3)
        await network.wait_ready()
        await commit(await network.client(3), reading(devices[1]))
        final = await network.wait_equal()
        await _require_same_blocks(await network.clients())

    # A proposer that the transaction had not reached may have ended its round with an empty block.
    assert receipt["height"] > before["height"]
    assert committed - listening <= BACK_S
    ratio = statistics.median(three_s) / statistics.median(four_s)
    with capsys.disabled():
        print(
            f"\nstops: {COMMITS} commits each, p50 (max) of four {_ms(four_s)}, of three "
            f"{_ms(three_s)} ms: {ratio:.2f} times; two: nothing in {QUIET_S:g} s, and the next "
            f"commit {committed - started:.1f} s after the third was started; height "
            f"{final['height']}, all equal"
        )


@pytest.mark.attack("A14")
@pytest.mark.slow
@pytest.mark.timeout(300 + BLOCKS)
async def test_node_that_starts_from_nothing_catches_up_and_answers_as_the_others(tmp_path, capsys):
    async with live_network(tmp_path, observers=1, start=range(4)) as network:
        devices = await network.register_devices(DEVICES)
        transactions = await _grow(network, devices, BLOCKS)
        height = (await network.wait_equal())["height"]
        assert height >= BLOCKS

        # By blocks, however many; tests/e2e/test_join.py joins by snapshot.
        for number in (3, 4):
            config = Home(network.home(number)).config
            config.write_text(config.read_text().replace('mode = "auto"', 'mode = "blocks"'))
        started = time.monotonic()
        network.start(4)
        await _wait_height(network, 4, height)
        observer_s = time.monotonic() - started
        await _require_same_answers(network, 4, devices, transactions)

        network.stop(3)
        home = Home(network.home(3))
        shutil.rmtree(home.chain)
        for file in home.log.parent.glob(f"{home.log.name}*"):
            file.unlink()
        started = time.monotonic()
        network.start(3)
        await _wait_height(network, 3, height)
        miner_s = time.monotonic() - started
        await _require_same_answers(network, 3, devices, transactions)

        # It has forgotten what it signed, and stands aside for two heights; then its vote counts.
        await network.wait_ready(0, 1, 2, 3)
        for number in range(4):
            await commit(await network.client(number), reading(devices[0], number))
        network.stop(2)
        await commit(await network.client(3), reading(devices[0]))
        final = await network.wait_equal()
        await _require_same_blocks(await network.clients())

    with capsys.disabled():
        print(
            f"\nempty: {height} blocks: an observer had them {observer_s:.1f} s and a wiped miner "
            f"{miner_s:.1f} s after its start, both with equal answers; the miner votes again, "
            f"height {final['height']}, all equal"
        )


async def _commit_times(
    network: LiveNetwork, devices: Sequence[Sender], numbers: Sequence[int]
) -> list[float]:
    """Return how many seconds each of so many commits took, one after the other."""
    clients = await network.clients(numbers)
    return [
        await commit(clients[n % len(clients)], reading(devices[n % len(devices)], n))
        for n in range(COMMITS)
    ]


async def _grow(network: LiveNetwork, devices: Sequence[Sender], blocks: int) -> list[str]:
    """Make at least so many blocks, and return the ids of the transactions in them."""
    clients = await network.clients()
    ids = []
    height = number = 0
    while height < blocks:
        transaction = reading(devices[number % len(devices)], number)
        await commit(clients[number % len(clients)], transaction)
        ids.append(transaction.id.hex())
        number += 1
        if number % 20 == 0:
            height = (await clients[0].status())["height"]
    return ids


async def _wait_height(network: LiveNetwork, number: int, height: int) -> None:
    client = await network.client(number)
    async with patience(f"node{number} fetches {height} blocks", 90 + height / 20):
        while not await client.is_ready(min_peers=1):
            network.require_running(number)
            await asyncio.sleep(POLL_S)
        await client.wait_height(height)


async def _require_same_answers(
    network: LiveNetwork, number: int, devices: Sequence[Sender], transactions: Sequence[str]
) -> None:
    """Assert that a node answers as node0 does, on a chain where nothing happens."""
    pair = await network.clients([0, number])
    paths = ["/v1/genesis", "/v1/params", "/v1/miners", "/v1/devices", "/v1/models"]
    for device in devices:
        at = f"/v1/devices/{device.address.hex()}"
        paths += [at, f"{at}/transactions", f"{at}/proof"]
    for id in transactions[:: max(1, len(transactions) // ASKED)]:
        paths += [f"/v1/transactions/{id}", f"/v1/transactions/{id}/proof"]
    for path in paths:
        first, second = [_comparable(await client.get(path)) for client in pair]
        assert first == second, path
    await _require_same_blocks(pair)


async def _require_same_blocks(clients: Sequence[Client]) -> None:
    """Assert that all serve the same chain up to the lowest of their heights."""
    chains = [[_comparable(block) for block in await all_blocks(client)] for client in clients]
    height = min(map(len, chains))
    assert all(chain[:height] == chains[0][:height] for chain in chains)


def _comparable(answer: dict[str, Any]) -> dict[str, Any]:
    # Different valid certificates of one block may exist.
    found = {name: value for name, value in answer.items() if name != "certificate"}
    if "items" in found:
        # Whether a model is here is told of the node, and not of the chain.
        found["items"] = [
            {name: value for name, value in item.items() if name != "here"}
            for item in found["items"]
        ]
    return found


def _ms(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.0f} ({max(seconds) * 1000:.0f})"
