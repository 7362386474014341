"""The four messages of agreement, and what each of them signs.

Every message signs ``[genesis hash, type, height, round, …]`` under `VOTE_TAG`; PREPARE and COMMIT
sign exactly `chain.certificate.vote_bytes`, so that certificates are made of them. Two statements
of one miner that agree in these first four items and differ in the rest prove that it lied.
docs/spec/consensus.md, section "Messages", is normative.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import ClassVar

from chain import codec
from chain.blocks import Header
from chain.certificate import VOTE_TAG, VoteCertificate, VoteType, vote_bytes
from chain.types import Address, Digest, Height, PublicKey, Round, Signature
from consensus.verifier import Verifier

UNSIGNED = Signature(bytes(64))
"""Placeholder while a message is being made."""


class Phase(IntEnum):
    """The order in which a miner signs within a round (DESIGN rule 4)."""

    ROUND_CHANGE = 0
    PRE_PREPARE = 1
    PREPARE = 2
    COMMIT = 3


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where in the order of all signatures a message stands."""

    height: Height
    round: Round
    phase: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A block as consensus sees it: its header, and the full digests of its transactions."""

    header: Header
    digests: tuple[Digest, ...]

    @property
    def digest(self) -> Digest:
        """What is agreed on: the hash of the header."""
        return self.header.hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """The sender holds this block, has executed it, and found every rule kept."""

    sender: Address
    height: Height
    round: Round
    digest: Digest
    signature: Signature = UNSIGNED

    name: ClassVar[str] = VoteType.PREPARE.value
    phase: ClassVar[Phase] = Phase.PREPARE

    def statement(self, genesis_hash: Digest) -> bytes:
        """Return the bytes that are signed."""
        return vote_bytes(
            genesis_hash=genesis_hash,
            type=VoteType.PREPARE,
            height=self.height,
            round=self.round,
            digest=self.digest,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """The sender has seen a quorum of PREPAREs for this block, and keeps them."""

    sender: Address
    height: Height
    round: Round
    digest: Digest
    signature: Signature = UNSIGNED

    name: ClassVar[str] = VoteType.COMMIT.value
    phase: ClassVar[Phase] = Phase.COMMIT

    def statement(self, genesis_hash: Digest) -> bytes:
        """Return the bytes that are signed."""
        return vote_bytes(
            genesis_hash=genesis_hash,
            type=VoteType.COMMIT,
            height=self.height,
            round=self.round,
            digest=self.digest,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundChange:
    """The sender has given up every round below `round`.

    Parameters
    ----------
    prepared_round, prepared_digest : optional
        The highest round the sender was prepared in, and for which block; signed, both or neither.
    certificate : VoteCertificate, optional
        The PREPAREs that prove it. Absent where the message stands inside a `Justification`, which
        carries the one certificate that matters.
    """

    sender: Address
    height: Height
    round: Round
    prepared_round: Round | None
    prepared_digest: Digest | None
    certificate: VoteCertificate | None
    signature: Signature = UNSIGNED

    name: ClassVar[str] = "round-change"
    phase: ClassVar[Phase] = Phase.ROUND_CHANGE

    def statement(self, genesis_hash: Digest) -> bytes:
        """Return the bytes that are signed."""
        return codec.encode(
            (
                genesis_hash,
                self.name,
                self.height,
                self.round,
                self.prepared_round,
                self.prepared_digest,
            )
        )

    def without_certificate(self) -> "RoundChange":
        """Return the form that stands in a justification."""
        return replace(self, certificate=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Justification:
    """Why a block may be proposed in a round above 0.

    Parameters
    ----------
    round_changes : tuple of RoundChange
        A quorum for exactly this round, in ascending order of their senders, without certificates.
    certificate : VoteCertificate, optional
        The PREPAREs of the highest prepared round among them; None if nobody was prepared.
    """

    round_changes: tuple[RoundChange, ...]
    certificate: VoteCertificate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrePrepare:
    """The proposer of (height, round) proposes a block; no vote in itself.

    Parameters
    ----------
    justification : Justification, optional
        Present exactly for rounds above 0. Not signed: its parts are.
    """

    sender: Address
    height: Height
    round: Round
    proposal: Proposal
    justification: Justification | None
    signature: Signature = UNSIGNED

    name: ClassVar[str] = "pre-prepare"
    phase: ClassVar[Phase] = Phase.PRE_PREPARE

    @property
    def digest(self) -> Digest:
        """The hash of the proposed header."""
        return self.proposal.header.hash

    def statement(self, genesis_hash: Digest) -> bytes:
        """Return the bytes that are signed."""
        return codec.encode((genesis_hash, self.name, self.height, self.round, self.digest))


Message = PrePrepare | Prepare | Commit | RoundChange


def position_of(message: Message) -> Position:
    """Return where `message` stands in the order of its sender's signatures."""
    return Position(message.height, message.round, message.phase)


def is_signed_by(
    message: Message, key: PublicKey, genesis_hash: Digest, verifier: Verifier
) -> bool:
    """Tell whether the signature of `message` is by `key`."""
    return verifier(key, VOTE_TAG, message.statement(genesis_hash), message.signature)
