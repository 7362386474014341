"""Nothing in a node grows without end: every container that it holds is counted now and then.

The containers are found, not listed, so that one that is added tomorrow is counted too: from the
node downwards through the attributes of the project's own objects, ports excluded.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any, Final

from tests.simulation.checkers import Violation
from tests.simulation.world import World

EVERY_S: Final = 10.0
SIZE_MAX: Final = 500
"""Entries of one container: a few times what drawn worlds come to (the signatures that a node
remembers, one for each transaction). What grows with every message passes it in seconds."""
LOOKED_INTO_MAX: Final = 32
"""So many entries of a container are looked into for containers of their own."""

_CONTAINERS: Final = (dict, list, deque, set)
_OURS: Final = ("node.", "consensus.")


async def watch_bounds(world: World) -> None:
    """Count from time to time, until cancelled."""
    while True:
        await asyncio.sleep(EVERY_S)
        for name in world.up():
            check_bounds(name, world.node(name))


def check_bounds(name: str, root: object) -> None:
    """Raise `Violation` where a container below `root` is too large."""
    for place, container in containers(root):
        if len(container) > SIZE_MAX:
            raise Violation(f"{name} holds {len(container)} entries in {place}")


def containers(root: object) -> Iterator[tuple[str, Collection[Any]]]:
    """Yield every container that is reached from `root`, and the attribute that holds it."""
    seen: set[int] = set()
    waiting: list[tuple[str, object]] = [("", root)]
    while waiting:
        place, value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, _CONTAINERS):
            yield place, value
            inner = value.values() if isinstance(value, dict) else value
            waiting += [(place, item) for item in islice(inner, LOOKED_INTO_MAX)]
        elif _is_ours(value):
            kind = type(value)
            waiting += [(f"{kind.__name__}.{name}", item) for name, item in _attributes(value)]


def _is_ours(value: object) -> bool:
    """Tell whether an object is one of the node's that changes; values do not."""
    kind = type(value)
    parameters = getattr(kind, "__dataclass_params__", None)
    return kind.__module__.startswith(_OURS) and not (parameters and parameters.frozen)


def _attributes(value: object) -> Iterator[tuple[str, object]]:
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if hasattr(value, name):
                yield name, getattr(value, name)
