"""The order of signing: the one rule of what a key may still sign (DESIGN rules 4 and 6).

The replica asks it before it signs, and a signer in a process of its own (`consensus.key_memory`)
asks it again of everything that nodes want to have signed.
"""

from typing import Final

from chain.types import Height
from consensus.messages import Position

LOST_MEMORY: Final = "lost-memory"
"""Nobody knows what was signed before: nothing is, until that is out of reach."""
FLOOR: Final = "floor"
"""The height lies below what is settled."""
ORDER: Final = "order"
"""Something at this place, or above it, was signed already."""


def height_fault(height: Height, *, floor: Height | None, last: Position) -> str | None:
    """Return why nothing at all may be signed at `height`, or None.

    Parameters
    ----------
    floor : Height, optional
        The lowest height at which anything may be signed; None where memory is lost.
    last : Position
        Of the last signature.
    """
    if floor is None:
        return LOST_MEMORY
    if height < max(floor, last.height):
        return FLOOR
    return None


def order_fault(position: Position, *, floor: Height | None, last: Position) -> str | None:
    """Return why a message at `position` may not be signed, or None."""
    fault = height_fault(position.height, floor=floor, last=last)
    if fault is None and position <= last:
        return ORDER
    return fault
