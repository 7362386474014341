"""A federated round on a chain in memory, with everything that its participants know."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from typing import Any

from chain.federated.boxes import (
    Handover,
    Pair,
    ShareKind,
    close_box,
    element,
    pads_of,
    public_key_of,
    share_hash,
)
from chain.federated.records import (
    BOX_SIZE,
    ROUND_TABLE,
    SHARE_SIZE,
    Deadlines,
    FederatedRound,
    Member,
    Terms,
    threshold,
)
from chain.kinds.participation import (
    RoundComplaint,
    RoundJoin,
    RoundShare,
    UpdateCommit,
    UpdateReveal,
)
from chain.kinds.rounds import (
    Invitation,
    RoundAbort,
    RoundAggregate,
    RoundAttest,
    RoundOpen,
)
from chain.transactions import Transaction
from chain.types import Digest, Height
from tests.builders import Chain, Device, digest_of

BASE = digest_of("the base model")
PARAMETERS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgery:
    """What a member does wrong when it shares: it boxes or hashes something else for `victim`.

    It can break a box only where `victim` is one of those that get a box.
    """

    victim: Device
    breaks_box: bool = False


class Federation:
    """A round and all who can act in it; the phases are played by `play_to`.

    Parameters
    ----------
    count : int
        Participants, who are registered in a block, unless they are given as `devices`.
    """

    def __init__(
        self,
        chain: Chain | None = None,
        *,
        count: int = 4,
        devices: Sequence[Device] | None = None,
        **terms: Any,
    ) -> None:
        self.chain = Chain() if chain is None else chain
        if devices is None:
            devices, registrations = participants(self.chain, count)
            self.chain.commit(*registrations)
        self.devices = sorted(devices, key=lambda device: device.id)
        self.id = digest_of("no round yet")
        self.terms = replace(make_terms(self.chain.tip.next_height), **terms)

    # --- transactions ---------------------------------------------------------------------------

    def opening(self, *, organisation: str = "acme", **fields: Any) -> Transaction:
        """Return the transaction that opens a round for all; `fields` are those of its body."""
        invitations = tuple([invite(device) for device in self.devices])
        body = replace(RoundOpen(terms=self.terms, participants=invitations), **fields)
        return self.chain.by_registrar("round.open", body, organisation=organisation)

    def abort(self, *, organisation: str = "acme") -> Transaction:
        """Return the coordinator's end of the round."""
        body = RoundAbort(round=self.id)
        return self.chain.by_registrar("round.abort", body, organisation=organisation)

    def by(self, device: Device, kind: str, body: Any) -> Transaction:
        """Return a transaction of a participant."""
        return self.chain.transaction(kind, body, device.key, device.id)

    def join(self, device: Device, **fields: Any) -> Transaction:
        """Return a participant's `round.join`."""
        body = RoundJoin(
            round=self.id,
            mask_key=public_key_of(self.secret(device, "masks")),
            box_key=public_key_of(self.secret(device)),
        )
        return self.by(device, "round.join", replace(body, **fields))

    def share(
        self, device: Device, *, forgery: Forgery | None = None, **fields: Any
    ) -> Transaction:
        """Return a participant's `round.share`."""
        hashes, boxes = b"", b""
        for receiver in map(self.device_of, self.group_of(device)):
            handover = self.handover(device, receiver)
            shares = [self.share_of(device, receiver, kind) for kind in ShareKind]
            is_victim = forgery is not None and forgery.victim == receiver
            breaks_box = forgery is not None and forgery.breaks_box
            if self.has_box(device, receiver):
                box = close_box(self.pads(device, receiver), (shares[0], shares[1]))
                boxes += bytes(BOX_SIZE) if is_victim and breaks_box else box
                is_victim = is_victim and not breaks_box
            if is_victim:
                shares[1] = bytes(SHARE_SIZE)
            hashes += b"".join(
                [
                    share_hash(share, kind, handover)
                    for share, kind in zip(shares, ShareKind, strict=True)
                ]
            )
        body = RoundShare(round=self.id, hashes=hashes, boxes=boxes)
        return self.by(device, "round.share", replace(body, **fields))

    def commit(self, device: Device, **fields: Any) -> Transaction:
        """Return a participant's `update.commit`."""
        body = UpdateCommit(
            round=self.id,
            base=self.terms.base,
            size_bytes=self.terms.update_size,
            root=digest_of(f"root of the update of {device.id.hex()}"),
        )
        return self.by(device, "update.commit", replace(body, **fields))

    def reveal(self, device: Device, **fields: Any) -> Transaction:
        """Return a participant's `update.reveal`."""
        shares = tuple(
            [
                self.share_of(self.device_of(owner), device, self.kind_of(owner))
                for owner in self.group_of(device)
                if owner.has_shared
            ]
        )
        body = UpdateReveal(round=self.id, shares=shares)
        return self.by(device, "update.reveal", replace(body, **fields))

    def complaint(self, device: Device, accused: Device, **fields: Any) -> Transaction:
        """Return a participant's `round.complaint`."""
        body = RoundComplaint(round=self.id, accused=accused.id, secret=self.secret(device))
        return self.by(device, "round.complaint", replace(body, **fields))

    def attest(
        self, miner: int, devices: Iterable[Device] | None = None, **fields: Any
    ) -> Transaction:
        """Return a miner's word that it holds the updates of some, by default of all."""
        members = self.record.members
        ids = None if devices is None else {device.id for device in devices}
        places = [
            place
            for place, member in enumerate(members)
            if (member.update is not None if ids is None else member.device in ids)
        ]
        held = sum([1 << place for place in places]).to_bytes((len(members) + 7) // 8, "big")
        body = replace(RoundAttest(round=self.id, held=held), **fields)
        return self.chain.by_miner(miner, "round.attest", body)

    def aggregate(self, miner: int, **fields: Any) -> Transaction:
        """Return what a miner has computed."""
        body = RoundAggregate(round=self.id, root=digest_of("root of the aggregate"))
        return self.chain.by_miner(miner, "round.aggregate", replace(body, **fields))

    # --- what happens ---------------------------------------------------------------------------

    def open(self) -> Digest:
        """Open the round in a block of its own and return its id."""
        opening = self.opening()
        self.chain.commit(opening)
        self.id = opening.id
        return opening.id

    def play_to(self, phase: str, *, without: Iterable[Device] = ()) -> None:
        """Let everybody do its part until the round is in `phase`, except those who are dead."""
        if self.chain.state.get(ROUND_TABLE, self.id) is None:
            self.open()
        dead = list(without)
        alive = [device for device in self.devices if device not in dead]
        while self.record.phase != phase and self.record.is_open:
            at = self.record.phase
            match at:
                case "join":
                    self.chain.commit(*[self.join(device) for device in alive])
                case "draw":
                    self.chain.commit()
                case "share":
                    self.chain.commit(*[self.share(device) for device in alive])
                case "commit":
                    counting = [device for device in alive if self.counts(device)]
                    self.chain.commit(*[self.commit(device) for device in counting])
                case "attest":
                    self.chain.commit(*[self.attest(miner) for miner in range(4)])
                case "reveal":
                    self.reveal_all(alive)
                case _:
                    self.chain.commit(*[self.aggregate(miner) for miner in range(4)])
            while dead and self.record.phase == at:
                self.chain.commit()

    def reveal_all(self, alive: Iterable[Device]) -> None:
        """Let everybody reveal, one block each, as far as it is needed."""
        for device in alive:
            is_known = self.member_of(device).group in self.record.revealed
            if self.record.phase == "reveal" and self.counts(device) and not is_known:
                self.chain.commit(self.reveal(device))

    def wait(self) -> None:
        """Let the deadline of the phase pass."""
        phase = self.record.phase
        while self.record.phase == phase:
            self.chain.commit()

    # --- what is so -----------------------------------------------------------------------------

    @property
    def record(self) -> FederatedRound:
        """The round as the chain has it."""
        found = self.chain.state.get(ROUND_TABLE, self.id)
        assert found is not None, "the round is on record"
        return found

    def member_of(self, device: Device) -> Member:
        """Return how a participant stands."""
        position = self.record.position_of(device.id)
        assert position is not None, "it is invited"
        return self.record.members[position]

    def counts(self, device: Device) -> bool:
        """Tell whether a participant is in a group that counts."""
        return self.member_of(device).group in self.record.groups

    def group_of(self, device: Device) -> tuple[Member, ...]:
        """Return who is in a participant's group."""
        return self.record.members_of(self.member_of(device).group)

    def device_of(self, member: Member) -> Device:
        """Return the device that a member is."""
        return next(device for device in self.devices if device.id == member.device)

    def secret(self, device: Device, purpose: str = "boxes") -> bytes:
        """Return one of a participant's two X25519 secrets for this round."""
        return sha256(purpose.encode() + self.id + device.id).digest()

    def handover(self, owner: Device, receiver: Device) -> Handover:
        """Return between whom shares go."""
        return Handover(round_id=self.id, owner=owner.id, receiver=receiver.id)

    def pads(self, owner: Device, receiver: Device) -> Pair:
        """Return what an owner and a receiver have agreed upon."""
        key = public_key_of(self.secret(receiver))
        return _pads(self.secret(owner), key, self.handover(owner, receiver))

    def has_box(self, owner: Device, receiver: Device) -> bool:
        """Tell whether a receiver's shares are not its pads."""
        members = [member.device for member in self.group_of(owner)]
        others = [member for member in members if member != owner.id]
        return receiver.id in others[threshold(len(members)) - 1 :]

    def share_of(self, owner: Device, receiver: Device, kind: ShareKind) -> bytes:
        """Return a share; to the chain it is any bytes, but for those that are pads."""
        if owner == receiver or self.has_box(owner, receiver):
            seed = sha256(bytes((kind,)) + self.id + owner.id + receiver.id).digest()
            return element(int.from_bytes(seed, "big"))
        return self.pads(owner, receiver)[kind]

    def kind_of(self, owner: Member) -> ShareKind:
        """Return which share of a member may be revealed."""
        return ShareKind.SELF_MASK if owner.status == "included" else ShareKind.KEY


@lru_cache(maxsize=4096)
def _pads(secret: bytes, other_key: bytes, handover: Handover) -> Pair:
    return pads_of(secret, other_key, handover)


def participants(chain: Chain, count: int) -> tuple[list[Device], list[Transaction]]:
    """Return participants to be, and the transactions that register them."""
    pairs = [
        chain.registration(f"gateway-{number}", roles=("participant",)) for number in range(count)
    ]
    return [device for device, _ in pairs], [registration for _, registration in pairs]


def make_terms(height: int = 1, **fields: Any) -> Terms:
    """Return terms of a masked round of one group of four, to be opened at `height`."""
    terms = Terms(
        name="week-1",
        base=BASE,
        parameter_count=PARAMETERS,
        scale_bits=24,
        clip=2**40,
        group_size=4,
        groups_min=1,
        rule="mean",
        tolerated=0,
        deadlines=make_deadlines(height),
    )
    return replace(terms, **fields)


def make_deadlines(height: int, step: int = 3) -> Deadlines:
    """Return deadlines `step` heights apart behind `height`, with one for the draw."""
    names = ("share", "commit", "attest", "reveal", "aggregate")
    later = {name: Height(height + 1 + step * number) for number, name in enumerate(names, start=2)}
    return Deadlines(join=Height(height + step), **later)


def invite(device: Device) -> Invitation:
    """Return the invitation of a device."""
    return Invitation(device=device.id, weight=10, steps=5)
