"""The replica: `step(event, now) -> Output`.

Events put facts into the state of the height; then the rules apply until none does
(`consensus.rules`). docs/spec/consensus.md is normative.
"""

from typing import assert_never

from chain.crypto import SigningKey
from chain.types import Address, Digest, Round
from consensus import block_requests, ordering
from consensus.draft import Draft
from consensus.durable import DurableState
from consensus.errors import InvalidMessage
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
from consensus.height import HeightState
from consensus.log import Entry
from consensus.memory import Memory
from consensus.messages import Message, Phase, PrePrepare
from consensus.other_heights import OtherHeights
from consensus.output import GossipPending, Output, TellShown
from consensus.reception import Reception
from consensus.restart import restore
from consensus.rules import Rules
from consensus.signer import Signer
from consensus.snapshot import Snapshot, take_snapshot


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
        self._memory = Memory(self._signer)
        self._others = OtherHeights()
        self._reception = Reception(me=miner_id, memory=self._memory, others=self._others)
        self._rules = Rules(self._signer)
        self._state: HeightState | None = None

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
        draft = Draft(now=now)
        if isinstance(event, StartHeight):
            self._start_height(event.config, draft)
        elif self._state is None:
            return Output()
        else:
            self._dispatch(event, self._state, draft)
        state = self._state
        assert state is not None, "a height has begun"
        while not state.committed and self._rules.advance(state, draft):
            pass
        state.arm(now, is_silent=self._signer.silence(state.config) is not None)
        state.note_phase(now)
        return draft.finish(state.next_deadline())

    def holders(self, digest: Digest) -> tuple[Address, ...]:
        """Return the members that said they hold the block, best first."""
        state = self._state
        return () if state is None else block_requests.holders(digest, state, self._me)

    def snapshot(self) -> Snapshot | None:
        """Return what this replica waits for; None before the first `StartHeight`."""
        if self._state is None:
            return None
        silence = self._signer.silence(self._state.config)
        reports, offsets = self._memory.reports, self._reception.clock_offsets
        return take_snapshot(self._state, self._me, silence, reports, offsets)

    # --- events -----------------------------------------------------------------------------------

    def _dispatch(self, event: Event, state: HeightState, draft: Draft) -> None:
        match event:
            case Received():
                self._reception.receive(Entry(event.message, event.wall_ms), state, draft)
            case Tick():
                self._on_tick(state, draft)
            case WorkPending():
                state.work = True
            case BlockBuilt():
                self._on_block_built(event, state, draft)
            case ProposalChecked():
                self._on_proposal_checked(event, state)
            case BlockFetched():
                self._on_block_fetched(event, state)
            case PeerConnected():
                self._on_peer_connected(event.miner, state, draft)
            case HeightSeen():
                self._memory.on_height_seen(event.miner, event.height, state.config, draft)
            case MemoryShown():
                self._memory.on_shown(event.miner, event.height, state.config)
            case SignerSeen():
                self._on_signer_seen(event, state, draft)
            case MessageSigned():
                self._on_message_signed(event.message, state, draft)
            case SigningRefused():
                self._signer.drop(event.message)
            case StartHeight():
                raise AssertionError("StartHeight is handled before")
            case _:
                assert_never(event)

    def _start_height(self, config: HeightConfig, draft: Draft) -> None:
        before = self._state
        assert before is None or config.height > before.config.height, "heights only rise"
        state = self._state = HeightState(config, draft.now)
        self._signer.settle(config.height)
        self._memory.start(config, draft)
        self._reception.start(config)
        restore(state, self._signer.durable, draft)
        for entry in self._others.start(config):
            try:
                self._reception.receive(entry, state, draft)
            except InvalidMessage as error:
                draft.rejected.append(error)

    def _on_tick(self, state: HeightState, draft: Draft) -> None:
        if state.committed:
            return
        if state.deadline_ns is not None and draft.now >= state.deadline_ns:
            self._on_timeout(state, draft)
        if state.resend_ns is not None and draft.now >= state.resend_ns:
            self._resend(state, draft)

    def _on_timeout(self, state: HeightState, draft: Draft) -> None:
        """Give up the round (DESIGN rule 8)."""
        self._others.ask(draft)
        state.deadline_ns = None
        if self._signer.silence(state.config) is not None:
            return
        draft.requests.append(GossipPending(height=state.config.height))
        self._rules.leave_for(Round(state.round + 1), "timeout", state, draft)

    def _resend(self, state: HeightState, draft: Draft) -> None:
        """Send own messages of this round again; the large one to those only that show no vote."""
        state.resend_ns = None
        for message in state.log.of(self._me):
            if message.round != state.round:
                continue
            if not isinstance(message, PrePrepare):
                draft.send(message)
                continue
            for miner in state.config.miners:
                voted = state.log.get(miner.id, Phase.PREPARE, state.round) is not None
                if miner.id != self._me and not voted:
                    draft.send(message, miner.id)

    def _on_block_built(self, event: BlockBuilt, state: HeightState, draft: Draft) -> None:
        """Propose the fresh block, if its round still lasts."""
        place = (state.config.height, state.round)
        if state.committed or state.building is None or (event.height, event.round) != place:
            return
        header = event.proposal.header
        fault = ordering.header_fault(header, state.config) or ordering.digests_fault(
            event.proposal
        )
        assert fault is None, f"the driver built {fault}"
        assert (header.proposer, header.proposal_round) == (self._me, state.round), (
            "a fresh block names its proposer and round"
        )
        self._rules.propose_built(event.proposal, state, draft)

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

    def _on_peer_connected(self, miner: Address, state: HeightState, draft: Draft) -> None:
        """Show a member what it may have missed, and what it has signed itself (rule 6)."""
        if miner == self._me or miner not in state.config.miners:
            return
        for message in state.log.of(self._me):
            if message.round == state.round:
                draft.send(message, miner)
        for message in (*state.log.of(miner), *self._others.of(miner)):
            draft.send(message, miner)
        draft.requests.append(TellShown(miner=miner, height=state.config.height))

    def _on_signer_seen(self, event: SignerSeen, state: HeightState, draft: Draft) -> None:
        """Go on signing where this miner stands, or, where nobody remembers, as rule 6 says."""
        self._memory.on_signer_seen(event.keys, event.remembers, state.config, draft)
        if state.round > 0 and not state.committed:
            # It may have entered the round without saying so.
            self._rules.report(state, draft)

    def _on_message_signed(self, message: Message, state: HeightState, draft: Draft) -> None:
        if self._signer.take(message, draft) and state.log.wants(message):
            state.log.put(Entry(message))
