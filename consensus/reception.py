"""What becomes of a received message: a fact of the height, or an error that says why not.

What a member may say at a place is taken once; a second, different message there is proof against
it. Nothing is decided here but what to believe: the rest is for `consensus.rules`.
"""

from typing import assert_never

from chain.eligibility import proposer_of
from chain.types import Address, TimestampMs
from consensus import ordering, round_change
from consensus.draft import Draft
from consensus.errors import InvalidMessage, NotAMember, Unjustified, UntimelyProposal
from consensus.events import HeightConfig
from consensus.evidence import conflict
from consensus.height import HeightState, Refusal
from consensus.log import Entry
from consensus.memory import Memory
from consensus.messages import Commit, Message, Prepare, PrePrepare, RoundChange
from consensus.other_heights import OtherHeights
from consensus.signatures import check_signature


class Reception:
    """Takes the messages of all members, this miner's own included.

    Attributes
    ----------
    clock_offsets : dict of Address to int
        By how many milliseconds the time of a member's last fresh block was ahead of the clock.
    """

    def __init__(self, *, me: Address, memory: Memory, others: OtherHeights) -> None:
        self._me = me
        self._memory = memory
        self._others = others
        self.clock_offsets: dict[Address, int] = {}

    def start(self, config: HeightConfig) -> None:
        """Forget who is no member of the height that begins."""
        known = self.clock_offsets.items()
        self.clock_offsets = {miner: offset for miner, offset in known if miner in config.miners}

    def receive(self, entry: Entry, state: HeightState, draft: Draft) -> None:
        """Take one message.

        Raises
        ------
        InvalidMessage
            It was dropped.
        """
        message, height = entry.message, state.config.height
        if message.sender == self._me:
            self._memory.on_own(message, state, draft)
        elif message.height < height:
            self._others.on_old(message, state, draft)
        elif message.height > height:
            self._others.on_ahead(entry, state, draft)
        elif not state.committed:
            self._on_current(entry, state, draft)

    def _on_current(self, entry: Entry, state: HeightState, draft: Draft) -> None:
        message, log = entry.message, state.log
        if message.sender not in state.config.miners:
            raise NotAMember(message.sender, "not a miner of this height")
        known = log.get(message.sender, message.phase, message.round)
        if known is not None:
            self._on_second(known, message, state, draft)
        elif _is_useless(message, state) or not log.wants(message):
            return
        else:
            match message:
                case PrePrepare():
                    self._on_pre_prepare(message, entry.wall_ms, state, draft)
                case RoundChange():
                    _check_round_change(message, state)
                case Prepare() | Commit():
                    check_signature(message, state)
                case _:
                    assert_never(message)
            log.put(entry)

    def _on_second(
        self, known: Message, message: Message, state: HeightState, draft: Draft
    ) -> None:
        """Compare two messages where a miner signs one; a difference is proof against it."""
        genesis_hash = state.config.genesis_hash
        if message.sender in state.convicted:
            return
        if known.statement(genesis_hash) == message.statement(genesis_hash):
            return
        check_signature(message, state)
        evidence = conflict(known, message, genesis_hash=genesis_hash)
        assert evidence is not None, "the statements differ"
        state.convicted.add(message.sender)
        draft.evidence.append(evidence)

    def _on_pre_prepare(
        self, message: PrePrepare, wall_ms: TimestampMs, state: HeightState, draft: Draft
    ) -> None:
        """Accept a proposal of this round or a later one, or raise (DESIGN rules 2, 3, 13).

        The cheap questions come first, and what costs most is asked last: a proposer is not blamed
        for an untimely block, so it could ask for much in vain.
        """
        config = state.config
        if message.sender != proposer_of(config.eligible, config.height, message.round):
            raise InvalidMessage(message.sender, f"not the proposer of round {message.round}")
        _justify(round_change.justification_shape_fault(message, config), message)
        fault = ordering.round_fault(message) or ordering.header_fault(
            message.proposal.header, config
        )
        if fault is not None:
            raise InvalidMessage(message.sender, fault)
        check_signature(message, state)
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
            draft.enter(message.round, "proposal", state)
        state.accepted = message.digest
        state.add_candidate(message.proposal)

    def _judge_proposal(
        self, message: PrePrepare, wall_ms: TimestampMs, state: HeightState
    ) -> None:
        """Raise what speaks against a proposal that its proposer has signed."""
        config = state.config
        _justify(round_change.justification_fault(message, config, state.verifier), message)
        if ordering.is_fresh(message):
            self.clock_offsets[message.sender] = ordering.clock_offset_ms(message, wall_ms)
            fault = ordering.time_fault(message, config, wall_ms, message.round)
            if fault is not None:
                raise UntimelyProposal(message.sender, fault)
        fault = ordering.digests_fault(message.proposal)
        if fault is not None:
            raise InvalidMessage(message.sender, fault)


def _is_useless(message: Message, state: HeightState) -> bool:
    """Tell whether a message can change nothing: of a past round, and no COMMIT."""
    if isinstance(message, Commit):
        return False
    if isinstance(message, PrePrepare) and message.round == state.round:
        return state.accepted is not None
    return message.round < state.round


def _check_round_change(message: RoundChange, state: HeightState) -> None:
    """Believe what a member reports, or raise (DESIGN rule 3)."""
    config = state.config
    _justify(round_change.shape_fault(message, config), message)
    check_signature(message, state)
    fault = round_change.certificate_fault(message.certificate, config, state.verifier)
    _justify(fault, message)


def _justify(fault: str | None, message: Message) -> None:
    if fault is not None:
        raise Unjustified(message.sender, fault)
