"""Whom a member of a federated round may accuse of false shares, and when.

Nothing of this is enforced by the chain: it is what members do for their own group, so that liars
do not decide how many secrets come out. docs/spec/federated.md, section 5.
"""

from typing import Final, Literal

from chain.federated.records import FederatedRound, Member, threshold
from chain.types import Address

TURN_HEIGHTS: Final = 3
"""Between the turns of two members to complain, so that the later one sees what was said."""


class Turn:
    """When one member may complain, from where it has found out that it was cheated."""

    def __init__(self) -> None:
        self._begins: int | None = None
        self._seen = 0

    def at(
        self, found: FederatedRound, member: Member, height: int
    ) -> Literal["now", "later", "never"]:
        """Tell whether it is a member's turn.

        Parameters
        ----------
        height : int
            How far the chain is, asked for behind the look at `found`.
        """
        # So `found` is no older than the height of the look before, and shows what was said by it.
        seen, self._seen = self._seen, height
        if self._begins is None:
            self._begins = height + TURN_HEIGHTS * _place_from_end(found, member)
        if self._begins > _middle(found):
            return "never"
        return "now" if seen >= self._begins else "later"


def complaints_max(size: int) -> int:
    """Return how many of a group of `size` may complain, each of another, without ending it.

    Each complaint shows what one member holds of all others' secrets. With so many, still more than
    half of a group has to collude to open an update.
    """
    return (size - threshold(size)) // 2


def is_lost(found: FederatedRound, member: Member) -> bool:
    """Tell whether nothing comes of a member's group any more; then it is shown nothing more."""
    return member.group not in found.groups or _complaints_left(found, member) < 0


def nameable(found: FederatedRound, member: Member) -> list[Address]:
    """Return of whom a member could complain; of nobody where the group cannot bear it."""
    if _complaints_left(found, member) <= 0:
        return []
    others = [other for other in found.members_of(member.group) if other != member]
    return [other.device for other in others if other.status in ("shared", "committed")]


def _complaints_left(found: FederatedRound, member: Member) -> int:
    """Return how many complaints a member's group still bears; below 0: it has had too many."""
    group = found.members_of(member.group)
    return complaints_max(len(group)) - sum([other.status == "complained" for other in group])


def _place_from_end(found: FederatedRound, member: Member) -> int:
    """Return a member's place in the order of complaints: the last of a group has boxes."""
    return found.members_of(member.group)[::-1].index(member)


def _middle(found: FederatedRound) -> int:
    """Return the height up to which complaints leave time to train."""
    assert found.deadline is not None, "every phase that waits for members has a deadline"
    return (found.phase_height + found.deadline) // 2
