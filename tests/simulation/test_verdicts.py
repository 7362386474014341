"""Detectors of whole nodes: one that lies achieves nothing, and none holds the chain up."""

import asyncio
from collections.abc import Sequence

import pytest

from chain.kinds.policy import PolicySet
from chain.kinds.verdict import SCORE_MAX
from chain.payloads import Flow
from chain.records.devices import DEVICE_TABLE
from chain.records.policies import PolicyRecord
from chain.records.verdicts import DETECTOR_TABLE, JUDGEMENT_TABLE
from chain.table import height_key
from chain.transactions import Transaction
from chain.types import Address
from ml_validator.registration import Registration
from node.storage.chain_store import ChainStore
from tests.simulation.workload import Client, Device
from tests.simulation.world import FLOW_SCHEMA, Judge, Settings, World

POLICY = PolicyRecord(anomalous_min=3, window=10, duration_ms=600_000)
FLOWS = 12
LIAR = "m3"


class Liar(Judge):
    """A detector that frames the honest and shields the attackers."""

    async def judge(self, model: Registration, flows: Sequence[Flow]) -> Sequence[int | None]:
        return [SCORE_MAX - (score or 0) for score in await super().judge(model, flows)]


class Sleeper(Judge):
    """A detector that never comes to an end."""

    async def judge(self, model: Registration, flows: Sequence[Flow]) -> Sequence[int | None]:
        await asyncio.Event().wait()
        raise AssertionError("nobody wakes it")


class Fleet:
    """Two devices that report flows: one is honest, the other attacks."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.client = Client(world, world.random("fleet"), devices=2)
        self.honest, self.attacker = self.client.devices

    async def register(self) -> None:
        client = self.client
        policy = client.sign_as_registrar("policy.set", PolicySet(policy=POLICY))
        await self.commit(policy, *[client.register(device) for device in client.devices])

    async def report(self) -> None:
        """Let each device that still may send a flow."""
        sent = [
            self.client.report(device, flow(score))
            for device, score in ((self.honest, 0), (self.attacker, SCORE_MAX))
            if self.status(device) == "active"
        ]
        await self.commit(*sent)

    async def commit(self, *transactions: Transaction) -> None:
        """Send to the first miner, and wait until all are on its chain."""
        node = self.world.hosts["m0"].node
        assert node is not None, "it runs"
        answers = await node.submit([transaction.wire for transaction in transactions])
        assert [answer.error for answer in answers] == [None] * len(transactions)
        await self.world.until(
            lambda: all(node.chain.locate(sent.id) is not None for sent in transactions),
            within_s=20,
            what="the commit",
        )

    async def judged(self, *, within_s: float = 20) -> None:
        """Wait until all blocks with flows are decided by the verdicts of a quorum."""
        chain = self.chain

        def is_decided(height: int) -> bool:
            found = chain.state.get(JUDGEMENT_TABLE, height_key(height))
            return found is not None and found.outcome is not None

        def all_decided() -> bool:
            heights = [h for h in range(1, chain.height + 1) if chain.tip.recent.flows(h)]
            return all(is_decided(height) for height in heights)

        await self.world.until(all_decided, within_s=within_s, what="the verdicts")

    @property
    def chain(self) -> ChainStore:
        node = self.world.hosts["m0"].node
        assert node is not None, "it runs"
        return node.chain

    def status(self, device: Device) -> str:
        record = self.chain.state.get(DEVICE_TABLE, device.id)
        assert record is not None, "it is registered"
        return str(record.status)

    def detectors(self):
        """Return the records of the miners' detectors by their names."""
        ids: dict[str, Address] = {
            name: identity.miner_id for name, identity in self.world.identities.items()
        }
        return {name: self.chain.state.get(DETECTOR_TABLE, id) for name, id in ids.items()}


def flow(score: int) -> Flow:
    return Flow(schema=FLOW_SCHEMA, integers=(score,), categories=())


@pytest.mark.attack("F7")
@pytest.mark.parametrize("seed", range(3))
def test_one_lying_detector_of_four_neither_frames_nor_shields(seed):
    async def scene(world):
        world.hosts[LIAR].judge = Liar(world.hosts[LIAR].find_model)
        world.start()
        fleet = Fleet(world)
        await world.reach(0, within_s=20)
        await fleet.register()
        for _ in range(FLOWS):
            await fleet.report()
        await fleet.judged()

        assert fleet.status(fleet.honest) == "active"
        assert fleet.status(fleet.attacker) == "quarantined"
        # The last verdict on a block may still be on its way.
        await world.reach(fleet.chain.height + 2, within_s=60)
        found = fleet.detectors()
        for name in ("m0", "m1", "m2"):
            assert (found[name].overruled, found[name].missed) == (0, 0)
        assert found[LIAR].overruled >= FLOWS
        assert found[LIAR].missed >= POLICY.anomalous_min

    World(seed, Settings()).run(scene)


@pytest.mark.attack("F7")
def test_a_liar_alone_decides_nothing():
    async def scene(world):
        for name in ("m0", "m1", "m2"):
            world.hosts[name].judge = None
        world.hosts[LIAR].judge = Liar(world.hosts[LIAR].find_model)
        world.start()
        fleet = Fleet(world)
        await world.reach(0, within_s=20)
        await fleet.register()
        for _ in range(FLOWS):
            await fleet.report()
        await world.reach(fleet.chain.height + 3, within_s=60)

        assert fleet.detectors()[LIAR].verdicts > 0
        assert fleet.status(fleet.honest) == fleet.status(fleet.attacker) == "active"

    World(1, Settings()).run(scene)


def test_detectors_that_never_answer_do_not_hold_the_chain_up():
    def duration(judge) -> float:
        took: list[float] = []

        async def scene(world):
            for host in world.hosts.values():
                host.judge = judge
            world.start()
            fleet = Fleet(world)
            await world.reach(0, within_s=20)
            await fleet.register()
            started = world.time_s
            for _ in range(FLOWS):
                await fleet.report()
            took.append(world.time_s - started)
            assert fleet.status(fleet.attacker) == "active"

        World(2, Settings()).run(scene)
        return took[0]

    # The clock is the world's: this is how long consensus takes, not the test.
    assert duration(Sleeper(lambda digest: None)) < 1.5 * duration(None)
