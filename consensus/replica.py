"""The replica: `step(event, now) -> Output`.

Events put facts into the state of the height; `_advance` then applies the first rule whose
condition holds, until none does. So every rule is a question about the state, and the order in
which messages arrive decides nothing but time. docs/spec/consensus.md is normative.
"""

from collections.abc import Callable
from typing import Final, assert_never

from chain.certificate import VoteCertificate
from chain.crypto import SigningKey
from chain.eligibility import proposer_of
from chain.types import Address, Digest, Height, Round, TimestampMs
from consensus import ordering, round_change
from consensus.durable import Accepted, DurableState, Floor, LostMemory, Prepared
from consensus.errors import (
    BadSignature,
    InvalidMessage,
    NotAMember,
    SafetyViolation,
    Unjustified,
    UntimelyProposal,
)
from consensus.events import (
    BlockBuilt,
    BlockFetched,
    Event,
    HeightConfig,
    HeightSeen,
    MemoryShown,
    MessageSigned,
    PeerConnected,
    ProposalChecked,
    Received,
    SignerSeen,
    SigningRefused,
    StartHeight,
    Tick,
    WorkPending,
)
from consensus.evidence import conflict
from consensus.height import Building, Candidate, HeightState, Refusal
from consensus.log import HEIGHTS_AHEAD_MAX, Entry, MessageLog
from consensus.memory import SILENT_HEIGHTS, has_heard_enough, known_height
from consensus.messages import (
    Commit,
    Justification,
    Message,
    Phase,
    Position,
    Prepare,
    PrePrepare,
    Proposal,
    RoundChange,
    is_signed_by,
    position_of,
)
from consensus.output import (
    AnswerOldHeight,
    BuildBlock,
    CatchUp,
    CheckProposal,
    Committed,
    FetchBlock,
    GossipPending,
    Output,
    TellShown,
)
from consensus.signer import Draft, M, Signer
from consensus.snapshot import Snapshot, take_snapshot
from consensus.timers import limit_shift

_NO_TIME: Final = TimestampMs(0)


class Replica:
    """One miner's part in agreement; pure, fed by a driver.

    Parameters
    ----------
    signer : SigningKey or None
        The key of `miner_id`. None: another process has it, `consensus.output.SignMessage`.
    miner_id : Address
        An id outside the miner set makes an observer, which follows and never signs.
    durable : DurableState
        ``recover()`` of the log.
    next_signer : SigningKey, optional
        The key that signs instead from the height on at which the miner has it.
    """

    def __init__(
        self,
        *,
        signer: SigningKey | None,
        miner_id: Address,
        durable: DurableState,
        next_signer: SigningKey | None = None,
    ) -> None:
        self._me = miner_id
        self._signer = Signer(key=signer, next_key=next_signer, miner_id=miner_id, durable=durable)
        self._state: HeightState | None = None
        self._ahead: dict[Height, MessageLog] = {}
        # These are bounded by the members: `_start_height` drops all others.
        self._reports: dict[Address, Height] = {}
        self._answered_ns: dict[Address, int] = {}
        self._shown: dict[Address, Height] = {}
        self._memories: dict[Address, Height] = {}
        self._offsets: dict[Address, int] = {}
        self._draft = Draft()
        self._now = 0

    @property
    def durable(self) -> DurableState:
        """What the log adds up to; ``durable.records()`` rewrites it, best after a commit."""
        return self._signer.durable

    def step(self, event: Event, now: int) -> Output:
        """Take one event, and return what has to happen.

        Parameters
        ----------
        now : int
            Monotonic time in nanoseconds.

        Raises
        ------
        InvalidMessage
            The message was dropped and changed nothing.
        SafetyViolation
            The node has to stop.
        """
        self._draft = Draft()
        self._now = now
        if isinstance(event, StartHeight):
            self._start_height(event.config)
        elif self._state is None:
            return Output()
        else:
            self._dispatch(event, self._state)
        state = self._state
        assert state is not None, "a height has begun"
        while not state.committed and self._advance(state):
            pass
        self._arm(state)
        state.note_phase(now)
        return self._draft.finish(state.next_deadline())

    def holders(self, digest: Digest) -> tuple[Address, ...]:
        """Return the members that said they hold the block, best first."""
        return () if self._state is None else self._holders(self._state, digest)

    def snapshot(self) -> Snapshot | None:
        """Return what this replica waits for; None before the first `StartHeight`."""
        if self._state is None:
            return None
        silence = self._signer.silence(self._state.config)
        return take_snapshot(self._state, self._me, silence, self._reports, self._offsets)

    # --- events -----------------------------------------------------------------------------------

    def _dispatch(self, event: Event, state: HeightState) -> None:
        match event:
            case Received():
                self._on_received(event.message, event.wall_ms, state)
            case Tick():
                self._on_tick(state)
            case WorkPending():
                state.work = True
            case BlockBuilt():
                self._on_block_built(event, state)
            case ProposalChecked():
                self._on_proposal_checked(event, state)
            case BlockFetched():
                self._on_block_fetched(event, state)
            case PeerConnected():
                self._on_peer_connected(event.miner, state)
            case HeightSeen():
                self._on_height_seen(event.miner, event.height, state)
            case MemoryShown():
                self._on_memory_shown(event.miner, event.height, state)
            case SignerSeen():
                self._on_signer_seen(event, state)
            case MessageSigned():
                self._on_message_signed(event.message, state)
            case SigningRefused():
                self._signer.drop(event.message)
            case StartHeight():
                raise AssertionError("StartHeight is handled before")
            case _:
                assert_never(event)

    def _start_height(self, config: HeightConfig) -> None:
        before = self._state
        assert before is None or config.height > before.config.height, "heights only rise"
        state = self._state = HeightState(config, self._now)
        for known in (
            self._reports,
            self._answered_ns,
            self._shown,
            self._memories,
            self._offsets,
        ):
            for miner in [miner for miner in known if miner not in config.miners]:
                del known[miner]
        self._signer.settle(config.height)
        self._remember_memory(state)
        self._trust_memory(state)
        self._restore(state)
        buffered = self._ahead.pop(config.height, None)
        self._ahead = {h: log for h, log in self._ahead.items() if h > config.height}
        for entry in buffered.entries() if buffered is not None else ():
            try:
                self._on_received(entry.message, entry.wall_ms, state)
            except InvalidMessage as error:
                self._draft.rejected.append(error)

    def _restore(self, state: HeightState) -> None:
        """Take up this height where the log says it was left, and send own messages again."""
        durable = self._signer.durable
        if not durable.messages or durable.messages[0].height != state.config.height:
            return
        state.enter(durable.last.round, self._now, "restart")
        # Something was begun here, so the timer has to run.
        state.work = True
        state.prepared = durable.prepared
        for vote in _prepares(durable.prepared, state.config):
            # Verified before they were kept; those who have sent them may have to be shown them.
            state.log.put(Entry(vote, _NO_TIME))
        for proposal in durable.proposals:
            state.add_candidate(proposal)
        for message in durable.messages:
            state.log.put(Entry(message, _NO_TIME))
            self._draft.send(message)
            if isinstance(message, PrePrepare):
                state.accepted = message.digest
                state.add_candidate(message.proposal)
            elif isinstance(message, Prepare):
                state.accepted = message.digest
                # It was stored durably before it was signed for (DESIGN rule 5).
                state.candidates[message.digest].valid = True

    def _on_received(self, message: Message, wall_ms: TimestampMs, state: HeightState) -> None:
        height = state.config.height
        if message.sender == self._me:
            self._on_own(message, state)
        elif message.height < height:
            self._on_old(message, state)
        elif message.height > height:
            self._on_ahead(Entry(message, wall_ms), state)
        elif not state.committed:
            self._on_current(Entry(message, wall_ms), state)

    def _on_own(self, message: Message, state: HeightState) -> None:
        """Compare a message in this miner's name with what it remembers (DESIGN rule 6)."""
        durable = self._signer.durable
        if self._me not in state.config.miners:
            raise NotAMember(message.sender, "not a miner of this height")
        if message.height < state.config.height or position_of(message) <= durable.last:
            return
        if durable.floor is None and message.height <= durable.lost_height:
            return
        if not self._is_signed(message, state):
            raise BadSignature(message.sender, "not signed by this miner")
        self._signer.write(LostMemory(height=message.height), self._draft)
        self._remember_memory(state)

    def _on_old(self, message: Message, state: HeightState) -> None:
        """Help a member that is behind, but not one whose votes are merely late."""
        height = state.config.height
        late = message.height == height - 1 and not isinstance(message, RoundChange)
        agreed = message.height > 0  # what an honest member signs; genesis has no certificate
        allowed_ns = self._answered_ns.get(message.sender, 0)
        if late or not agreed or self._now < allowed_ns or not self._is_of_member(message, state):
            return
        self._answered_ns[message.sender] = self._now + state.config.timing.resend_ns()
        self._draft.requests.append(AnswerOldHeight(miner=message.sender, height=message.height))

    def _on_ahead(self, entry: Entry, state: HeightState) -> None:
        """Keep a message of a next height, or learn from it that this miner is far behind.

        The set of that height may differ: what no member of this one has signed is dropped.
        """
        message = entry.message
        distance = message.height - state.config.height
        if distance > 1 and message.height > self._shown.get(message.sender, 0):
            if not self._is_of_member(message, state):
                return
            self._shown[message.sender] = message.height
            self._draft.requests.append(CatchUp(miner=message.sender, height=message.height))
        if distance > HEIGHTS_AHEAD_MAX:
            return
        log = self._ahead.get(message.height) or MessageLog(message.height)
        if log.wants(message) and self._is_of_member(message, state):
            log.put(entry)
            self._ahead[message.height] = log
            state.overtaken = True

    def _on_current(self, entry: Entry, state: HeightState) -> None:
        message, log = entry.message, state.log
        if message.sender not in state.config.miners:
            raise NotAMember(message.sender, "not a miner of this height")
        known = log.get(message.sender, message.phase, message.round)
        if known is not None:
            self._on_second(known, message, state)
        elif self._is_useless(message, state) or not log.wants(message):
            return
        else:
            match message:
                case PrePrepare():
                    self._on_pre_prepare(message, entry.wall_ms, state)
                case RoundChange():
                    self._on_round_change(message, state)
                case Prepare() | Commit():
                    self._check_signature(message, state)
                case _:
                    assert_never(message)
            log.put(entry)

    def _is_useless(self, message: Message, state: HeightState) -> bool:
        """Tell whether a message can change nothing: of a past round, and no COMMIT."""
        if isinstance(message, Commit):
            return False
        if isinstance(message, PrePrepare) and message.round == state.round:
            return state.accepted is not None
        return message.round < state.round

    def _on_second(self, known: Message, message: Message, state: HeightState) -> None:
        """Compare two messages where a miner signs one; a difference is proof against it."""
        genesis_hash = state.config.genesis_hash
        if message.sender in state.convicted:
            return
        if known.statement(genesis_hash) == message.statement(genesis_hash):
            return
        self._check_signature(message, state)
        evidence = conflict(known, message, genesis_hash=genesis_hash)
        assert evidence is not None, "the statements differ"
        state.convicted.add(message.sender)
        self._draft.evidence.append(evidence)

    def _on_pre_prepare(
        self, message: PrePrepare, wall_ms: TimestampMs, state: HeightState
    ) -> None:
        """Accept a proposal of this round or a later one, or raise (DESIGN rules 2, 3, 13).

        The cheap questions come first, and what costs most is asked last: a proposer is not blamed
        for an untimely block, so it could ask for much in vain.
        """
        config = state.config
        if message.sender != proposer_of(config.eligible, config.height, message.round):
            raise InvalidMessage(message.sender, f"not the proposer of round {message.round}")
        self._check(round_change.justification_shape_fault(message, config), message)
        fault = ordering.round_fault(message) or ordering.header_fault(
            message.proposal.header, config
        )
        if fault is not None:
            raise InvalidMessage(message.sender, fault)
        self._check_signature(message, state)
        try:
            self._judge_proposal(message, wall_ms, state)
        except InvalidMessage as error:
            state.refusal = Refusal(
                round=message.round,
                proposer=message.sender,
                untimely=isinstance(error, UntimelyProposal),
                reason=error.reason,
            )
            raise
        if message.round > state.round:
            self._enter(message.round, "proposal", state)
        state.accepted = message.digest
        state.add_candidate(message.proposal)

    def _judge_proposal(
        self, message: PrePrepare, wall_ms: TimestampMs, state: HeightState
    ) -> None:
        """Raise what speaks against a proposal that its proposer has signed."""
        config = state.config
        self._check(round_change.justification_fault(message, config, state.verifier), message)
        if ordering.is_fresh(message):
            self._offsets[message.sender] = ordering.clock_offset_ms(message, wall_ms)
            fault = ordering.time_fault(message, config, wall_ms, message.round)
            if fault is not None:
                raise UntimelyProposal(message.sender, fault)
        fault = ordering.digests_fault(message.proposal)
        if fault is not None:
            raise InvalidMessage(message.sender, fault)

    def _on_round_change(self, message: RoundChange, state: HeightState) -> None:
        """Believe what a member reports, or raise (DESIGN rule 3)."""
        config = state.config
        self._check(round_change.shape_fault(message, config), message)
        self._check_signature(message, state)
        fault = round_change.certificate_fault(message.certificate, config, state.verifier)
        self._check(fault, message)

    def _on_tick(self, state: HeightState) -> None:
        if state.committed:
            return
        if state.deadline_ns is not None and self._now >= state.deadline_ns:
            self._on_timeout(state)
        if state.resend_ns is not None and self._now >= state.resend_ns:
            self._resend(state)

    def _on_timeout(self, state: HeightState) -> None:
        """Give up the round (DESIGN rule 8)."""
        self._ask_ahead(state)
        state.deadline_ns = None
        if self._signer.silence(state.config) is not None:
            return
        self._draft.requests.append(GossipPending(height=state.config.height))
        self._leave_for(Round(state.round + 1), "timeout", state)

    def _ask_ahead(self, state: HeightState) -> None:
        """Ask those that show a next height for the block of this one: any one of them may lie."""
        for height in sorted(self._ahead):
            for sender in sorted({entry.message.sender for entry in self._ahead[height].entries()}):
                self._draft.requests.append(CatchUp(miner=sender, height=height))

    def _resend(self, state: HeightState) -> None:
        """Send own messages of this round again; the large one to those only that show no vote."""
        state.resend_ns = None
        for message in state.log.of(self._me):
            if message.round != state.round:
                continue
            if not isinstance(message, PrePrepare):
                self._draft.send(message)
                continue
            for miner in state.config.miners:
                voted = state.log.get(miner.id, Phase.PREPARE, state.round) is not None
                if miner.id != self._me and not voted:
                    self._draft.send(message, miner.id)

    def _on_block_built(self, event: BlockBuilt, state: HeightState) -> None:
        """Propose the fresh block, if its round still lasts."""
        place = (state.config.height, state.round)
        if state.committed or state.building is None or (event.height, event.round) != place:
            return
        fault = ordering.header_fault(
            event.proposal.header, state.config
        ) or ordering.digests_fault(event.proposal)
        assert fault is None, f"the driver built {fault}"
        header = event.proposal.header
        assert (header.proposer, header.proposal_round) == (self._me, state.round), (
            "a fresh block names its proposer and round"
        )
        justification, state.building = state.building.justification, None
        if not self._may_sign(Phase.PRE_PREPARE, state):
            return
        state.add_candidate(event.proposal).valid = True
        self._propose(event.proposal, justification, state)

    def _on_proposal_checked(self, event: ProposalChecked, state: HeightState) -> None:
        candidate = state.candidates.get(event.digest)
        if event.height == state.config.height and candidate is not None:
            candidate.valid = event.valid
            candidate.fault = event.reason

    def _on_block_fetched(self, event: BlockFetched, state: HeightState) -> None:
        """Take the block asked for; anything else is asked for again."""
        digest = event.proposal.digest
        if event.height != state.config.height or digest not in state.fetching:
            return
        del state.fetching[digest]
        if ordering.digests_fault(event.proposal) is None:
            state.add_candidate(event.proposal)

    def _on_peer_connected(self, miner: Address, state: HeightState) -> None:
        """Show a member what it may have missed, and what it has signed itself (rule 6)."""
        if miner == self._me or miner not in state.config.miners:
            return
        for message in state.log.of(self._me):
            if message.round == state.round:
                self._draft.send(message, miner)
        for log in (state.log, *(self._ahead[height] for height in sorted(self._ahead))):
            for message in log.of(miner):
                self._draft.send(message, miner)
        self._draft.requests.append(TellShown(miner=miner, height=state.config.height))

    def _on_memory_shown(self, miner: Address, height: Height, state: HeightState) -> None:
        if miner != self._me and miner in state.config.miners:
            self._memories[miner] = height
            self._trust_memory(state)

    def _on_height_seen(self, miner: Address, height: Height, state: HeightState) -> None:
        if miner != self._me and miner in state.config.miners:
            self._reports[miner] = max(height, self._reports.get(miner, height))
            self._remember_memory(state)

    def _on_signer_seen(self, event: SignerSeen, state: HeightState) -> None:
        """Go on signing where this miner stands, or, where nobody remembers, as rule 6 says."""
        self._signer.meet(event.keys)
        if not event.remembers and self._me in state.config.miners:
            self._signer.write(LostMemory(height=state.config.height), self._draft)
            self._remember_memory(state)
        if state.round > 0 and not state.committed:
            # It may have entered the round without saying so.
            self._report(state)

    def _on_message_signed(self, message: Message, state: HeightState) -> None:
        if self._signer.take(message, self._draft) and state.log.wants(message):
            state.log.put(Entry(message, _NO_TIME))

    # --- rules ------------------------------------------------------------------------------------

    def _advance(self, state: HeightState) -> bool:
        """Apply the first rule whose condition holds; False where none does."""
        rules: tuple[Callable[[HeightState], bool], ...] = (
            self._try_commit,
            self._try_jump,
            self._try_propose,
            self._try_check,
            self._try_vote_prepare,
            self._try_vote_commit,
        )
        return any(rule(state) for rule in rules)

    def _try_commit(self, state: HeightState) -> bool:
        """Decide the height by a quorum of COMMITs in any one round, even a past one."""
        config = state.config
        self._note_decision(state)
        if state.decided is None:
            return False
        digest = state.decided.digest
        candidate = state.candidates.get(digest)
        if candidate is None:
            return self._fetch(state, digest, _signers(state.decided, config), commit=state.decided)
        if candidate.valid is None:
            return self._ask_check(state, candidate, committed=True)
        if not candidate.valid:
            raise SafetyViolation(f"a quorum committed an invalid block at {config.height}")
        state.committed = True
        committed = Committed(
            height=config.height, proposal=candidate.proposal, certificate=state.decided
        )
        self._draft.commits.append(committed)
        return True

    def _note_decision(self, state: HeightState) -> None:
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

    def _try_jump(self, state: HeightState) -> bool:
        """Follow to the largest round above the current that f + 1 members have reached."""
        rounds = sorted(state.log.reached().values(), reverse=True)
        weak_quorum = state.config.miners.weak_quorum
        if len(rounds) < weak_quorum or rounds[weak_quorum - 1] <= state.round:
            return False
        self._leave_for(rounds[weak_quorum - 1], "jump", state)
        return True

    def _leave_for(self, round: Round, cause: str, state: HeightState) -> None:
        """Enter a higher round, and say so with what this miner is prepared for."""
        self._enter(round, cause, state)
        self._report(state)

    def _report(self, state: HeightState) -> None:
        """Say, where that may still be signed, that this miner is in the round."""
        if not self._may_sign(Phase.ROUND_CHANGE, state):
            return
        prepared = state.prepared
        self._sign(
            RoundChange(
                sender=self._me,
                height=state.config.height,
                round=state.round,
                prepared_round=None if prepared is None else prepared.round,
                prepared_digest=None if prepared is None else prepared.digest,
                certificate=prepared,
            ),
            state,
        )

    def _enter(self, round: Round, cause: str, state: HeightState) -> None:
        state.enter(round, self._now, cause)
        self._draft.rounds.append(state.rounds[-1])

    def _try_propose(self, state: HeightState) -> bool:
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
                    attested = _signers(prepared, config)
                    return self._fetch(state, prepared.digest, attested, commit=None)
                self._propose(candidate.proposal, justification, state)
                return True
        state.building = Building(justification)
        self._draft.requests.append(
            BuildBlock(
                height=config.height,
                round=state.round,
                parent=config.parent,
                limit_shift=limit_shift(state.round),
            )
        )
        return True

    def _propose(
        self, proposal: Proposal, justification: Justification | None, state: HeightState
    ) -> None:
        self._remember_proposal(proposal)
        state.accepted = proposal.digest
        self._sign(
            PrePrepare(
                sender=self._me,
                height=state.config.height,
                round=state.round,
                proposal=proposal,
                justification=justification,
            ),
            state,
        )

    def _try_check(self, state: HeightState) -> bool:
        """Have the accepted block checked, once a round."""
        candidate = state.accepted_candidate()
        if candidate is None or candidate.valid is not None:
            return False
        return self._ask_check(state, candidate, committed=False)

    def _try_vote_prepare(self, state: HeightState) -> bool:
        """PREPARE an accepted block that was found valid (DESIGN rule 2)."""
        candidate = state.accepted_candidate()
        if candidate is None or not candidate.valid or not self._may_sign(Phase.PREPARE, state):
            return False
        self._remember_proposal(candidate.proposal)
        self._sign(
            Prepare(
                sender=self._me,
                height=state.config.height,
                round=state.round,
                digest=candidate.proposal.digest,
            ),
            state,
        )
        return True

    def _try_vote_commit(self, state: HeightState) -> bool:
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
        self._signer.write(Prepared(certificate=certificate), self._draft)
        self._sign(
            Commit(sender=self._me, height=state.config.height, round=state.round, digest=digest),
            state,
        )
        return True

    # --- helpers ----------------------------------------------------------------------------------

    def _may_sign(self, phase: Phase, state: HeightState) -> bool:
        position = Position(state.config.height, state.round, phase)
        return self._signer.may_sign(position, state.config)

    def _remember_proposal(self, proposal: Proposal) -> None:
        """Write down what is about to be signed for, unless it is."""
        known = self._signer.durable.proposals
        if all(old.digest != proposal.digest for old in known):
            self._signer.write(Accepted(proposal=proposal), self._draft)

    def _sign(self, message: M, state: HeightState) -> None:
        signed = self._signer.sign(message, state.config, self._draft)
        if signed is not None:
            state.log.put(Entry(signed, _NO_TIME))

    def _is_signed(self, message: Message, state: HeightState) -> bool:
        member = state.config.miners.get(message.sender)
        return member is not None and is_signed_by(
            message, member.key, state.config.genesis_hash, state.verifier
        )

    def _is_of_member(self, message: Message, state: HeightState) -> bool:
        """Tell whether a member of this height has signed a message of another height.

        Raises
        ------
        BadSignature
            It is in a member's name and forged, at whatever height: a miner's id is the digest of
            its key, and no honest peer passes on what it has not verified.
        """
        if message.sender not in state.config.miners:
            return False
        self._check_signature(message, state)
        return True

    def _check_signature(self, message: Message, state: HeightState) -> None:
        if not self._is_signed(message, state):
            raise BadSignature(message.sender, "not signed by its sender")

    def _check(self, fault: str | None, message: Message) -> None:
        if fault is not None:
            raise Unjustified(message.sender, fault)

    def _fetch(
        self,
        state: HeightState,
        digest: Digest,
        holders: tuple[Address, ...],
        *,
        commit: VoteCertificate | None,
    ) -> bool:
        """Ask for a block that is not held, once more when it is committed; else False."""
        committed = commit is not None
        if digest in state.fetching and state.fetching[digest] >= committed:
            return False
        state.fetching[digest] = committed
        self._draft.requests.append(
            FetchBlock(
                height=state.config.height,
                digest=digest,
                holders=tuple(holder for holder in holders if holder != self._me),
                certificate=commit,
            )
        )
        return True

    def _ask_check(self, state: HeightState, candidate: Candidate, *, committed: bool) -> bool:
        """Have a block checked, once a round and once more when it is committed."""
        asked = (state.round, committed)
        if candidate.asked == asked or (candidate.asked is not None and candidate.asked[1]):
            return False
        candidate.asked = asked
        digest = candidate.proposal.digest
        self._draft.requests.append(
            CheckProposal(
                height=state.config.height,
                round=state.round,
                proposal=candidate.proposal,
                holders=self._holders(state, digest),
                committed=committed,
            )
        )
        return True

    def _holders(self, state: HeightState, digest: Digest) -> tuple[Address, ...]:
        found: dict[Address, None] = {}
        candidate = state.candidates.get(digest)
        if candidate is not None:
            found[proposer_of(state.config.eligible, state.config.height, state.round)] = None
            found[candidate.proposal.header.proposer] = None
        for phase in (Phase.PREPARE, Phase.COMMIT):
            for votes in reversed(state.log.votes(phase)):
                if votes.digest == digest:
                    found.update(dict.fromkeys(sorted(votes.votes)))
        found.pop(self._me, None)
        return tuple(found)

    def _remember_memory(self, state: HeightState) -> None:
        """End the silence of a miner without memory as soon as it knows until when it lasts."""
        durable, config = self._signer.durable, state.config
        if durable.floor is not None or self._me not in config.miners:
            return
        known = known_height(self._reports, config.miners, self._me, config.height)
        if known is not None:
            height = Height(max(known, durable.lost_height) + SILENT_HEIGHTS)
            self._signer.write(Floor(height=height), self._draft)
            self._signer.owes(height, self._draft)

    def _trust_memory(self, state: HeightState) -> None:
        """Take the log for the latest once a quorum has shown what it holds of this miner."""
        config = state.config
        if not self._signer.is_latest and self._me in config.miners:
            self._signer.is_latest = has_heard_enough(
                self._memories, config.miners, self._me, config.height
            )

    def _arm(self, state: HeightState) -> None:
        """Start the timers whose conditions hold (DESIGN rule 8).

        Above round 0 the timer waits until a quorum has reached the round, as in PBFT (OSDI'99
        §4.5.2): no miner runs ahead of the others, so their rounds always meet again.
        """
        if state.committed:
            state.deadline_ns = state.resend_ns = None
            return
        timing = state.config.timing
        if state.deadline_ns is None and self._round_runs(state):
            state.deadline_ns = self._now + timing.round_timeout_ns(state.round)
        if state.resend_ns is None and state.round > 0:
            state.resend_ns = self._now + timing.resend_ns()

    def _round_runs(self, state: HeightState) -> bool:
        if state.accepted is not None:
            return True
        if state.round == 0 or self._signer.silence(state.config) is not None:
            return state.work or state.overtaken or state.log.has_round_changes()
        reached = [r for r in state.log.reached().values() if r >= state.round]
        return len(reached) >= state.config.miners.quorum


def _signers(certificate: VoteCertificate, config: HeightConfig) -> tuple[Address, ...]:
    """Return the members whose votes stand in a verified certificate."""
    return tuple(config.miners.members[vote.index].id for vote in certificate.votes)


def _prepares(certificate: VoteCertificate | None, config: HeightConfig) -> list[Prepare]:
    """Return the messages of which a prepared certificate of this height is made."""
    if certificate is None or certificate.height != config.height:
        return []
    return [
        Prepare(
            sender=sender,
            height=certificate.height,
            round=certificate.round,
            digest=certificate.digest,
            signature=vote.signature,
        )
        for sender, vote in zip(_signers(certificate, config), certificate.votes, strict=True)
    ]
