"""Lets a scene act at an exact moment of agreement, or lose exactly what it is about."""

from collections.abc import Callable

from consensus.codec import decode_message
from consensus.messages import Message, Phase
from node.protocol import CONSENSUS
from tests.simulation.world import World

PHASES = tuple(Phase)


def when_said(world: World, *, height: int, phase: Phase, act: Callable[[], object]) -> None:
    """Call `act` once, as soon as anybody sends a message of this type at `height` or above.

    The message itself is on its way by then; everything sent later in the same instant is not.
    """
    is_over = False

    def lets_through(source: str, target: str, kind: int, payload: bytes) -> bool:
        nonlocal is_over
        del source, target
        if kind == CONSENSUS and not is_over:
            message = decode_message(payload)
            if message.height >= height and message.phase == phase:
                is_over = True
                world.loop.call_soon(act)
        return True

    world.network.lets_through = lets_through


def lose(world: World, is_lost: Callable[[str, str, Message], bool]) -> None:
    """Lose the messages of consensus for which ``is_lost(source, target, message)`` holds."""

    def lets_through(source: str, target: str, kind: int, payload: bytes) -> bool:
        return kind != CONSENSUS or not is_lost(source, target, decode_message(payload))

    world.network.lets_through = lets_through


def lose_nothing(world: World) -> None:
    """End what `when_said` or `lose` has begun."""
    world.network.lets_through = lambda *_: True
