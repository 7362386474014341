"""Four whole nodes in federated rounds: what they attest and compute, whoever fails or lies."""

from tests.learners import expected
from tests.simulation.federated import Learning
from tests.simulation.world import Settings, World

EVERYBODY = range(4)
MINERS = ("m0", "m1", "m2", "m3")


async def play(learning: Learning, *places: int) -> None:
    """Let these go all the way to the end of the round, bringing their blobs to one node."""
    await learning.join(places)
    await learning.share(places)
    await learning.commit_updates(places)
    learning.upload(places)
    await learning.leave("attest")
    await learning.reveal(places)
    await learning.leave("reveal")
    await learning.leave("aggregate")


def test_every_miner_computes_the_aggregate_that_the_updates_come_to():
    async def scene(world: World) -> None:
        world.start()
        learning = Learning(world, count=4)
        await learning.open()

        await play(learning, *EVERYBODY)

        found = learning.found
        assert found.phase == "finished"
        assert found.aggregate == expected(found, learning.learners)
        assert {vote.digest for vote in found.votes} == {found.aggregate}
        assert world.blames == []

    World(1, Settings(detectors=False)).run(scene)
