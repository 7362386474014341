"""`round.join`, `round.share`, `update.commit`, `update.reveal`, `round.complaint`.

What the participants of a federated round send, each step once. Not metered: a round has a place
for each of them and for nothing else. docs/spec/federated.md is normative.
"""

from dataclasses import dataclass, replace
from typing import Final

from chain.blocks import Event
from chain.devices import active_device
from chain.errors import Rejection
from chain.federated.boxes import (
    Handover,
    handed_over,
    is_usable_key,
    kind_to_reveal,
    public_key_of,
    share_hash,
)
from chain.federated.records import (
    BOX_SIZE,
    REVEAL_TABLE,
    REVEALED,
    ROUND_TABLE,
    SHARE_HASH_SIZE,
    SHARES,
    SHARES_TABLE,
    X25519_KEY,
    FederatedRound,
    Member,
    RevealRecord,
    SharesRecord,
    box_count,
    threshold,
)
from chain.fields import DIGEST
from chain.kinds.base import BlockContext, Kind, Lane, Signer, require
from chain.kinds.rounds import round_in
from chain.schema import Blob, Integer, Record
from chain.transactions import Transaction
from chain.types import Address, Digest

PARTICIPANT: Final = "participant"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundJoin:
    """Takes part, with two X25519 keys made for this round; as in `Member`."""

    round: Digest
    mask_key: bytes
    box_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundShare:
    """Hands shares of the sender's two secrets to its group; the fields of `SharesRecord`."""

    round: Digest
    hashes: bytes
    boxes: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateCommit:
    """Fixes the sender's update before anybody's is seen.

    Parameters
    ----------
    base : Digest
        The model from which it was trained.
    size_bytes : int
        Its size.
    root : Digest
        Merkle root of the update as a blob.
    """

    round: Digest
    base: Digest
    size_bytes: int
    root: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateReveal:
    """Reveals one share for each member of the group that has shared, as in `RevealRecord`."""

    round: Digest
    shares: tuple[bytes | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundComplaint:
    """Shows, by the sender's own secret, that what a member has handed to it is no good.

    Parameters
    ----------
    accused : Address
        The member that handed it over.
    secret : bytes
        The secret of the sender's key for boxes; with it ends the sender's part.
    """

    round: Digest
    accused: Address
    secret: bytes


def _member(
    round_id: Digest, phase: str, transaction: Transaction, block: BlockContext
) -> tuple[FederatedRound, int, Member]:
    """Return the round, and the sender with its place among the members.

    Raises
    ------
    Rejection
        The round is not in this phase, or the sender may not take part in it.
    """
    found = round_in(round_id, phase, block)
    sender = transaction.payload.sender
    device = active_device(sender, block.state, time_ms=block.time_ms)
    require(PARTICIPANT in device.roles, "not_permitted", f"the device is no {PARTICIPANT}")
    position = found.position_of(sender)
    if position is None:
        raise Rejection("not_invited", "the federated round is not open to the sender")
    return found, position, found.members[position]


def _put(round_id: Digest, found: FederatedRound, block: BlockContext) -> None:
    block.state.put(ROUND_TABLE, found, round_id)


def _join(body: RoundJoin, transaction: Transaction, block: BlockContext) -> tuple[Event, ...]:
    found, position, member = _member(body.round, "join", transaction, block)
    require(not member.has_joined, "already_done", "the sender has joined")
    keys = {body.mask_key, body.box_key}
    require(all(map(is_usable_key, keys)), "malformed", "with this key every secret would be 0")
    require(len(keys) == 2, "malformed", "one key for masks and for boxes")
    joined = replace(member, status="joined", mask_key=body.mask_key, box_key=body.box_key)
    _put(body.round, found.with_member(position, joined), block)
    return ()


def _share(body: RoundShare, transaction: Transaction, block: BlockContext) -> tuple[Event, ...]:
    found, position, member = _member(body.round, "share", transaction, block)
    require(member.group is not None, "invalid_state", "the sender has not joined")
    require(not member.has_shared, "already_done", "the sender has shared its secrets")
    count = len(found.members_of(member.group))
    require(
        len(body.hashes) == 2 * SHARE_HASH_SIZE * count
        and len(body.boxes) == BOX_SIZE * box_count(count),
        "malformed",
        f"not two hashes for each of {count} members and {box_count(count)} boxes",
    )
    shares = SharesRecord(hashes=body.hashes, boxes=body.boxes)
    block.state.put(SHARES_TABLE, shares, body.round + member.device)
    _put(body.round, found.with_member(position, replace(member, status="shared")), block)
    return ()


def _commit(body: UpdateCommit, transaction: Transaction, block: BlockContext) -> tuple[Event, ...]:
    found, position, member = _member(body.round, "commit", transaction, block)
    terms = found.terms
    require(member.update is None, "already_done", "the sender has committed an update")
    require(
        member.group is not None and member.status == ("shared" if terms.is_masked else "joined"),
        "invalid_state",
        f"the sender has {member.status}, and is not in the sum",
    )
    require(member.group not in found.void, "void_group", "the sender's group is void")
    require(body.base == terms.base, "wrong_base", "the update is of another model")
    require(
        body.size_bytes == terms.update_size,
        "wrong_shape",
        f"the update has {body.size_bytes} bytes, not {terms.update_size}",
    )
    update = terms.blob_of(body.root)
    # Whoever copies a pending update cannot bring its blob: the sender, refused, changes a bit,
    # commits again, and never shows what was copied.
    require(
        all(other.update != update for other in found.members),
        "duplicate_update",
        "another member has committed this update",
    )
    committed = replace(member, status="committed", update=update)
    _put(body.round, found.with_member(position, committed), block)
    return ()


def _reveal(body: UpdateReveal, transaction: Transaction, block: BlockContext) -> tuple[Event, ...]:
    found, _, member = _member(body.round, "reveal", transaction, block)
    require(
        member.has_shared and member.status not in ("complained", "expelled"),
        "invalid_state",
        f"the sender is {member.status}, and holds no shares that count",
    )
    group = member.group
    assert group is not None, "who has shared was drawn into a group"
    require(group not in found.void, "void_group", "the sender's group is void")
    key = body.round + member.device
    require(block.state.get(REVEAL_TABLE, key) is None, "already_done", "the sender has revealed")
    require(group not in found.revealed, "not_needed", "enough has been revealed of this group")
    members = found.members_of(group)
    owners = [owner for owner in members if owner.has_shared]
    require(
        len(body.shares) == len(owners) and any(body.shares),
        "malformed",
        f"not one share for each of {len(owners)} members that have shared, or none at all",
    )
    place = members.index(member)
    for owner, share in zip(owners, body.shares, strict=True):
        if share is not None:
            _check_share(body.round, owner, member, place, share, block)
    block.state.put(REVEAL_TABLE, RevealRecord(shares=body.shares), key)
    if _is_revealed(body.round, members, len(owners), block):
        revealed = tuple(sorted((*found.revealed, group)))
        _put(body.round, replace(found, revealed=revealed), block)
    return ()


def _check_share(
    round_id: Digest,
    owner: Member,
    receiver: Member,
    place: int,
    share: bytes,
    block: BlockContext,
) -> None:
    """Refuse a share that is not the one, of the one kind, that may be revealed of its owner."""
    kind = kind_to_reveal(owner)
    expected = _shares_of(round_id, owner, block).hash_of(place, kind)
    handover = Handover(round_id=round_id, owner=owner.device, receiver=receiver.device)
    require(
        share_hash(share, kind, handover) == expected,
        "wrong_share",
        f"not the share of the {kind.name.lower()} that {owner.device.hex()} has handed out",
    )


def _is_revealed(
    round_id: Digest, members: tuple[Member, ...], owner_count: int, block: BlockContext
) -> bool:
    """Tell whether of every member that has shared as many shares are revealed as restore it."""
    counts = [0] * owner_count
    for member in members:
        record = block.state.get(REVEAL_TABLE, round_id + member.device)
        if record is not None:
            for index, share in enumerate(record.shares):
                counts[index] += share is not None
    return min(counts) >= threshold(len(members))


def _complain(
    body: RoundComplaint, transaction: Transaction, block: BlockContext
) -> tuple[Event, ...]:
    found, position, member = _member(body.round, "commit", transaction, block)
    # Whoever has committed keeps silent: its update and its key would be known together.
    require(
        member.status == "shared", "invalid_state", f"the sender is {member.status}, not shared"
    )
    accused_position = found.position_of(body.accused)
    accused = None if accused_position is None else found.members[accused_position]
    if accused is None or accused_position is None or accused.group != member.group:
        raise Rejection("not_found", "the accused is not in the sender's group")
    require(
        accused != member and accused.status in ("shared", "committed"),
        "invalid_state",
        f"the accused is {accused.status}, or the sender",
    )
    require(public_key_of(body.secret) == member.box_key, "wrong_key", "not the sender's secret")
    require(
        not _is_sound(body, found, member, accused, block),
        "not_proven",
        "the shares that the sender was handed are those of the hashes",
    )
    found = found.with_member(position, replace(member, status="complained"))
    found = found.with_member(accused_position, replace(accused, status="expelled"))
    _put(body.round, found, block)
    values = (body.round.hex(), accused.device.hex(), member.device.hex())
    return (Event(name="participant_expelled", values=values),)


def _is_sound(
    body: RoundComplaint,
    found: FederatedRound,
    receiver: Member,
    owner: Member,
    block: BlockContext,
) -> bool:
    """Tell whether the shares that an owner has handed to a receiver are what it has hashed."""
    assert owner.box_key is not None, "who has shared has joined"
    shares = handed_over(
        _shares_of(body.round, owner, block),
        Handover(round_id=body.round, owner=owner.device, receiver=receiver.device),
        members=[member.device for member in found.members_of(owner.group)],
        secret=body.secret,
        owner_key=owner.box_key,
    )
    return shares is not None


def _shares_of(round_id: Digest, owner: Member, block: BlockContext) -> SharesRecord:
    shares = block.state.get(SHARES_TABLE, round_id + owner.device)
    assert shares is not None, "who has shared is on record"
    return shares


JOIN: Final = Kind(
    name="round.join",
    signer=Signer.DEVICE,
    lane=Lane.REGISTRY,
    body=Record(RoundJoin, round=DIGEST, mask_key=X25519_KEY, box_key=X25519_KEY),
    apply=_join,
)
SHARE: Final = Kind(
    name="round.share",
    signer=Signer.DEVICE,
    lane=Lane.REGISTRY,
    body=Record(RoundShare, round=DIGEST, **SHARES),
    body_size_max=4 * 1024,
    apply=_share,
)
COMMIT: Final = Kind(
    name="update.commit",
    signer=Signer.DEVICE,
    lane=Lane.REGISTRY,
    body=Record(UpdateCommit, round=DIGEST, base=DIGEST, size_bytes=Integer(1, 2**32), root=DIGEST),
    apply=_commit,
)
REVEAL: Final = Kind(
    name="update.reveal",
    signer=Signer.DEVICE,
    lane=Lane.REGISTRY,
    body=Record(UpdateReveal, round=DIGEST, shares=REVEALED),
    body_size_max=4 * 1024,
    apply=_reveal,
)
COMPLAINT: Final = Kind(
    name="round.complaint",
    signer=Signer.DEVICE,
    lane=Lane.REGISTRY,
    body=Record(RoundComplaint, round=DIGEST, accused=DIGEST, secret=Blob(32)),
    apply=_complain,
)
