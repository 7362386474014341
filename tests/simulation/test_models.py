"""A model on its way to the miners: published at one, activated by vote, fetched by all."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from chain.blobs import CHUNK_SIZE, BlobChunk, blob_digest
from chain.kinds import KINDS
from chain.kinds.models import ModelActivate, ModelRegister
from chain.kinds.vote import MinerVote
from chain.payloads import Flow
from chain.records.verdicts import JUDGEMENT_TABLE, TALLY_TABLE
from chain.state import active_model_at
from chain.table import height_key
from chain.types import Address, Digest
from ml_validator.registration import Registration
from node.protocol import ChunkAnswer, GetChunk
from node.service import Node
from tests.builders import digest_of
from tests.simulation.test_evidence import govern
from tests.simulation.workload import FLOWING, Workload
from tests.simulation.world import FLOW_SCHEMA, MODEL, THRESHOLD_PPM, Judge, Settings, World
from tests.unit.node.blobs.stored import put

DATA = Random(7).randbytes(6 * CHUNK_SIZE - 5)
DIGEST = blob_digest(DATA)


def registration(
    threshold_ppm: int = THRESHOLD_PPM, *, size_bytes: int = len(DATA)
) -> ModelRegister:
    return ModelRegister(
        model=DIGEST,
        name="second",
        schema=FLOW_SCHEMA,
        threshold_ppm=threshold_ppm,
        size_bytes=size_bytes,
        manifest=DIGEST,
    )


async def committed(world: World, load: Workload, kind: str, body: Any, via: str) -> None:
    transaction = load.client.sign_as_registrar(kind, body)
    await world.node(via).submit([transaction.wire])
    await world.until(lambda: transaction.id in world.ledger.places, within_s=60, what=kind)


async def judged(world: World, load: Workload, via: str) -> tuple[int, dict[Address, Digest]]:
    """Commit a flow; return the height of its block, and by what each miner judged it."""
    flow = Flow(schema=FLOW_SCHEMA, integers=(1,), categories=())
    report = load.client.report(load.client.devices[FLOWING[0]], flow)
    await world.node(via).submit([report.wire])
    await world.until(lambda: report.id in world.ledger.places, within_s=60, what="a flow")
    height = world.ledger.places[report.id][0]
    # So long every detector has to be heard; nothing else happens meanwhile.
    await asyncio.sleep(20)
    found: dict[Address, Digest] = {}
    chain = world.node(via).chain
    for at in range(height, chain.height + 1):
        block = chain.block(at)
        assert block is not None
        for transaction in block.transactions:
            if transaction.payload.kind == "verdict":
                verdict = KINDS["verdict"].decode(transaction)
                if verdict.height == height:
                    found[transaction.payload.sender] = verdict.model
    return height, found


async def activate(world: World, model: Digest, *voters: str) -> None:
    """Vote for a model, and return once the next block is judged by it."""
    proposal = await govern(world, "model.activate", ModelActivate(model=model), voters[0])
    for voter in voters[1:]:
        await govern(world, "miner.vote", MinerVote(proposal=proposal, approve=True), voter)
    await world.until(
        lambda: active_model_at(world.ledger.tip.state, world.ledger.height + 1) == model,
        within_s=60,
        what="the activation",
    )


def lie(question: GetChunk) -> ChunkAnswer:
    data = bytes(CHUNK_SIZE)
    chunk = BlobChunk(
        size=len(DATA), root=Digest(bytes(32)), index=question.index, path=(), data=data
    )
    return ChunkAnswer(digest=question.digest, index=question.index, chunk=chunk)


def withhold_from(node: Node, index: int) -> Callable[[], None]:
    """Let a node hold back the chunks from `index` on; return what ends it."""
    answers: Any = node._answers
    honest = answers._chunk

    def chunk(question: GetChunk) -> ChunkAnswer:
        if question.index < index:
            return honest(question)  # type: ignore[no-any-return]
        return ChunkAnswer(digest=question.digest, index=question.index, chunk=None)

    def release() -> None:
        answers._chunk = honest

    answers._chunk = chunk
    return release


def test_a_model_is_activated_while_a_miner_is_away_and_reaches_it_over_a_crash_past_a_liar():
    async def scene(world: World) -> None:
        world.start()
        load = Workload(world)
        await load.prepare()
        miners = {name: world.identities[name].miner_id for name in ("m0", "m1", "m2", "m3")}
        _, before = await judged(world, load, "m0")
        assert before == dict.fromkeys(miners.values(), MODEL)

        # One miner is away while the others publish, fetch, vote and swap.
        world.network.partition(["m2"], ["m0", "m1", "m3"])
        put(world.node("m0").blobs, DATA)
        await committed(world, load, "model.register", registration(), "m1")
        await activate(world, DIGEST, "m0", "m1", "m3")
        height, during = await judged(world, load, "m0")
        assert active_model_at(world.ledger.tip.state, height) == DIGEST
        assert during == {miners[name]: DIGEST for name in ("m0", "m1", "m3")}

        # It comes back; one of those that it asks lies, and its power fails in the midst.
        world.astray.add("m3")
        world.node("m3")._answers._chunk = lie  # type: ignore[method-assign]
        held = [withhold_from(world.node(name), 2) for name in ("m0", "m1")]
        world.network.heal_all()
        part = f"{DIGEST.hex()}.part"
        files = world.hosts["m2"].disk.files
        await world.until(lambda: part in files.sizes(), within_s=120, what="a part")
        await world.crash("m2")
        for release in held:
            release()
        world.start("m2")
        await world.until(
            lambda: (
                world.hosts["m2"].node is not None
                and world.node("m2").blobs.find(DIGEST) is not None
            ),
            within_s=120,
            what="the model at the miner that was away",
        )
        assert world.node("m2").blobs.read_whole(DIGEST, size_max=len(DATA)) == DATA
        blamed = {(node, peer) for node, peer, points, _ in world.blames if points == 100}
        assert blamed == {("m2", "m3")}
        _, after = await judged(world, load, "m0")
        assert after[miners["m2"]] == DIGEST

        # Taking the earlier model back is one more vote.
        await activate(world, MODEL, "m0", "m1", "m2")
        _, back = await judged(world, load, "m0")
        assert set(back.values()) == {MODEL}

    World(11, Settings()).run(scene)


def test_a_miner_abstains_under_a_model_that_nobody_sends_and_the_chain_goes_on():
    async def scene(world: World) -> None:
        world.start()
        load = Workload(world)
        await load.prepare()
        await committed(world, load, "model.register", registration(), "m1")
        await activate(world, DIGEST, "m0", "m1", "m2")

        height, nobody = await judged(world, load, "m0")

        assert nobody == {}
        assert any("this miner abstains" in event for _, event, _ in world.log)
        put(world.node("m3").blobs, DATA)
        await world.until(
            lambda: all(world.node(name).blobs.find(DIGEST) for name in world.up()),
            within_s=60,
            what="the model everywhere",
        )
        # The block that was left out is made up for: it is recent enough.
        _, later = await judged(world, load, "m0")
        assert len(later) == 4
        assert world.ledger.height > height

    World(12, Settings()).run(scene)


@pytest.mark.parametrize("size_bytes", [1, 2**32])
def test_a_manifest_that_somebody_registers_as_a_model_reaches_all_the_same(size_bytes):
    manifest = b"what people should know of it" * 9

    async def scene(world: World) -> None:
        world.start()
        load = Workload(world)
        await load.prepare()
        body = replace(registration(), manifest=blob_digest(manifest))
        await committed(world, load, "model.register", body, "m1")
        claim = replace(body, model=body.manifest, manifest=digest_of("none"))
        claim = replace(claim, size_bytes=size_bytes)
        await committed(world, load, "model.register", claim, "m1")

        put(world.node("m0").blobs, manifest)

        await world.until(
            lambda: all(world.node(name).blobs.find(body.manifest) for name in world.up()),
            within_s=60,
            what="the manifest everywhere",
        )

    World(17, Settings()).run(scene)


@pytest.mark.parametrize("proposed", [False, True])
def test_a_model_that_is_to_judge_does_not_wait_for_another_that_comes_slowly(proposed):
    async def scene(world: World) -> None:
        world.start()
        load = Workload(world)
        await load.prepare()
        slow = replace(registration(), model=digest_of("slow"), manifest=digest_of("slow manifest"))
        for name in world.up():
            never_ends(world.node(name), slow.model)
        await committed(world, load, "model.register", slow, "m1")
        if proposed:
            await govern(world, "model.activate", ModelActivate(model=slow.model), "m3")
        put(world.node("m0").blobs, DATA)
        await committed(world, load, "model.register", registration(), "m1")
        await activate(world, DIGEST, "m0", "m1", "m2")

        _, judges = await judged(world, load, "m0")

        assert list(judges.values()) == [DIGEST] * 4

    World(16, Settings()).run(scene)


def never_ends(node: Node, digest: Digest) -> None:
    """Let the fetch of a blob take for ever, as from a peer that sends chunk after chunk late."""
    fetcher: Any = node._fetcher
    bring = fetcher.bring

    async def wait(asked: Digest, *, size_max: int) -> bool:
        if asked == digest:
            await asyncio.Event().wait()
        return bool(await bring(asked, size_max=size_max))

    fetcher.bring = wait


def questions_about(node: Node, digest: Digest) -> list[int]:
    """Return the chunks of a blob that a node is asked for from now on."""
    answers: Any = node._answers
    answered = answers._chunk
    asked: list[int] = []

    def chunk(question: GetChunk) -> ChunkAnswer:
        if question.digest == digest:
            asked.append(question.index)
        return answered(question)  # type: ignore[no-any-return]

    answers._chunk = chunk
    return asked


@pytest.mark.parametrize("more", [-1, 1])
def test_a_model_of_another_size_than_registered_is_refused_and_not_asked_for_again(more):
    async def scene(world: World) -> None:
        world.start()
        load = Workload(world)
        await load.prepare()
        put(world.node("m0").blobs, DATA)
        body = replace(registration(size_bytes=len(DATA) + more), manifest=digest_of("manifest"))
        await committed(world, load, "model.register", body, "m1")
        await activate(world, DIGEST, "m0", "m1", "m2")

        await world.until(
            lambda: all(
                DIGEST in world.node(name).models()
                and world.node(name).models()[DIGEST].state == "refused"
                for name in world.up()
            ),
            within_s=60,
            what="the refusal of all",
        )
        asked = questions_about(world.node("m0"), DIGEST)
        await asyncio.sleep(60)
        assert asked == []

    World(14, Settings()).run(scene)


def test_a_model_that_is_damaged_while_it_judges_is_fetched_again():
    async def scene(world: World) -> None:
        world.start()
        load = Workload(world)
        await load.prepare()
        put(world.node("m0").blobs, DATA)
        await committed(world, load, "model.register", registration(), "m1")
        await activate(world, DIGEST, "m0", "m1", "m2")
        _, before = await judged(world, load, "m0")
        assert len(before) == 4

        world.hosts["m2"].disk.files.write(DIGEST.hex(), CHUNK_SIZE + 7, b"\x00altered\x00")

        # What was abstained from in the meantime is made up for.
        _, after = await judged(world, load, "m0")
        assert len(after) == 4
        assert world.node("m2").models()[DIGEST].state == "ready"
        assert world.node("m2").blobs.read_whole(DIGEST, size_max=len(DATA)) == DATA

    World(15, Settings()).run(scene)


class Credulous(Judge):
    """A detector that judges by whatever is registered, as an older build would."""

    async def judge(self, model: Registration, flows: Sequence[Flow]) -> Sequence[int | None]:
        return [flow.integers[0] for flow in flows]


def test_a_model_that_is_registered_as_what_it_is_not_judges_nothing_and_the_chain_goes_on():
    async def scene(world: World) -> None:
        world.hosts["m3"].judge = Credulous(world.hosts["m3"].find_model)
        world.start()
        load = Workload(world)
        await load.prepare()
        device = load.client.devices[FLOWING[0]].id
        await judged(world, load, "m0")
        put(world.node("m0").blobs, DATA)
        # Under it every flow would be anomalous.
        await committed(world, load, "model.register", registration(threshold_ppm=0), "m1")
        await activate(world, DIGEST, "m0", "m1", "m2")

        height, judges = await judged(world, load, "m0")

        assert active_model_at(world.ledger.tip.state, height) == DIGEST
        assert judges == {world.identities["m3"].miner_id: DIGEST}, "three miners refuse it"
        for name in ("m0", "m1", "m2"):
            assert world.node(name).models()[DIGEST].state == "refused"
        # Who judges by it nevertheless is one of four, and decides nothing.
        state = world.ledger.tip.state
        judgement = state.get(JUDGEMENT_TABLE, height_key(height))
        assert judgement is not None
        assert judgement.outcome is None
        tally = state.get(TALLY_TABLE, device)
        assert tally is not None
        assert tally.judged == 1, "the flow before it"
        # All have the blocks behind the activation, with one root: that is what worlds check.
        await world.until(
            lambda: all(world.node(name).chain.height >= height for name in world.up()),
            within_s=60,
            what="the block everywhere",
        )

        await activate(world, MODEL, "m0", "m1", "m2")
        _, back = await judged(world, load, "m0")
        assert len(back) == 4
        assert set(back.values()) == {MODEL}

    World(13, Settings()).run(scene)
