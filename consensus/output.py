"""What a step asks of the driver, and in which order.

1. append `writes` to the log and fsync it, as one append;
2. obey a `GossipPending` among `requests`;
3. send `sends`;
4. obey the other `requests`, in order;
5. execute `commits`, store them durably, then feed `StartHeight` for the next height;
6. arm one timer for `deadline_ns` (or none), and feed `Tick` when it has come.

Sending before the writes are durable breaks agreement: a miner that forgot its vote after a crash
could sign a second, different one. `evidence` and `rejected` may be handled at any time.
"""

from dataclasses import dataclass

from chain.blocks import Header
from chain.certificate import CommitCertificate
from chain.types import Address, Digest, Height, PublicKey, Round
from consensus.durable import WalRecord
from consensus.errors import InvalidMessage
from consensus.evidence import Evidence
from consensus.height import RoundEntry
from consensus.messages import Message, Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """A message for other miners.

    Parameters
    ----------
    data : bytes
        The message, encoded once for all receivers.
    to : Address, optional
        None: every other member of the height.
    """

    message: Message
    data: bytes
    to: Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildBlock:
    """Build a fresh block, execute and store it durably, and answer `BlockBuilt`.

    Parameters
    ----------
    round : Round
        Becomes the header's ``proposal_round``. In rounds above 0 an empty block is built where
        nothing is pending: a round once begun ends with a block.
    limit_shift : int
        The limits of the block are halved so many times (but allow one transaction).
    """

    height: Height
    round: Round
    parent: Header
    limit_shift: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckProposal:
    """Fetch the bodies, execute, compare the roots, store durably; answer `ProposalChecked`.

    May be repeated for one digest, with other holders. A later request for the same height makes
    those for other digests idle, save where `committed` is set.

    Parameters
    ----------
    holders : tuple of Address
        Whom to ask for missing bodies, best first; `Replica.holders` knows more as votes come in.
    committed : bool
        A quorum has committed this block: it has to be had.
    """

    height: Height
    round: Round
    proposal: Proposal
    holders: tuple[Address, ...]
    committed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchBlock:
    """Get the header with this hash and its transactions' digests; answer `BlockFetched`.

    Parameters
    ----------
    holders : tuple of Address
        Members that attested to hold it.
    certificate : CommitCertificate, optional
        The COMMITs of the block, if it is committed; then block synchronisation may as well apply
        it and feed `StartHeight`. None: it was prepared, and this miner has to propose it again.
    """

    height: Height
    digest: Digest
    holders: tuple[Address, ...]
    certificate: CommitCertificate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GossipPending:
    """Send the pending transactions to all members, ahead of the ROUND-CHANGE of this step."""

    height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOldHeight:
    """A miner still works on `height`: send it that block and its certificate."""

    miner: Address
    height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class CatchUp:
    """A miner has shown by a signature that it works on `height`, above this replica's."""

    miner: Address
    height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class TellShown:
    """Tell a miner, behind the `sends` of this step, that it was shown all that is held of it."""

    miner: Address
    height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class SignMessage:
    """Have another process sign a message; answer `MessageSigned` or `SigningRefused`.

    Comes only to a miner whose key is not here. Requests are handed over in their order. Where the
    process cannot be reached, `SignerSeen` without keys is the answer to all that are open.

    Parameters
    ----------
    statement : bytes
        What is to be signed, under `chain.certificate.VOTE_TAG`.
    """

    key: PublicKey
    message: Message
    statement: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TellFloor:
    """Tell the process that has the key from which height on it may sign, if it does not know."""

    height: Height


Request = (
    BuildBlock
    | CheckProposal
    | FetchBlock
    | GossipPending
    | AnswerOldHeight
    | CatchUp
    | TellShown
    | SignMessage
    | TellFloor
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """A block that is final, and was checked here."""

    height: Height
    proposal: Proposal
    certificate: CommitCertificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What one step brought about; see the module for the order in which to obey.

    Parameters
    ----------
    commits : tuple of Committed
        At most one: a replica waits for `StartHeight` after each.
    rejected : tuple of InvalidMessage
        Messages buffered for this height which turned out to be invalid when it began.
    rounds : tuple of RoundEntry
        Rounds that were entered, and what the ones before lacked; for operators.
    deadline_ns : int, optional
        The monotonic time at which the replica wants a `Tick`; replaces the one asked for before.
    """

    writes: tuple[WalRecord, ...] = ()
    sends: tuple[Send, ...] = ()
    requests: tuple[Request, ...] = ()
    commits: tuple[Committed, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    rejected: tuple[InvalidMessage, ...] = ()
    rounds: tuple[RoundEntry, ...] = ()
    deadline_ns: int | None = None
