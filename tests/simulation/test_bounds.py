"""What leaks in a node is found, wherever it is."""

import asyncio
from collections.abc import Callable

import pytest

from node.intake import Intake
from node.mempool import Mempool
from tests.simulation.bounds import SIZE_MAX, check_bounds, containers
from tests.simulation.checkers import Violation
from tests.simulation.workload import Workload
from tests.simulation.world import Settings, World


def play(look: Callable[[World], None]) -> None:
    async def scene(world: World) -> None:
        world.start()
        await Workload(world).prepare()
        await asyncio.sleep(1)
        look(world)

    World(1, Settings(detectors=False)).run(scene)


def test_the_containers_of_all_parts_of_a_node_are_found():
    found: dict[str, int] = {}

    def look(world: World) -> None:
        for place, container in containers(world.node("m0")):
            found[place] = max(found.get(place, 0), len(container))

    play(look)

    assert found.keys() >= {
        "Verifier._verified",
        "Mempool._by_id",
        "Inbox._peers",
        "MessageLog._slots",
        "Progress._told",
        "Intake._standings",
        "HeightState.rounds",
    }
    assert max(found.values()) < SIZE_MAX / 4


@pytest.mark.parametrize("part", [Mempool, Intake])
def test_a_container_that_grows_with_every_message_is_found(monkeypatch, part):
    """The leak is one that nobody has listed, in an object that is some steps away."""
    make = part.__init__

    def leak(self, *args, **kwargs):
        make(self, *args, **kwargs)
        self._forgotten = list(range(SIZE_MAX + 1))

    monkeypatch.setattr(part, "__init__", leak)

    looked = False

    def look(world: World) -> None:
        nonlocal looked
        with pytest.raises(Violation, match=f"{SIZE_MAX + 1} entries in {part.__name__}"):
            check_bounds("m0", world.node("m0"))
        looked = True

    play(look)

    assert looked
