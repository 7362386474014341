"""A second model is published, fetched by every miner, voted in, and judges from its height on."""

import asyncio
import urllib.request
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chain.blobs import blob_digest
from chain.kinds.device_data import DeviceData
from chain.kinds.models import ModelRegister
from chain.payloads import Flow
from cli.client import Client
from cli.errors import Refused
from ml_validator.artifact import Artifact
from ml_validator.bundled import bundled_model
from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.manifest import Manifest
from tests.e2e.network import PATIENCE_S, POLL_S, commit, live_network, patience, reading
from tests.e2e.test_membership import Operators

FLOW = DeviceData(
    payload=Flow(schema=NSL_KDD_SCHEMA.digest, integers=(1,) * 38, categories=("tcp", "http", "SF"))
)


def second_model() -> tuple[Artifact, Manifest]:
    """Return the model of the package with another threshold: another model to the chain."""
    artifact, manifest = bundled_model()
    second = replace(artifact, threshold_ppm=artifact.threshold_ppm - 1)
    described = replace(
        manifest, name="second", model=second.digest.hex(), threshold_ppm=second.threshold_ppm
    )
    described.check(second)
    return second, described


async def read(client: Client, id: str) -> bytes:
    """Return a blob, or nothing where the node does not hold it."""
    with suppress(Refused):
        return b"".join([part async for part in client.blob(id)])
    return b""


@pytest.mark.timeout(300)
async def test_verdicts_bear_the_digest_of_the_model_that_was_voted_in(tmp_path: Path) -> None:
    first, _ = bundled_model()
    second, manifest = second_model()
    model = second.digest.hex()
    (tmp_path / "second.safetensors").write_bytes(second.data)
    (tmp_path / "second.json").write_text(manifest.to_json())
    async with live_network(tmp_path) as network:
        operators = Operators(network, tmp_path)
        (device,) = await network.register_devices(1)
        client = await network.client(0)
        publish = ("model", "publish", str(tmp_path / "second.safetensors"))
        options = ("--manifest", str(tmp_path / "second.json"))
        await operators.run(*publish, *options, "--key", str(network.layout.registrar_key))
        async with patience("every node holds the model and its manifest"):
            for other in await network.clients():
                while await read(other, model) != second.data:
                    await asyncio.sleep(POLL_S)
        network.stop(3)
        network.start(3)
        await network.wait_ready()

        opened = await operators.run("model", "activate", model, "--key", operators.key(0))
        for number in (1, 2):
            await operators.run("miner", "vote", opened["id"], "--key", operators.key(number))
        known = {entry["id"]: entry for entry in await operators.run("model", "list")}
        from_height = known[model]["active_from_height"]
        heard: dict[str, set[str]] = {first.digest.hex(): set(), model: set()}
        async with patience("every miner judges by the new model"):
            while len(heard[model]) < network.size:
                await commit(client, device.sign("device.data", FLOW))
                await commit(client, reading(device))
                for verdict in await client.pages("/v1/verdicts", limit=10_000):
                    is_new = verdict["judged_height"] >= from_height
                    assert (verdict["model"] == model) == is_new, verdict
                    heard[verdict["model"]].add(verdict["miner"])
        await network.wait_equal()


@pytest.mark.timeout(300)
async def test_a_model_that_is_registered_with_another_threshold_is_refused_by_every_miner(
    tmp_path: Path,
) -> None:
    first, _ = bundled_model()
    second, manifest = second_model()
    model = second.digest.hex()
    # Whoever registers it says that every flow is anomalous under it.
    lie = ModelRegister(
        model=second.digest,
        name="second",
        schema=second.schema.digest,
        threshold_ppm=0,
        size_bytes=len(second.data),
        manifest=blob_digest(manifest.to_json().encode()),
    )
    said = f"is {second.threshold_ppm} ppm, registered is 0 ppm"
    async with live_network(tmp_path) as network:
        operators = Operators(network, tmp_path)
        (device,) = await network.register_devices(1)
        client = await network.client(0)
        await commit(client, network.registrar.sign("model.register", lie))
        await client.put_blob(model, second.data)

        opened = await operators.run("model", "activate", model, "--key", operators.key(0))
        for other in await network.clients():
            async with patience("miners say so before they vote"):
                while (await entry(other, model))["here"] is None:
                    await asyncio.sleep(POLL_S)
            assert (await entry(other, model))["here"]["state"] == "refused"
            assert said in (await entry(other, model))["here"]["reason"]
        # They vote for it nevertheless.
        for number in (1, 2):
            await operators.run("miner", "vote", opened["id"], "--key", operators.key(number))
        async with patience("it judges"):
            while not (await entry(client, model))["active"]:
                await commit(client, reading(device))
        before = (await client.status())["height"]
        await commit(client, device.sign("device.data", FLOW))
        async with patience("miners have passed over the flow"):
            while await counted(client, "securenet_verdicts_abstained_total") < 1:
                await commit(client, reading(device))
        assert await counted(client, "securenet_models_refused") == 1
        assert await counted(client, "securenet_verdicts_failed_total") == 0
        verdicts = await client.pages("/v1/verdicts", limit=10_000)
        assert [verdict for verdict in verdicts if verdict["judged_height"] > before] == []
        await network.wait_equal()
        assert said in network.layout.log(network.layout.nodes[0]).read_text()

        # The model before it is one vote away, and judges again.
        back = await operators.run(
            "model", "activate", first.digest.hex(), "--key", operators.key(0)
        )
        for number in (1, 2):
            await operators.run("miner", "vote", back["id"], "--key", operators.key(number))
        async with patience("every miner judges again"):
            heard: set[str] = set()
            while len(heard) < network.size:
                await commit(client, device.sign("device.data", FLOW))
                await commit(client, reading(device))
                for verdict in await client.pages("/v1/verdicts", limit=10_000):
                    assert verdict["model"] == first.digest.hex()
                    heard.add(verdict["miner"])
        await network.wait_equal()


async def entry(client: Client, model: str) -> dict[str, Any]:
    """Return what a node says of a model."""
    known = {entry["id"]: entry for entry in await client.pages("/v1/models", limit=100)}
    return known[model]


async def counted(client: Client, name: str) -> float:
    """Return a metric of a node."""

    def read_metrics() -> str:
        with urllib.request.urlopen(f"{client.url}/metrics", timeout=PATIENCE_S) as answer:
            return str(answer.read().decode())

    text = await asyncio.to_thread(read_metrics)
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])
