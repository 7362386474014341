"""What a federated round is called and what it waits for, in words."""

from typing import Final

from chain.federated.records import CLOSED_PHASES
from chain.types import Digest

UNNAMED: Final = "round"
"""The name of a round whose coordinator gives none."""

AWAITED: Final = {
    "join": "participants to join",
    "share": "members to hand out shares of their masks",
    "commit": "members to commit their updates",
    "reveal": "members to reveal shares; some are enough",
}
"""Of phases that wait for members."""
_OTHER: Final = {
    "draw": "the next block, which draws the groups",
    "attest": "miners to say which updates they hold",
    "aggregate": "a quorum of miners to say the same aggregate",
}


def titled(name: str, id: Digest, *, digits: int | None = None) -> str:
    """Return what a round is called in a sentence; `digits` cuts its id short."""
    given = "" if name == UNNAMED else f" {name}"
    return f"federated round{given} ({id.hex()[:digits]})"


def waits_for(phase: str, *, deadline: int | None, count: int) -> str:
    """Say in one line what a round waits for; `count` is of how many members, if of any."""
    if phase in CLOSED_PHASES:
        return f"it is {phase}"
    until = "" if deadline is None else f", until height {deadline}"
    what = f"{count} {AWAITED[phase]}" if phase in AWAITED else _OTHER[phase]
    return f"waits for {what}{until}"
