"""Drawing the groups of a round, from the hash of a block that nobody knew while joining."""

from collections.abc import Sequence
from typing import Final

from chain.crypto import tagged_hash
from chain.types import Address, Digest

DRAW_TAG: Final = b"securenet/round-draw/v1"


def draw_groups(
    devices: Sequence[Address], *, group_size: int, round_id: Digest, seed: Digest
) -> dict[Address, int]:
    """Deal devices into as many groups of at least `group_size` as there can be.

    Sizes differ by one at most, and are less than twice `group_size`.

    Parameters
    ----------
    devices : sequence of Address
        At least `group_size` of them.
    seed : Digest
        Hash of the block that closed joining.
    """
    count = len(devices) // group_size
    drawn = sorted(devices, key=lambda device: tagged_hash(DRAW_TAG, seed, round_id, device))
    return {device: index % count for index, device in enumerate(drawn)}
