"""All secrets of a participant in one federated round, from one seed.

A participant draws 32 random bytes when it joins and keeps them on its disk until the round has
ended. Whatever happens in between, it makes the same keys, masks and shares again: a restart cannot
publish one update under two masks, whose difference would tell something. Nor must it mask a second
update under the same secrets: it keeps its first blob.
"""

from dataclasses import dataclass
from typing import Final

from chain.federated.boxes import ShareKind, public_key_of
from chain.federated.records import SALT_SIZE
from chain.types import Address, Digest
from ml_validator.federated.fixed_point import Integers, Words
from ml_validator.federated.masking import KEY_SIZE, Group, derive, masked
from ml_validator.federated.secret_sharing import entropy_size, split
from ml_validator.federated.share_box import Pair, close_box, share_hashes

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

    def _derive(self, label: bytes, size: int = KEY_SIZE) -> bytes:
        info = _INFO + label + b"/" + self.member
        return derive(self.seed, salt=self.round_id, info=info, size=size)

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
        """Return the shares for each member, itself included, in the order of the members."""
        count = len(group.members)
        shares = {}
        for kind, secret in (
            (ShareKind.SELF_MASK, self.self_seed),
            (ShareKind.KEY, self.mask_private),
        ):
            label = bytes((kind,)) + group.index.to_bytes(4, "big")
            entropy = self._derive(b"shares" + label, entropy_size(count))
            salts = self._derive(b"salts" + label, SALT_SIZE * count)
            values = split(secret, members=count, entropy=entropy)
            shares[kind] = [
                value + salts[SALT_SIZE * i : SALT_SIZE * (i + 1)] for i, value in enumerate(values)
            ]
        return tuple(zip(shares[ShareKind.SELF_MASK], shares[ShareKind.KEY], strict=True))

    def hashes(self, group: Group) -> bytes:
        """Return `hashes` of the participant's `round.share`."""
        return share_hashes(group, self.member, self.pairs(group))

    def boxes(self, group: Group) -> dict[Address, bytes]:
        """Return a box for each other member, in their order: `boxes` of `round.share`.

        Raises
        ------
        InvalidShare
            The key of one agrees on no secret.
        """
        return {
            receiver: close_box(
                group,
                owner=self.member,
                receiver=receiver,
                pair=pair,
                box_private=self.box_private,
            )
            for receiver, pair in zip(group.members, self.pairs(group), strict=True)
            if receiver != self.member
        }

    def masked(self, update: Integers, group: Group) -> Words:
        """Return what the participant publishes of its update; raises as `boxes`."""
        return masked(
            update,
            group=group,
            member=self.member,
            mask_private=self.mask_private,
            self_seed=self.self_seed,
        )
