"""A new node joins a long chain by snapshot, from real nodes over real connections.

``TRANSACTIONS`` and ``PER_BLOCK`` in the environment say how long the chain is.
"""

import asyncio
import json
import os
import shutil
import time
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from chain.crypto import address_of
from chain.genesis import render_genesis
from chain.types import TimestampMs
from cli.testnet.create import create_network
from node.home import Home, load_genesis
from node.keys import load_key
from tests.e2e.long_chain import BLOCK_INTERVAL_MS, write_chain
from tests.e2e.network import LiveNetwork, free_ports, patience

TRANSACTIONS = int(os.environ.get("TRANSACTIONS", "15000"))
PER_BLOCK = int(os.environ.get("PER_BLOCK", "50" if TRANSACTIONS < 100_000 else "500"))


@pytest.mark.timeout(3_600)
async def test_a_new_node_joins_a_long_chain_by_snapshot(tmp_path):
    with free_ports(5) as base_port:
        layout = create_network(tmp_path / "network", miners=4, observers=1, base_port=base_port)
    homes = [Home(layout.home(node)) for node in layout.nodes]
    blocks = TRANSACTIONS // PER_BLOCK + 10
    now_ms = time.time_ns() // 1_000_000
    genesis = replace(
        load_genesis(homes[0].genesis),
        time_ms=TimestampMs(now_ms - blocks * BLOCK_INTERVAL_MS),
    )
    for home in homes:
        home.genesis.write_text(json.dumps(render_genesis(genesis)))
    keys = {address_of((key := load_key(home.miner_key)).public): key for home in homes[:4]}
    async with AsyncExitStack() as sessions:
        network = LiveNetwork(layout, sessions)
        height = await write_chain(
            homes[0],
            genesis,
            keys=keys,
            registrar=network.registrar,
            transactions=TRANSACTIONS,
            per_block=PER_BLOCK,
        )
        shutil.copytree(homes[0].chain, homes[1].chain)
        config = homes[4].config.read_text()
        homes[4].config.write_text(config.replace('mode = "auto"', 'mode = "snapshot"'))
        try:
            network.start(0, 1)
            await network.wait_ready(0, 1, min_peers=1)
            begun_s = time.monotonic()
            network.start(4)
            client = await network.client(4)
            async with patience("the node joins", 600):
                while True:
                    network.require_running(4)
                    try:
                        status = await client.status()
                    except Exception:
                        status = {"height": 0}
                    if status["height"] >= height:
                        break
                    await asyncio.sleep(0.05)
            took_s = time.monotonic() - begun_s
            assert status["first_heights"]["bodies"] > 1
            kept = height + 1 - status["first_heights"]["bodies"]
            print(
                f"joined {TRANSACTIONS} transactions in {height} blocks in {took_s:.1f} s "
                f"(look-back of {kept} blocks, {kept * PER_BLOCK} transactions)"
            )
            network.stop(0, 1, 4)
        finally:
            network.print_logs()
            network.kill_all()
