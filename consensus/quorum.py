"""Votes of distinct members, and the certificates they make."""

from dataclasses import dataclass, field

from chain.certificate import SignedVote, VoteCertificate
from chain.miners import MinerSet
from chain.types import Address, Digest, Height, Round, Signature


@dataclass(slots=True)
class VoteSet:
    """Equal votes of one height, round and digest; bounded by the members.

    How many make a quorum is said by `chain.miners` alone.
    """

    height: Height
    round: Round
    digest: Digest
    votes: dict[Address, Signature] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.votes)

    def add(self, miner: Address, signature: Signature) -> None:
        """Count a verified vote; a second one of the same miner changes nothing."""
        self.votes.setdefault(miner, signature)

    def certificate(self, miners: MinerSet) -> VoteCertificate | None:
        """Return a quorum of the votes in the order of the members, or None if there is none."""
        votes = [
            SignedVote(index=index, signature=self.votes[miner.id])
            for index, miner in enumerate(miners)
            if miner.id in self.votes
        ]
        if len(votes) < miners.quorum:
            return None
        return VoteCertificate(
            height=self.height,
            round=self.round,
            digest=self.digest,
            votes=tuple(votes[: miners.quorum]),
        )
