"""Flower for real: a SuperLink and two SuperNodes over TLS, anchored on four real miners.

Runs by ``make flower-e2e`` alone: it takes a minute or two, most of which Flower sleeps.
"""

import asyncio
import os
from pathlib import Path
from time import monotonic

import pytest

from tests.e2e.consortium import gateways, register
from tests.e2e.flower_federation import APP, LINK, flower_federation
from tests.e2e.network import live_network, patience

pytestmark = pytest.mark.skipif(not os.environ.get("FLOWER"), reason="needs make flower-e2e")

ROUNDS = 2
RUN_S = 300
POLL_S = 1.0


@pytest.mark.timeout(600)
async def test_a_federation_of_flower_is_anchored_round_by_round(tmp_path: Path) -> None:
    async with live_network(tmp_path) as network:
        client = await network.client(0)
        (tmp_path / "gateways").mkdir()
        with (
            gateways(network, tmp_path / "gateways", ((), ())) as made,
            flower_federation(tmp_path / "flower") as flower,
        ):
            await register(network, client, made)
            flower.start_superlink()
            async with patience("the SuperLink answers", 60):
                while "Uvicorn running" not in flower.said("superlink"):
                    await asyncio.sleep(POLL_S)
            for gateway, target in zip(made, (1.0, 3.0), strict=True):
                key = str(tmp_path / "gateways" / gateway.name / "key.json")
                settings: dict[str, str | float] = {
                    "securenet-rpc": gateway.rpc,
                    "securenet-key": key,
                    "securenet-trust": network.genesis.hash.hex(),
                    "target": target,
                }
                await asyncio.to_thread(flower.start_supernode, gateway.name, settings)
            options = [
                f'rpc="{network.layout.nodes[0].rpc}"',
                f'key="{network.layout.registrar_key}"',
                f"rounds={ROUNDS}",
            ]
            began = monotonic()
            said = await asyncio.to_thread(
                flower.run, "run", str(APP), LINK, "--run-config", " ".join(options), "--stream",
                timeout_s=RUN_S,
            )  # fmt: skip

            print(f"{ROUNDS} rounds of Flower on the chain: {monotonic() - began:.0f} s")

        rounds = await client.pages("/v1/rounds", limit=10)
        # The mean of the targets is 2 everywhere: from 0 to 1 to 1.5.
        assert "learned [1.5, 1.5, 1.5, 1.5] {}" in said, said
        assert [found["phase"] for found in rounds] == ["finished"] * ROUNDS
        await network.wait_equal()
