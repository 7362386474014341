"""A federated round on whole nodes: participants die, a miner crashes, another lies."""

from dataclasses import replace
from typing import Any

import pytest

from chain.federated.records import ROUND_TABLE
from chain.kinds.device_registry import SetRoles
from chain.parameters import Parameters
from chain.transactions import Transaction
from tests.builders import digest_of
from tests.federation import Federation, make_deadlines
from tests.simulation.workload import Client
from tests.simulation.world import Settings, World

IDLE = Settings(parameters=Parameters(heartbeat_ms=24 * 3_600_000))
"""But for rounds there would be no empty block."""
STEP = 4


class OnWorld:
    """What a `Federation` needs of a chain, on that of a world."""

    def __init__(self, world: World, client: Client) -> None:
        self._world = world
        self._client = client

    @property
    def state(self) -> Any:
        """The state as a miner that never goes down has it."""
        return self._world.node("m0").chain.state

    @property
    def tip(self) -> Any:
        """The last block there."""
        return self._world.node("m0").chain.tip

    def transaction(self, kind: str, body: Any, key: Any, sender: Any) -> Transaction:
        """Return a transaction of a device."""
        return self._client.make(kind, body, sender=sender, key=key)

    def by_registrar(self, kind: str, body: Any, *, organisation: str) -> Transaction:
        """Return a transaction of the one organisation."""
        return self._client.sign_as_registrar(kind, body)

    def by_miner(self, number: int, kind: str, body: Any) -> Transaction:
        """Return a transaction of a miner."""
        return self._client.govern(f"m{number}", kind, body)


async def commit(world: World, *transactions: Transaction) -> None:
    answers = await world.node("m0").submit([transaction.wire for transaction in transactions])
    assert [answer.error for answer in answers] == [None] * len(transactions)
    await world.until(
        lambda: all(transaction.id in world.ledger.places for transaction in transactions),
        within_s=60,
        what="the commit",
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_round_ends_on_an_idle_chain_though_a_member_dies_and_a_miner_crashes_and_one_lies(seed):
    async def scene(world: World) -> None:
        world.start()
        await world.reach(0, within_s=20)
        client = Client(world, world.random("client"), devices=5)
        await commit(world, *[client.register(device) for device in client.devices])
        roles = SetRoles(roles=("participant",))
        await commit(world, *[client.update(device, roles) for device in client.devices])
        chain: Any = OnWorld(world, client)
        devices: Any = client.devices
        federation = Federation(chain, devices=devices, group_size=5)
        height = chain.tip.next_height
        federation.terms = replace(federation.terms, deadlines=make_deadlines(height, STEP))
        opening = federation.opening()
        federation.id = opening.id
        await commit(world, opening)
        dead, *alive = federation.devices

        async def until(phase: str) -> None:
            """Wait for a phase; where nobody moves the chain on it has to do so itself."""
            await world.until(lambda: federation.record.phase == phase, within_s=60, what=phase)

        await commit(world, *[federation.join(device) for device in federation.devices])
        await until("share")
        await commit(world, *[federation.share(device) for device in federation.devices])
        await world.crash("m2")
        await commit(world, *[federation.commit(device) for device in alive])
        await until("attest")
        assert federation.member_of(dead).status == "shared"
        await commit(world, *[federation.attest(miner) for miner in (0, 1)])
        await until("reveal")
        world.start("m2")
        await commit(world, *[federation.reveal(device) for device in alive])
        await until("aggregate")
        lie = federation.aggregate(3, root=digest_of("a lie"))
        await commit(world, lie, *[federation.aggregate(miner) for miner in (0, 1)])
        assert federation.record.is_open
        await commit(world, federation.aggregate(2))
        await until("finished")
        await world.reach(chain.tip.header.height, within_s=60)

        found = {
            name: world.node(name).chain.state.get(ROUND_TABLE, opening.id)
            for name in ("m0", "m1", "m2", "m3")
        }
        assert set(map(repr, found.values())) == {repr(federation.record)}
        assert federation.record.aggregate == federation.terms.blob_of(
            digest_of("root of the aggregate")
        )

    World(seed, IDLE).run(scene)
