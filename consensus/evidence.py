"""Proof that a miner signed two different things where it may sign one (DESIGN rule 11)."""

from dataclasses import dataclass

from chain.types import Address, Digest, Height, Round, Signature
from consensus.messages import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Two statements of one miner, both signed under `chain.certificate.VOTE_TAG`.

    Parameters
    ----------
    type : str
        ``pre-prepare``, ``prepare``, ``commit`` or ``round-change``.
    first, second : bytes
        Canonical arrays ``[genesis hash, type, height, round, …]`` which differ only after these
        four items, in ascending order, so that one crime has one proof.
    """

    miner: Address
    type: str
    height: Height
    round: Round
    first: bytes
    first_signature: Signature
    second: bytes
    second_signature: Signature


def conflict(first: Message, second: Message, *, genesis_hash: Digest) -> Evidence | None:
    """Return the proof in two messages of one sender, height, round and type, if they differ.

    Both signatures must have been verified. Messages that differ only in what they do not sign
    (a certificate, a justification) prove nothing.
    """
    assert (first.sender, first.height, first.round, first.name) == (
        second.sender,
        second.height,
        second.round,
        second.name,
    ), "only messages of one sender, height, round and type can conflict"
    statements = sorted(
        (message.statement(genesis_hash), message.signature) for message in (first, second)
    )
    (one, one_signature), (two, two_signature) = statements
    if one == two:
        return None
    return Evidence(
        miner=first.sender,
        type=first.name,
        height=first.height,
        round=first.round,
        first=one,
        first_signature=one_signature,
        second=two,
        second_signature=two_signature,
    )
