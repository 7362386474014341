"""What the state holds of governance proposals."""

from dataclasses import dataclass
from typing import Final

from chain.fields import ADDRESS, DIGEST, HEIGHT, UNTIL_MS
from chain.miners import MINERS_MAX
from chain.schema import Blob, ListOf, Optional, Record, Text, Word
from chain.table import Table
from chain.transactions import BODY_SIZE_MAX, KIND_SIZE_MAX
from chain.types import Address, Digest, Height

OPEN_PROPOSALS_MAX: Final = 128
"""Shared evenly by the miners, of whom there are at most `MINERS_MAX`."""
CLOSED_PROPOSALS_MAX: Final = 256
"""Closed proposals that stay in the state; the oldest goes. Blocks and receipts keep them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalRecord:
    """A governance proposal.

    Parameters
    ----------
    status : {"open", "enacted", "rejected", "expired", "void"}
        `open`, even if a quorum approves it, while an earlier change is in the way; `void`: it was
        agreed on, but no longer possible by then.
    """

    kind: str
    body: bytes
    proposer: Address
    opened_height: Height
    deadline_ms: int
    approvals: tuple[Address, ...]
    refusals: tuple[Address, ...]
    status: str
    closed_height: Height | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenProposals:
    """Ids of the proposals that are open, oldest first."""

    ids: tuple[Digest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedProposals:
    """Ids of the closed proposals that the state still has, in the order of their ends."""

    ids: tuple[Digest, ...]


PROPOSAL_TABLE: Final = Table(
    b"proposal/",
    Record(
        ProposalRecord,
        kind=Text(KIND_SIZE_MAX),
        body=Blob(1, BODY_SIZE_MAX),
        proposer=ADDRESS,
        opened_height=HEIGHT,
        deadline_ms=UNTIL_MS,
        approvals=ListOf(ADDRESS, MINERS_MAX),
        refusals=ListOf(ADDRESS, MINERS_MAX),
        status=Word("open", "enacted", "rejected", "expired", "void"),
        closed_height=Optional(HEIGHT),
    ),
)
OPEN_PROPOSALS: Final = Table(
    b"open-proposals", Record(OpenProposals, ids=ListOf(DIGEST, OPEN_PROPOSALS_MAX))
)
CLOSED_PROPOSALS: Final = Table(
    b"closed-proposals", Record(ClosedProposals, ids=ListOf(DIGEST, CLOSED_PROPOSALS_MAX))
)
