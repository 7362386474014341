"""What a replica is waiting for, as a value for operators (``consensus why``)."""

from dataclasses import dataclass

from chain.types import Address, Digest, Height, Round


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberView:
    """What was seen of one member in the current round.

    Parameters
    ----------
    round : Round
        The highest round the member is known to have reached.
    missing_since_ns : int, optional
        Monotonic time since when the vote that the current phase needs of it is awaited; None
        where nothing is.
    height_reported : Height, optional
        What it last said that it works on.
    """

    miner: Address
    round: Round
    pre_prepare: bool
    prepare: bool
    commit: bool
    round_change: bool
    missing_since_ns: int | None
    height_reported: Height | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundEntry:
    """When and why a round was entered.

    Parameters
    ----------
    cause : str
        ``height``, ``timeout``, ``jump``, ``proposal`` or ``restart``.
    """

    round: Round
    at_ns: int
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of agreement at one moment.

    Parameters
    ----------
    phase : str
        ``idle`` (no work), ``proposal`` (awaited), ``building`` (own block), ``checking``,
        ``prepare`` (quorum awaited), ``commit`` (quorum awaited), ``fetching`` (a block that is
        committed or has to be proposed again), ``committed``, or ``round-change`` (too few members
        have reached this round).
    signing : str
        ``yes``, or why this miner signs nothing: ``observer``, ``lost-memory``, ``floor``.
    """

    height: Height
    round: Round
    phase: str
    signing: str
    proposer: Address
    proposal: Digest | None
    prepared_round: Round | None
    quorum: int
    members: tuple[MemberView, ...]
    deadline_ns: int | None
    rounds: tuple[RoundEntry, ...]
