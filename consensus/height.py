"""What a replica knows about the height it works on."""

from collections import deque
from dataclasses import dataclass
from typing import Final

from chain.certificate import CommitCertificate, PreparedCertificate
from chain.types import Address, Digest, Round
from consensus.events import HeightConfig
from consensus.log import MessageLog
from consensus.messages import Justification, Phase, Proposal
from consensus.verifier import Verifier

CANDIDATES_MAX: Final = 4
"""Blocks held at once: the accepted, the prepared and the decided one are never dropped."""

ROUND_ENTRIES_MAX: Final = 16
"""Changes of round remembered for operators; the oldest goes first."""


_LACKS: Final = {
    "building": "block",
    "checking": "bodies",
    "fetching": "bodies",
    "prepare": "prepare-quorum",
    "commit": "commit-quorum",
    "round-change": "round-change-quorum",
}
"""What is lacking in a phase."""


@dataclass(slots=True)
class Candidate:
    """A block that may be committed at this height.

    Parameters
    ----------
    valid : bool, optional
        What the driver found; None until it has answered.
    asked : tuple of (Round, bool), optional
        In which round the driver was asked last, and whether it was told that it is committed.
    fault : str
        Why it is not valid.
    """

    proposal: Proposal
    valid: bool | None = None
    fault: str = ""
    asked: tuple[Round, bool] | None = None


@dataclass(frozen=True, slots=True)
class Building:
    """A fresh block was asked for, to be proposed with this justification."""

    justification: Justification | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundEntry:
    """When and why a round was entered.

    Parameters
    ----------
    cause : str
        ``height``, ``timeout``, ``jump`` (f + 1 others were there), ``proposal`` (a justified one
        came) or ``restart``.
    lacked : str, optional
        What was missing when the round before was left; see `HeightState.lack`.
    """

    round: Round
    at_ns: int
    cause: str
    lacked: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The proposal of a round, by its proposer, that was not accepted.

    Parameters
    ----------
    untimely : bool
        By rule 13: the two clocks do not agree.
    """

    round: Round
    proposer: Address
    untimely: bool
    reason: str


class HeightState:
    """The facts of one height; the rules stand in `consensus.rules`.

    Attributes
    ----------
    verifier : Verifier
        Remembers the good signatures of this height.
    accepted : Digest, optional
        The proposal of the current round.
    prepared : PreparedCertificate, optional
        The highest this miner has.
    decided : CommitCertificate, optional
        The first quorum of COMMITs that was seen.
    committed : bool
        It is checked as well, and was handed to the driver.
    work : bool
        There is reason for a block.
    overtaken : bool
        Members work on next heights, so this one was decided without this miner.
    fetching : dict of Digest to bool
        Blocks asked for with `FetchBlock`, and whether they were known to be decided.
    convicted : set of Address
        Members against whom a proof was given at this height; no second one is looked for.
    refusal : Refusal, optional
        The last proposal that was not accepted.
    """

    def __init__(self, config: HeightConfig, now: int) -> None:
        self.config = config
        self.log = MessageLog(config.height)
        self.verifier = Verifier()
        self.round = Round(0)
        self.accepted: Digest | None = None
        self.building: Building | None = None
        self.candidates: dict[Digest, Candidate] = {}
        self.prepared: PreparedCertificate | None = None
        self.decided: CommitCertificate | None = None
        self.committed = False
        self.work = False
        self.overtaken = False
        self.fetching: dict[Digest, bool] = {}
        self.convicted: set[Address] = set()
        self.refusal: Refusal | None = None
        self.deadline_ns: int | None = None
        self.resend_ns: int | None = None
        self.rounds = deque(
            [RoundEntry(round=self.round, at_ns=now, cause="height")], ROUND_ENTRIES_MAX
        )
        self.phase = "idle"
        self.phase_since_ns = now

    def enter(self, round: Round, now: int, cause: str) -> RoundEntry:
        """Begin a round: nothing is proposed in it yet, and its timers do not run."""
        lacked = None if cause == "restart" else self.lack()
        self.round = round
        self.log.enter(round)
        self.accepted = None
        self.building = None
        self.fetching = {digest: True for digest, decided in self.fetching.items() if decided}
        self.deadline_ns = None
        self.resend_ns = None
        entry = RoundEntry(round=round, at_ns=now, cause=cause, lacked=lacked)
        self.rounds.append(entry)
        return entry

    def add_candidate(self, proposal: Proposal) -> Candidate:
        """Hold a block; at the bound the oldest goes that nothing speaks for."""
        candidate = self.candidates.setdefault(proposal.digest, Candidate(proposal))
        if len(self.candidates) > CANDIDATES_MAX:
            certified = {c.digest for c in (self.prepared, self.decided) if c is not None}
            needed = {proposal.digest, self.accepted, *certified}
            del self.candidates[next(d for d in self.candidates if d not in needed)]
        return candidate

    def accepted_candidate(self) -> Candidate | None:
        """Return the proposal of the current round."""
        return None if self.accepted is None else self.candidates[self.accepted]

    def arm(self, now: int, *, is_silent: bool) -> None:
        """Start the timers whose conditions hold (DESIGN rule 8).

        Above round 0 the timer waits until a quorum has reached the round, as in PBFT (OSDI'99
        §4.5.2): no miner runs ahead of the others, so their rounds always meet again.
        """
        if self.committed:
            self.deadline_ns = self.resend_ns = None
            return
        timing = self.config.timing
        if self.deadline_ns is None and self._round_runs(is_silent):
            self.deadline_ns = now + timing.round_timeout_ns(self.round)
        if self.resend_ns is None and self.round > 0:
            self.resend_ns = now + timing.resend_ns()

    def next_deadline(self) -> int | None:
        """Return when the replica wants to be called next."""
        return min(
            (at for at in (self.deadline_ns, self.resend_ns) if at is not None), default=None
        )

    def lack(self) -> str:
        """Return what keeps the current round from its end.

        ``proposal``, ``proposal-refused``, ``proposal-untimely``, ``proposal-invalid``, ``block``
        (its own is not built), ``bodies`` (of a block that is being checked), ``prepare-quorum``,
        ``commit-quorum``, ``round-change-quorum``.
        """
        candidate = self.accepted_candidate()
        if candidate is not None and candidate.valid is False:
            return "proposal-invalid"
        refusal = self.refusal
        if candidate is None and refusal is not None and refusal.round == self.round:
            return "proposal-untimely" if refusal.untimely else "proposal-refused"
        return _LACKS.get(self._phase(), "proposal")

    def note_phase(self, now: int) -> None:
        """Remember since when the present phase lasts."""
        phase = self._phase()
        if phase != self.phase:
            self.phase, self.phase_since_ns = phase, now

    def _round_runs(self, is_silent: bool) -> bool:
        if self.accepted is not None:
            return True
        if self.round == 0 or is_silent:
            return self.work or self.overtaken or self.log.has_round_changes()
        reached = [r for r in self.log.reached().values() if r >= self.round]
        return len(reached) >= self.config.miners.quorum

    def _phase(self) -> str:
        """Return what is waited for; the words are those of `consensus.snapshot.Snapshot`."""
        if self.committed:
            return "committed"
        if self.fetching:
            return "fetching"
        if self.building is not None:
            return "building"
        candidate = self.accepted_candidate()
        if candidate is None:
            if self.round > 0:
                return "proposal" if self.deadline_ns is not None else "round-change"
            return "proposal" if self.work or self.log.has_round_changes() else "idle"
        if not candidate.valid:
            return "checking"
        prepares = self.log.votes_for(Phase.PREPARE, self.round, candidate.proposal.digest)
        return "prepare" if len(prepares) < self.config.miners.quorum else "commit"
