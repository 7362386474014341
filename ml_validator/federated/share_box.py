"""The shares of a participant's two secrets: handed to each member, and revealed.

Pads, boxes and hashes are `chain.federated.boxes`, by which the chain judges. The keys with which
pads are agreed upon are not those for masks: the mask key of a dropped member is put together in
public, and would open the boxes that hold its self mask. docs/spec/federated.md, section 5.
"""

from collections.abc import Mapping, Sequence

from chain.errors import InvalidKey
from chain.federated.boxes import (
    Pair,
    ShareKind,
    close_box,
    padded_count,
    pads_of,
    share_hash,
)
from chain.federated.records import SharesRecord
from chain.types import Address
from ml_validator.errors import InvalidShare
from ml_validator.federated.masking import Group


def agreed_pads(group: Group, owner: Address, *, box_private: bytes) -> dict[Address, Pair]:
    """Return the pads between an owner and each other member, in their order.

    Raises
    ------
    InvalidShare
        A member's key agrees on no secret; the chain takes no such key.
    """
    pads = {}
    for receiver, key in zip(group.members, group.box_keys, strict=True):
        if receiver != owner:
            try:
                pads[receiver] = pads_of(box_private, key, group.handover(owner, receiver))
            except InvalidKey as error:
                raise InvalidShare(receiver, "its key for boxes agrees on no secret") from error
    return pads


def shares_record(
    group: Group, owner: Address, *, pads: Mapping[Address, Pair], pairs: Sequence[Pair]
) -> SharesRecord:
    """Return what an owner hands over.

    Parameters
    ----------
    pads : mapping of Address to Pair
        As `agreed_pads`.
    pairs : sequence of Pair
        The shares for each member in order; those of the first others are their pads.
    """
    shares = dict(zip(group.members, pairs, strict=True))
    boxed = list(pads)[padded_count(len(group.members)) :]
    return SharesRecord(
        hashes=b"".join(
            share_hash(share, kind, group.handover(owner, receiver))
            for receiver, pair in shares.items()
            for kind, share in zip(ShareKind, pair, strict=True)
        ),
        boxes=b"".join(close_box(pads[receiver], shares[receiver]) for receiver in boxed),
    )


def to_reveal(
    kinds: Mapping[Address, ShareKind], held: Mapping[Address, Pair | None]
) -> tuple[bytes | None, ...]:
    """Return `shares` of an `update.reveal`: the share of its kind of each owner, in order.

    None where none is held that is good. Who is included is final when it is asked for; a member
    reveals once.
    """
    pairs = [(kind, held[owner]) for owner, kind in kinds.items()]
    return tuple(None if pair is None else pair[kind] for kind, pair in pairs)
