"""Everything that can happen to a replica: a closed union.

The driver turns the world into these values and passes each to `Replica.step`, one at a time.
"""

from dataclasses import dataclass

from chain.blocks import Header
from chain.miners import MinerSet
from chain.types import Address, Digest, Height, PublicKey, Round, TimestampMs
from consensus.messages import Message, Proposal
from consensus.timers import Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class HeightConfig:
    """What agreement on one height depends on; everything here follows from the parent block.

    Parameters
    ----------
    next_miners : MinerSet
        The set of ``height + 1``, under which what members say of next heights is verified.
    eligible : tuple of Address
        The members that may propose, in ascending order of their ids; at least one.
    parent : Header
        The committed header of ``height - 1``.
    """

    height: Height
    genesis_hash: Digest
    miners: MinerSet
    next_miners: MinerSet
    eligible: tuple[Address, ...]
    parent: Header
    timing: Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class StartHeight:
    """The parent block is committed, executed and stored durably; work on the next height.

    Comes first of all, after each `Committed`, and whenever block synchronisation has moved the
    chain on. Heights may be skipped, never repeated or lowered.
    """

    config: HeightConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A decoded message has arrived, of any origin: its signature says whose it is.

    Parameters
    ----------
    wall_ms : TimestampMs
        The wall clock at its arrival, for the time rule.
    """

    message: Message
    wall_ms: TimestampMs


@dataclass(frozen=True, slots=True)
class Tick:
    """A deadline asked for by an earlier `Output` may have come."""


@dataclass(frozen=True, slots=True)
class WorkPending:
    """There is reason for a block: a pending transaction, a due heartbeat or a due deadline.

    May be repeated; holds until the height is committed.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockBuilt:
    """The answer to `BuildBlock`: the block is executed, stored durably, and valid.

    Ignored where the replica has left that round meanwhile.
    """

    height: Height
    round: Round
    proposal: Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalChecked:
    """The answer to `CheckProposal`; given only when certain.

    Parameters
    ----------
    valid : bool
        True: every body is held, the block was executed, its roots are equal, and it is stored
        durably. False: it breaks a rule and always will. Bodies that cannot be had are no answer.
    """

    height: Height
    digest: Digest
    valid: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFetched:
    """The answer to `FetchBlock`: the header with this hash, and its transactions' digests.

    The bodies are asked for by the `CheckProposal` that follows.
    """

    height: Height
    proposal: Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConnected:
    """An authenticated session with a miner stands (again): show it what it may have missed."""

    miner: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class HeightSeen:
    """A miner has said, in an authenticated session, which height it works on.

    That is its last committed height plus one. Never derived from signed messages: those can be
    old ones, replayed by others.
    """

    miner: Address
    height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryShown:
    """A miner has said, in an authenticated session, that it has shown what it holds of this one.

    Comes behind the messages that it showed (see `PeerConnected`).

    Parameters
    ----------
    height : Height
        What it worked on meanwhile.
    """

    miner: Address
    height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerSeen:
    """The process that has the miner's key was reached, or lost.

    Parameters
    ----------
    keys : tuple of PublicKey
        Those that it has; none: it cannot be reached, and answers nothing that is open.
    remembers : bool
        Whether it knows what it signed before.
    """

    keys: tuple[PublicKey, ...]
    remembers: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSigned:
    """The answer to `SignMessage`: the message with its signature, which was verified."""

    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningRefused:
    """The answer to `SignMessage` where it would contradict what was signed before."""

    message: Message


Event = (
    StartHeight
    | Received
    | Tick
    | WorkPending
    | BlockBuilt
    | ProposalChecked
    | BlockFetched
    | PeerConnected
    | HeightSeen
    | MemoryShown
    | SignerSeen
    | MessageSigned
    | SigningRefused
)
