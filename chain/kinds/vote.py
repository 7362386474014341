"""`miner.vote`: a miner approves or refuses a governance proposal."""

from collections.abc import Mapping
from dataclasses import dataclass

from chain.blocks import Event
from chain.fields import DIGEST
from chain.governance import vote
from chain.kinds.base import BlockContext, Kind, Lane, Signer
from chain.schema import Boolean, Record
from chain.transactions import Transaction
from chain.types import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class MinerVote:
    """A vote on the proposal whose id is that of the transaction which opened it."""

    proposal: Digest
    approve: bool


def vote_kind(governed: Mapping[str, Kind]) -> Kind:
    """Return the kind, which enacts the proposals of the `governed` kinds."""

    def apply(body: MinerVote, transaction: Transaction, block: BlockContext) -> tuple[Event, ...]:
        return vote(body.proposal, body.approve, transaction.payload.sender, governed, block)

    return Kind(
        name="miner.vote",
        signer=Signer.MINER,
        lane=Lane.GOVERNANCE,
        body=Record(MinerVote, proposal=DIGEST, approve=Boolean()),
        apply=apply,
    )
