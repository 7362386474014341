"""The rules of agreement: what a miner does as soon as the facts of a height allow it.

`Rules.advance` applies the first rule whose condition holds. So every rule is a question about the
state, and the order in which messages arrive decides nothing but time. docs/spec/consensus.md is
normative.
"""

from collections.abc import Callable

from chain.eligibility import proposer_of
from chain.types import Address, Round
from consensus import round_change
from consensus.block_requests import check_proposal, fetch_block
from consensus.draft import Draft
from consensus.durable import Accepted, Prepared
from consensus.errors import SafetyViolation
from consensus.height import Building, HeightState
from consensus.log import Entry
from consensus.messages import (
    Commit,
    Justification,
    Phase,
    Position,
    Prepare,
    PrePrepare,
    Proposal,
    RoundChange,
)
from consensus.output import BuildBlock, Committed, Request
from consensus.signer import M, Signer
from consensus.timers import limit_shift


class Rules:
    """One miner's decisions; what they bring about goes into the draft of a step."""

    def __init__(self, signer: Signer) -> None:
        self._me: Address = signer.miner_id
        self._signer = signer

    def advance(self, state: HeightState, draft: Draft) -> bool:
        """Apply the first rule whose condition holds; False where none does."""
        rules: tuple[Callable[[HeightState, Draft], bool], ...] = (
            self._try_commit,
            self._try_jump,
            self._try_propose,
            self._try_check,
            self._try_vote_prepare,
            self._try_vote_commit,
        )
        return any(rule(state, draft) for rule in rules)

    def leave_for(self, round: Round, cause: str, state: HeightState, draft: Draft) -> None:
        """Enter a higher round, and say so with what this miner is prepared for."""
        draft.enter(round, cause, state)
        self.report(state, draft)

    def report(self, state: HeightState, draft: Draft) -> None:
        """Say, where that may still be signed, that this miner is in the round."""
        if not self._may_sign(Phase.ROUND_CHANGE, state):
            return
        prepared = state.prepared
        message = RoundChange(
            sender=self._me,
            height=state.config.height,
            round=state.round,
            prepared_round=None if prepared is None else prepared.round,
            prepared_digest=None if prepared is None else prepared.digest,
            certificate=prepared,
        )
        self._sign(message, state, draft)

    def propose_built(self, proposal: Proposal, state: HeightState, draft: Draft) -> None:
        """Propose the fresh block that this round was waiting for."""
        assert state.building is not None, "a block was asked for"
        justification, state.building = state.building.justification, None
        if self._may_sign(Phase.PRE_PREPARE, state):
            state.add_candidate(proposal).valid = True
            self._propose(proposal, justification, state, draft)

    # --- in the order in which they are tried -----------------------------------------------------

    def _try_commit(self, state: HeightState, draft: Draft) -> bool:
        """Decide the height by a quorum of COMMITs in any one round, even a past one."""
        _note_decision(state)
        if state.decided is None:
            return False
        candidate = state.candidates.get(state.decided.digest)
        if candidate is None:
            return _request(fetch_block(state.decided, state, self._me, committed=True), draft)
        if candidate.valid is None:
            return _request(check_proposal(candidate, state, self._me, committed=True), draft)
        height = state.config.height
        if not candidate.valid:
            raise SafetyViolation(f"a quorum committed an invalid block at {height}")
        state.committed = True
        draft.commits.append(
            Committed(height=height, proposal=candidate.proposal, certificate=state.decided)
        )
        return True

    def _try_jump(self, state: HeightState, draft: Draft) -> bool:
        """Follow to the largest round above the current that f + 1 members have reached."""
        rounds = sorted(state.log.reached().values(), reverse=True)
        weak_quorum = state.config.miners.weak_quorum
        if len(rounds) < weak_quorum or rounds[weak_quorum - 1] <= state.round:
            return False
        self.leave_for(rounds[weak_quorum - 1], "jump", state, draft)
        return True

    def _try_propose(self, state: HeightState, draft: Draft) -> bool:
        """Propose, where it is this miner's turn and the round is justified (DESIGN rule 3)."""
        config = state.config
        if (
            state.accepted is not None
            or state.building is not None
            or proposer_of(config.eligible, config.height, state.round) != self._me
            or not self._may_sign(Phase.PRE_PREPARE, state)
        ):
            return False
        justification = None
        if state.round == 0:
            if not state.work:
                return False
        else:
            round_changes = state.log.round_changes(state.round)
            justification = round_change.justify(round_changes, config.miners)
            if justification is None:
                return False
            prepared = justification.certificate
            if prepared is not None:
                candidate = state.candidates.get(prepared.digest)
                if candidate is None:
                    return _request(fetch_block(prepared, state, self._me, committed=False), draft)
                self._propose(candidate.proposal, justification, state, draft)
                return True
        state.building = Building(justification)
        draft.requests.append(
            BuildBlock(
                height=config.height,
                round=state.round,
                parent=config.parent,
                limit_shift=limit_shift(state.round),
            )
        )
        return True

    def _try_check(self, state: HeightState, draft: Draft) -> bool:
        """Have the accepted block checked, once a round."""
        candidate = state.accepted_candidate()
        if candidate is None or candidate.valid is not None:
            return False
        return _request(check_proposal(candidate, state, self._me, committed=False), draft)

    def _try_vote_prepare(self, state: HeightState, draft: Draft) -> bool:
        """PREPARE an accepted block that was found valid (DESIGN rule 2)."""
        candidate = state.accepted_candidate()
        if candidate is None or not candidate.valid or not self._may_sign(Phase.PREPARE, state):
            return False
        self._remember(candidate.proposal, draft)
        message = Prepare(
            sender=self._me,
            height=state.config.height,
            round=state.round,
            digest=candidate.proposal.digest,
        )
        self._sign(message, state, draft)
        return True

    def _try_vote_commit(self, state: HeightState, draft: Draft) -> bool:
        """COMMIT once a quorum has sent PREPARE for the accepted block in this round."""
        candidate = state.accepted_candidate()
        if candidate is None or not candidate.valid or not self._may_sign(Phase.COMMIT, state):
            return False
        digest = candidate.proposal.digest
        votes = state.log.votes_for(Phase.PREPARE, state.round, digest)
        certificate = votes.certificate(state.config.miners)
        if certificate is None:
            return False
        state.prepared = certificate
        self._signer.write(Prepared(certificate=certificate), draft)
        message = Commit(
            sender=self._me, height=state.config.height, round=state.round, digest=digest
        )
        self._sign(message, state, draft)
        return True

    # --- helpers ----------------------------------------------------------------------------------

    def _propose(
        self,
        proposal: Proposal,
        justification: Justification | None,
        state: HeightState,
        draft: Draft,
    ) -> None:
        self._remember(proposal, draft)
        state.accepted = proposal.digest
        message = PrePrepare(
            sender=self._me,
            height=state.config.height,
            round=state.round,
            proposal=proposal,
            justification=justification,
        )
        self._sign(message, state, draft)

    def _may_sign(self, phase: Phase, state: HeightState) -> bool:
        position = Position(state.config.height, state.round, phase)
        return self._signer.may_sign(position, state.config)

    def _remember(self, proposal: Proposal, draft: Draft) -> None:
        """Write down what is about to be signed for, unless it is."""
        known = self._signer.durable.proposals
        if all(old.digest != proposal.digest for old in known):
            self._signer.write(Accepted(proposal=proposal), draft)

    def _sign(self, message: M, state: HeightState, draft: Draft) -> None:
        signed = self._signer.sign(message, state.config, draft)
        if signed is not None:
            state.log.put(Entry(signed))


def _note_decision(state: HeightState) -> None:
    """Keep the first quorum of COMMITs: its signers may displace theirs before this is over."""
    miners = state.config.miners
    for votes in state.log.votes(Phase.COMMIT):
        if len(votes) < miners.quorum:
            continue
        if state.decided is None:
            state.decided = votes.certificate(miners)
            assert state.decided is not None, "only members' votes are kept"
        elif state.decided.digest != votes.digest:
            raise SafetyViolation(f"two blocks have a quorum at height {state.config.height}")


def _request(request: Request | None, draft: Draft) -> bool:
    """Ask for what is not asked for yet; tell whether there was anything."""
    if request is None:
        return False
    draft.requests.append(request)
    return True
