"""Who a participant is in a group with: masks hide nothing from the one who owns all others."""

from collections import Counter
from collections.abc import Mapping

from chain.federated.records import threshold
from chain.types import Address


def sees_all(organisations: Mapping[Address, Address], device: Address) -> Address | None:
    """Return the organisation, if there is one, which alone can open a member's update.

    Whoever opens a round invites whom it likes, and so its own devices. So many as the threshold
    restore both secrets of all; and all but one know the summand of that one.

    Parameters
    ----------
    organisations : mapping of Address to Address
        To which each member of a group belongs.
    device : Address
        The member; its own organisation has its rows anyway.
    """
    size = len(organisations)
    counts = Counter([each for each in organisations.values() if each != organisations[device]])
    for organisation, count in counts.items():
        if count >= min(threshold(size), size - 1):
            return organisation
    return None
