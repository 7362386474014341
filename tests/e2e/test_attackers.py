"""Three attackers among fifty devices, on real traffic that the bundled model was not made from."""

import asyncio
from collections import defaultdict
from itertools import cycle
from pathlib import Path

import pytest

from chain.kinds.device_data import DeviceData
from cli.client import Client
from ml_validator.bundled import bundled_model
from ml_validator.nsl_kdd import TEST_FILE, read_records
from tests.e2e.network import POLL_S, live_network, patience

DEVICES = 50
ATTACKERS = 3
FLOWS = 110
"""Of each device; one flow of every device makes a batch."""
QUARANTINED_WITHIN_MS = 10_000
"""After the block with an attacker's hundredth flow, or with the last that it got in."""
FIRST_FLOWS = 100


async def time_ms(client: Client, height: int) -> int:
    """Return the time of a block."""
    time: int = (await client.block(height))["header"]["time_ms"]
    return time


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_attackers_are_quarantined_in_time_and_nobody_else(tmp_path: Path, nsl_kdd: Path):
    assert "low-false-alarm" in bundled_model()[1].name, "networks begin with this mode"
    rows: dict[bool, list[DeviceData]] = {True: [], False: []}
    for record in read_records(nsl_kdd / TEST_FILE):
        rows[record.is_attack].append(DeviceData(payload=record.flow))
    attacks, normal = cycle(rows[True]), cycle(rows[False])
    async with live_network(tmp_path) as network:
        clients = await network.clients()
        devices = await network.register_devices(DEVICES)
        attackers = [device.address.hex() for device in devices[:ATTACKERS]]
        sent = defaultdict(list)
        for turn in range(FLOWS):
            signed = [
                device.sign("device.data", next(attacks if place < ATTACKERS else normal))
                for place, device in enumerate(devices)
            ]
            results = await clients[turn % len(clients)].submit_batch([tx.wire for tx in signed])
            for device, transaction, result in zip(devices, signed, results, strict=True):
                if result.refusal is None:
                    sent[device.address.hex()].append(transaction)
                else:
                    assert device.address.hex() in attackers, result.refusal
                    assert result.refusal.code == "device_not_active"
        async with patience("the attackers are quarantined"):
            while len(await clients[0].pages("/v1/measures", limit=DEVICES)) < ATTACKERS:
                await asyncio.sleep(POLL_S)
        await network.wait_equal()

        measures = await clients[0].pages("/v1/measures", limit=DEVICES)

        assert {measure["device"] for measure in measures} == set(attackers)
        for measure in measures:
            assert measure["action"] == "quarantine"
            first = sent[measure["device"]][:FIRST_FLOWS]
            heights = [(await clients[0].transaction(flow.id.hex()))["height"] for flow in first]
            # What was pooled at the moment of the quarantine is refused after all.
            last_ms = await time_ms(clients[0], max(filter(None, heights)))
            assert await time_ms(clients[0], measure["height"]) <= last_ms + QUARANTINED_WITHIN_MS
