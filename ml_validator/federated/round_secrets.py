"""All secrets of a participant in one federated round, from one seed.

A participant draws 32 random bytes when it joins and keeps them on its disk until the round has
ended. Whatever happens in between, it makes the same keys, masks and shares again: a restart cannot
publish one update under two masks, whose difference would tell something. Nor must it mask a second
update under the same secrets: it keeps its first blob.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from chain.federated.boxes import (
    Pair,
    ShareKind,
    derive,
    element,
    handed_over,
    padded_count,
    public_key_of,
)
from chain.federated.records import SharesRecord
from chain.types import Address, Digest
from ml_validator.federated.fixed_point import Integers, Words
from ml_validator.federated.masking import Group, masked
from ml_validator.federated.secret_sharing import split
from ml_validator.federated.share_box import agreed_pads, shares_record

_INFO: Final = b"securenet/fl/participant/1/"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RoundSecrets:
    """What a participant knows and nobody else.

    Parameters
    ----------
    seed : bytes
        32 random bytes, drawn for this round.
    round_id : Digest
        The federated round.
    member : Address
        Id of the participant.
    """

    seed: bytes
    round_id: Digest
    member: Address

    def _derive(self, label: bytes) -> bytes:
        """Return a number below the prime, so that it can be shared."""
        info = _INFO + label + b"/" + self.member
        return element(int.from_bytes(derive(self.seed, salt=self.round_id, info=info), "big"))

    @property
    def mask_private(self) -> bytes:
        """Private key for pair masks; put together in public if the participant drops out."""
        return self._derive(b"mask-key")

    @property
    def box_private(self) -> bytes:
        """Private key for boxes; never shared."""
        return self._derive(b"box-key")

    @property
    def self_seed(self) -> bytes:
        """Seed of the self mask; put together in public if the participant stays."""
        return self._derive(b"self-mask")

    @property
    def noise_seed(self) -> bytes:
        """Seed of the noise of differential privacy; never shared."""
        return self._derive(b"noise")

    @property
    def mask_public(self) -> bytes:
        """Public key for pair masks."""
        return public_key_of(self.mask_private)

    @property
    def box_public(self) -> bytes:
        """Public key for boxes."""
        return public_key_of(self.box_private)

    def pairs(self, group: Group) -> tuple[Pair, ...]:
        """Return the shares for each member, itself included, in the order of the members.

        Raises
        ------
        InvalidShare
            The key of one agrees on no secret; the chain takes no such key.
        """
        return self._split(group, agreed_pads(group, self.member, box_private=self.box_private))

    def shares(self, group: Group) -> SharesRecord:
        """Return what the participant's `round.share` hands over; raises as `pairs`."""
        pads = agreed_pads(group, self.member, box_private=self.box_private)
        return shares_record(group, self.member, pads=pads, pairs=self._split(group, pads))

    def received(
        self, group: Group, records: Mapping[Address, SharesRecord]
    ) -> dict[Address, Pair | None]:
        """Return of each member that has shared the shares which this one holds.

        Parameters
        ----------
        records : mapping of Address to SharesRecord
            What each has handed over.

        Returns
        -------
        dict of Address to Pair or None
            None where an owner has hashed others than it has handed over: grounds for a complaint.

        Raises
        ------
        InvalidShare
            As `pairs`.
        """
        held: dict[Address, Pair | None] = {}
        own = self.pairs(group)[group.members.index(self.member)]
        keys = dict(zip(group.members, group.box_keys, strict=True))
        for owner in group.sharing:
            held[owner] = (
                own
                if owner == self.member
                else handed_over(
                    records[owner],
                    group.handover(owner, self.member),
                    members=group.members,
                    secret=self.box_private,
                    owner_key=keys[owner],
                )
            )
        return held

    def _split(self, group: Group, pads: Mapping[Address, Pair]) -> tuple[Pair, ...]:
        count = len(group.members)
        to_agree = list(pads)[: padded_count(count)]
        self_shares, key_shares = (
            split(
                secret,
                agreed={group.place(receiver): pads[receiver][kind] for receiver in to_agree},
                members=count,
            )
            for kind, secret in (
                (ShareKind.SELF_MASK, self.self_seed),
                (ShareKind.KEY, self.mask_private),
            )
        )
        return tuple(zip(self_shares, key_shares, strict=True))

    def masked(self, update: Integers, group: Group) -> Words:
        """Return what the participant publishes of its update; raises as `pairs`."""
        return masked(
            update,
            group=group,
            member=self.member,
            mask_private=self.mask_private,
            self_seed=self.self_seed,
        )
