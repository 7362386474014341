"""Every part that a Byzantine miner may play in a world, by name: tricks and habits alike."""

from collections.abc import Coroutine
from typing import Any, Final

from tests.simulation.habits import HABITS
from tests.simulation.hostile import Hostile
from tests.simulation.traitor import Traitor
from tests.simulation.tricks import TRICKS, say_nothing
from tests.simulation.world import World

PARTS: Final = tuple(sorted({*TRICKS, *HABITS}))
"""Their names."""
SILENCE: Final = say_nothing.__name__
"""The part of one that has its keys and does nothing with them."""


def play_part(world: World, name: str, part: str) -> Coroutine[Any, Any, None]:
    """Return the course of a hostile miner that plays `part` until it is cancelled."""
    if part in TRICKS:
        return Hostile(world, name, TRICKS[part]).run()
    return Traitor(world, name, HABITS[part]).run()
