"""Nodes killed at random while transactions come in: nothing that was acknowledged is lost.

``make kill KILLS=50 RATE=500`` is the long run; ``SEED`` repeats the choice of nodes and moments.
"""

import asyncio
import os
import random
from typing import Any, Final

import pytest

from tests.e2e.load import Book, Load, follow
from tests.e2e.network import LiveNetwork, all_blocks, live_network

KILLS: Final = int(os.environ.get("KILLS", "5"))
RATE: Final = int(os.environ.get("RATE", "100"))
SEED: Final = int(os.environ.get("SEED", "0")) or random.randrange(1, 2**32)
DEVICES: Final = 20
SECONDS_PER_KILL: Final = 30
"""A bound, not a measure: most take three."""
ASKED_ONE_BY_ONE: Final = 50


@pytest.mark.attack("A13")
@pytest.mark.slow
@pytest.mark.timeout(240 + SECONDS_PER_KILL * KILLS)
async def test_what_was_acknowledged_is_on_all_nodes_after_they_were_killed(tmp_path, capsys):
    book, choice = Book(), random.Random(SEED)
    async with live_network(tmp_path) as network:
        devices = await network.register_devices(DEVICES)
        clients = await network.clients()
        load = Load(clients, devices, book, rate=RATE)
        async with asyncio.TaskGroup() as group:
            followers = [group.create_task(follow(client, book)) for client in clients]
            sending = group.create_task(load.run())
            kinds = await _kill(network, choice, KILLS)
            load.stop()
            await sending
            for follower in followers:
                follower.cancel()

        final = await network.wait_equal()
        chains = [await all_blocks(client) for client in clients]
        for chain in chains:
            _check(chain, book)
        last = min(len(chain) for chain in chains)
        assert last > final["height"]
        parts = [_without_certificates(chain[:last]) for chain in chains]
        assert all(part == parts[0] for part in parts)
        for id in choice.sample(sorted(book.acknowledged), min(ASKED_ONE_BY_ONE, KILLS * 10)):
            answers = [await client.transaction(id) for client in clients]
            assert all(answer["status"] == "committed" for answer in answers)
            assert all(answer["receipt"] == answers[0]["receipt"] for answer in answers)

    unknown = len(book.submitted - book.acknowledged.keys())
    with capsys.disabled():
        print(
            f"\nkill: {KILLS} kills ({kinds}), seed {SEED}: submitted {len(book.submitted)} at "
            f"{len(book.submitted) / load.seconds:.0f} tx/s, receipts waited for {book.receipts}, "
            f"acknowledged {len(book.acknowledged)}, of these lost 0, double 0; never acknowledged "
            f"{unknown}; refused {dict(book.refused)}; height {final['height']}, 4 nodes equal"
        )


def test_check_finds_what_is_lost_doubled_or_forked():
    def block(height: int, hash: str, *ids: str) -> dict[str, Any]:
        return {"header": {"height": height, "hash": hash}, "transaction_ids": list(ids)}

    chain = [block(0, "g"), block(1, "a", "x"), block(2, "b", "y")]
    book = Book()
    for each in chain:
        book.on_block(each)
    _check(chain, book)
    for bad in (
        [*chain[:2], block(2, "b")],
        [*chain, block(3, "c", "x")],
        [*chain[:2], block(2, "c", "y")],
        [chain[0], block(1, "a", "y"), block(2, "b", "x")],
    ):
        with pytest.raises(AssertionError):
            _check(bad, book)
    with pytest.raises(AssertionError, match="two blocks of height 2"):
        book.on_block(block(2, "c", "y"))


async def _kill(network: LiveNetwork, choice: random.Random, kills: int) -> str:
    """Kill nodes, one or more at a time, at work or while they start; all run again at the end."""
    done = in_start = together = 0
    while done < kills:
        await asyncio.sleep(choice.uniform(0.2, 1.5))
        count = min(kills - done, choice.choices([1, 2, 4], [16, 3, 1])[0])
        victims = choice.sample(range(network.size), count)
        network.kill(*victims)
        done += count
        together += count if count > 1 else 0
        await asyncio.sleep(choice.uniform(0, 1))
        network.start(*victims)
        if done < kills and choice.random() < 0.25:
            # While it starts, recovers or catches up; without waiting for the others either.
            await asyncio.sleep(choice.uniform(0.1, 3))
            network.require_running(*victims)
            network.kill(victims[0])
            done += 1
            in_start += 1
            network.start(victims[0])
        await network.wait_ready(min_peers=0)
    await network.wait_ready()
    return f"{together} with others, {in_start} while starting"


def _check(chain: list[dict[str, Any]], book: Book) -> None:
    """Assert that a node's chain holds all that any node has said, and nothing twice."""
    ids = [id for block in chain for id in block["transaction_ids"]]
    heights = {id: block["header"]["height"] for block in chain for id in block["transaction_ids"]}
    assert len(ids) == len(heights), "no transaction is committed twice"
    lost = {id: at for id, at in book.acknowledged.items() if heights.get(id) != at}
    assert not lost, "what was acknowledged is where the receipt said"
    for height, hash in book.blocks.items():
        assert chain[height]["header"]["hash"] == hash


def _without_certificates(chain: list[dict[str, Any]]) -> list[Any]:
    """Return what must be equal: different valid certificates of one block may exist."""
    return [(block["header"], block["transaction_ids"]) for block in chain]
