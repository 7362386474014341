"""Vectors of what federated rounds draw, close and hash."""

from typing import Any

from chain.federated.boxes import (
    Handover,
    ShareKind,
    close_box,
    element,
    pads_of,
    public_key_of,
    share_hash,
)
from chain.federated.draw import draw_groups
from chain.federated.records import SHARE_SIZE, threshold
from chain.types import Address
from scripts.vectors.hexes import hexes
from tests.builders import (
    digest_of,
)


def federated() -> dict[str, Any]:
    """Return a draw, thresholds, and a box with the hashes of the shares to which it leads."""
    round_id = digest_of("a round")
    devices = [Address(digest_of(f"device {number}")) for number in range(11)]
    seed = digest_of("the block that closed joining")
    groups = draw_groups(devices, group_size=3, round_id=round_id, seed=seed)
    owner_secret, receiver_secret = bytes(range(32)), bytes(range(32, 64))
    handover = Handover(round_id=round_id, owner=devices[0], receiver=devices[1])
    pads = pads_of(owner_secret, public_key_of(receiver_secret), handover)
    shares = (bytes(range(SHARE_SIZE)), element(-1))
    return {
        "draw": {
            "round": round_id.hex(),
            "seed": seed.hex(),
            "group_size": 3,
            "groups": {device.hex(): group for device, group in groups.items()},
        },
        "thresholds": [
            {"members": members, "threshold": threshold(members)} for members in (1, 3, 4, 10, 63)
        ],
        "box": {
            "round": round_id.hex(),
            "owner": handover.owner.hex(),
            "receiver": handover.receiver.hex(),
            "owner_secret": owner_secret.hex(),
            "owner_key": public_key_of(owner_secret).hex(),
            "receiver_secret": receiver_secret.hex(),
            "receiver_key": public_key_of(receiver_secret).hex(),
            "pads": hexes(pads),
            "shares": hexes(shares),
            "box": close_box(pads, shares).hex(),
            "hashes": [
                share_hash(share, kind, handover).hex()
                for share, kind in zip(shares, ShareKind, strict=True)
            ],
        },
    }
