"""Votes on blocks, and the certificate of COMMIT votes that proves one to an outsider.

The bytes a vote signs stand here, below consensus, because whoever checks a block needs them.
docs/spec/consensus.md is normative.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from chain import codec, crypto
from chain.errors import InvalidCertificate
from chain.fields import DIGEST, HEIGHT, ROUND
from chain.miners import MINERS_MAX, MinerSet
from chain.schema import Blob, Integer, ListOf, Record
from chain.types import (
    SIGNATURE_SIZE,
    Address,
    Digest,
    Height,
    PublicKey,
    Round,
    Signature,
)

VOTE_TAG: Final = b"securenet/vote/v1"
STATEMENT_TYPES: Final = ("pre-prepare", "prepare", "commit", "round-change")
"""What consensus signs under this tag, as ``[genesis hash, type, height, round, …]``: one statement
of each type in a round."""
CERTIFICATE_SIZE_MAX: Final = 128 + MINERS_MAX * (SIGNATURE_SIZE + 8)


class VoteType(StrEnum):
    """The two kinds of votes that certificates are made of."""

    PREPARE = "prepare"
    COMMIT = "commit"


def vote_bytes(
    *, genesis_hash: Digest, type: VoteType, height: Height, round: Round, digest: Digest
) -> bytes:
    """Return what a PREPARE or COMMIT signs, under `VOTE_TAG`."""
    return codec.encode((genesis_hash, type.value, height, round, digest))


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedVote:
    """One signature in a certificate, with the index of its signer in the height's miner set."""

    index: int
    signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteCertificate:
    """A quorum of equal votes of one height and round.

    As a *commit certificate* (COMMIT votes) it proves a block; as a *prepared certificate*
    (PREPARE votes) it justifies that a block is proposed again.

    Notes
    -----
    Different valid certificates for one block may exist, so nothing is ever derived from what a
    certificate contains beyond its validity, and it is stored beside the block, outside its hash.
    """

    height: Height
    round: Round
    digest: Digest
    votes: tuple[SignedVote, ...]

    def check_signers(self, miners: MinerSet) -> None:
        """Check by form alone that the votes are said to be by a quorum of distinct `miners`.

        Raises
        ------
        InvalidCertificate
            Too few or too many votes, or indices not strictly ascending or outside the set.
        """
        if not miners.quorum <= len(self.votes) <= len(miners):
            raise InvalidCertificate(
                f"{len(self.votes)} votes; {miners.quorum} to {len(miners)} are a quorum"
            )
        previous = -1
        for vote in self.votes:
            if not previous < vote.index < len(miners):
                raise InvalidCertificate(f"signer index {vote.index} is out of order or range")
            previous = vote.index

    def signers(self, miners: MinerSet) -> tuple[Address, ...]:
        """Return the members whose votes these are; their form has been checked."""
        return tuple(miners.members[vote.index].id for vote in self.votes)

    def verify(
        self,
        *,
        type: VoteType,
        genesis_hash: Digest,
        miners: MinerSet,
        is_signed: Callable[[PublicKey, bytes, bytes, Signature], bool] = crypto.verify,
    ) -> None:
        """Check that a quorum of distinct `miners` signed this vote.

        Parameters
        ----------
        miners : MinerSet
            The miner set of `height`.
        is_signed : callable, optional
            Answers as `chain.crypto.verify` does; it may know more.

        Raises
        ------
        InvalidCertificate
            The form is wrong, or a signature does not verify.
        """
        self.check_signers(miners)
        message = vote_bytes(
            genesis_hash=genesis_hash,
            type=type,
            height=self.height,
            round=self.round,
            digest=self.digest,
        )
        for vote in self.votes:
            key = miners.members[vote.index].key
            if not is_signed(key, VOTE_TAG, message, vote.signature):
                raise InvalidCertificate(f"the signature of miner {vote.index} does not verify")


CommitCertificate = VoteCertificate
PreparedCertificate = VoteCertificate

CERTIFICATE: Final = Record(
    VoteCertificate,
    height=HEIGHT,
    round=ROUND,
    digest=DIGEST,
    votes=ListOf(
        Record(SignedVote, index=Integer(0, MINERS_MAX - 1), signature=Blob(SIGNATURE_SIZE)),
        MINERS_MAX,
    ),
)


def decode_certificate(data: bytes) -> VoteCertificate:
    """Read a certificate; raises `DecodeError`."""
    return CERTIFICATE.decode(
        data, what="certificate", size_max=CERTIFICATE_SIZE_MAX, items_max=MINERS_MAX
    )
