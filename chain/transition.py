"""The state transition: what a block of transactions makes of the state.

`BlockExecution` takes transactions one by one and is finished into an `Execution`, from which a
proposer makes a header and against which everybody else checks one. Nothing committed is touched
until the caller applies the result. docs/spec/state.md is normative.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from chain.admission import Verify, algorithm_1, append, metered_subjects, registrar_subjects
from chain.blocks import (
    BLOCK_VERSION,
    Block,
    BlockReceipt,
    Event,
    Header,
    Receipt,
    receipt_root,
    transaction_root,
)
from chain.eligibility import eligible_miners, proposer_of, record_proposers
from chain.errors import InvalidBlock, Rejection
from chain.federated.progress import settle_rounds
from chain.governance import settle_proposals
from chain.kinds import KINDS
from chain.kinds.base import Admitted, BlockContext, Lane, Signer, Standing
from chain.kinds.device_data import is_judged
from chain.lookback import BlockSummary, Lookback, OpenBlock, judged_digest
from chain.miners import MinerSet
from chain.parameters import ANCHOR_INTERVAL, ANCHOR_WINDOW, VERDICT_WINDOW
from chain.records.devices import DEVICE_TABLE
from chain.records.miners import ANCHOR_TABLE, MINER_SETS, Anchor
from chain.records.verdicts import JUDGEMENT_TABLE
from chain.state import (
    Overlay,
    State,
    StateDelta,
    heartbeat_ms_of,
    miner_sets_of,
    parameters_of,
)
from chain.state_tree import StateTree
from chain.table import height_key
from chain.transactions import Transaction
from chain.types import Address, Digest, Height, Round, TimestampMs

STEP_TRANSACTIONS: Final = 128
STEP_SIZE: Final = 64 * 1024
"""Transactions, and their bytes, that are worked off without a pause. A verdict on a full block has
the bytes of fifty reports, and takes as long."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What a block does, ready to be compared with a header and to be committed."""

    header: Header
    receipts: tuple[Receipt, ...]
    block_receipt: BlockReceipt
    delta: StateDelta
    tree: StateTree
    summary: BlockSummary
    next_miners: MinerSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Tip:
    """The last committed block and what follows from it, as far as rules need it."""

    header: Header
    state: State
    recent: Lookback

    @property
    def genesis_hash(self) -> Digest:
        """The chain's identity."""
        return self.header.genesis_hash

    @property
    def next_height(self) -> Height:
        """The height that is to be agreed on."""
        return Height(self.header.height + 1)

    def next_time_ms(self, clock_ms: int) -> TimestampMs:
        """Return the time of a block that is made now: its maker's clock, but after its parent."""
        return TimestampMs(max(clock_ms, self.header.time_ms + 1))


def open_context(
    tip: Tip,
    *,
    proposer: Address,
    time_ms: TimestampMs,
    sent: dict[Address, int] | None = None,
    standings: dict[tuple[str, Address], Standing] | None = None,
) -> BlockContext:
    """Return the context of a block that follows `tip`, with nothing in it yet.

    Parameters
    ----------
    sent : dict, optional
        Charges that count already; an admission passes those of what it has pooled.
    standings : dict, optional
        Standings found on the same tip, at no later time; those found now are added.
    """
    miners, _ = miner_sets_of(tip.state)
    return BlockContext(
        genesis_hash=tip.genesis_hash,
        height=tip.next_height,
        time_ms=time_ms,
        parent_hash=tip.header.hash,
        proposer=proposer,
        miners=miners,
        parameters=parameters_of(tip.state),
        committed=tip.state,
        state=Overlay(tip.state),
        recent=OpenBlock(tip.recent, time_ms=time_ms, sent=sent),
        standings={} if standings is None else standings,
    )


def execute(
    transaction: Transaction, block: BlockContext, verify: Verify
) -> tuple[Admitted, tuple[Event, ...]]:
    """Let `transaction` pass Algorithm 1 up to step 6 and the rules of its kind in `block`.

    Its changes of state stand in ``block.state`` afterwards; step 7, `append`, is the caller's.

    Raises
    ------
    Rejection
        It does not pass; the block is as it was.
    """
    admitted, events, changes = _try(transaction, block, verify)
    if changes is not None:
        block.state.merge(changes)
        block.standings.clear()
    return admitted, events


def check_admission(transaction: Transaction, block: BlockContext, verify: Verify) -> Admitted:
    """Tell whether `transaction` would pass alone in `block`, and leave the block as it is.

    Raises
    ------
    Rejection
        It would not.
    """
    return _try(transaction, block, verify)[0]


def _try(
    transaction: Transaction, block: BlockContext, verify: Verify
) -> tuple[Admitted, tuple[Event, ...], Overlay | None]:
    """Execute `transaction` on an overlay of the block's state, and return that; None for data."""
    admitted = algorithm_1(transaction, block, verify)
    kind = admitted.kind
    if kind.apply is None:
        return admitted, (), None
    below = block.state
    changes = block.state = Overlay(below)
    try:
        events = kind.apply(kind.decode(transaction), transaction, block)
    finally:
        block.state = below
    return admitted, events, changes


class BlockExecution:
    """Executes the transactions of one block on top of `tip`.

    Parameters
    ----------
    proposer : Address
        The block's proposer, M of Algorithm 1.
    proposal_round : Round
        The round in which the block is first proposed.
    verify : callable
        VERIFYSIG.
    """

    def __init__(
        self,
        tip: Tip,
        *,
        proposer: Address,
        proposal_round: Round,
        time_ms: TimestampMs,
        verify: Verify,
    ) -> None:
        self._tip = tip
        self._proposal_round = proposal_round
        self._verify = verify
        self._block = open_context(tip, proposer=proposer, time_ms=time_ms)
        self._digests: list[Digest] = []
        self._receipts: list[Receipt] = []
        self._lane = Lane.GOVERNANCE

    def apply(self, transaction: Transaction) -> None:
        """Execute the next transaction.

        Raises
        ------
        Rejection
            It does not pass; the block is as it was and may be continued without it.
        """
        block = self._block
        lane = lane_of(transaction)
        if lane < self._lane:
            raise Rejection("wrong_order", f"{transaction.payload.kind} stands behind its lane")
        admitted, events = execute(transaction, block, self._verify)
        append(transaction, admitted, block)
        self._lane = lane
        self._receipts.append(
            Receipt(transaction_id=transaction.id, index=len(self._receipts), events=events)
        )
        self._digests.append(transaction.digest)

    def finish(self) -> Execution:
        """Settle what the end of a block settles, and return the result."""
        block = self._block
        settled = (*settle_proposals(KINDS, block), *settle_rounds(block))
        if block.height > VERDICT_WINDOW:
            past = height_key(block.height - VERDICT_WINDOW)
            block.state.remove_if_present(JUDGEMENT_TABLE, past)
        move_anchors(block)
        blamed = record_proposers(
            block.state,
            height=block.height,
            proposer=block.proposer,
            proposal_round=self._proposal_round,
            eligible=eligible_miners(self._tip.state, block.miners, block.height),
            miners=block.miners,
        )
        block_receipt = BlockReceipt(events=(*settled, *blamed))
        next_miners = _shift_miner_sets(block.state)
        delta = block.state.delta()
        tree = self._tip.state.tree.updated(delta)
        header = Header(
            version=BLOCK_VERSION,
            genesis_hash=block.genesis_hash,
            height=block.height,
            time_ms=block.time_ms,
            parent_hash=self._tip.header.hash,
            transaction_root=transaction_root(self._digests),
            receipt_root=receipt_root(self._receipts, block_receipt),
            state_root=tree.root,
            miner_set_hash=block.miners.hash,
            next_miner_set_hash=next_miners.hash,
            proposer=block.proposer,
            proposal_round=self._proposal_round,
        )
        return Execution(
            header=header,
            receipts=tuple(self._receipts),
            block_receipt=block_receipt,
            delta=delta,
            tree=tree,
            summary=block.recent.summary(block.height),
            next_miners=next_miners,
        )


def check_header(
    header: Header, *, parent: Header, miners: MinerSet, eligible: Sequence[Address]
) -> None:
    """Check what a header alone shows: its place, its time and its proposer.

    Parameters
    ----------
    miners : MinerSet
        The set of the header's height.
    eligible : sequence of Address
        E of the header's height.

    Raises
    ------
    InvalidBlock
        It does not follow `parent`.
    """
    _require(header.genesis_hash == parent.genesis_hash, "it belongs to another chain")
    _require(header.height == parent.height + 1, f"height {header.height} does not follow")
    _require(header.parent_hash == parent.hash, "its parent is another block")
    _require(header.time_ms > parent.time_ms, "its time is not after its parent's")
    _require(header.miner_set_hash == miners.hash, "it names another set of miners")
    expected = proposer_of(eligible, header.height, header.proposal_round)
    _require(header.proposer == expected, "its proposer is not the one of that round")


def check_block(tip: Tip, block: Block, verify: Verify) -> Execution:
    """Check every rule of a block that follows `tip`, by executing it.

    Raises
    ------
    InvalidBlock
        A rule is broken, or a root is not the one that execution gives.
    """
    steps = checking(tip, block, verify)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Execution = end.value
            return result


def checking(tip: Tip, block: Block, verify: Verify) -> Generator[None, None, Execution]:
    """Do what `check_block` does, pausing between the `steps` so that others may run."""
    header = block.header
    miners, _ = miner_sets_of(tip.state)
    parameters = parameters_of(tip.state)
    eligible = eligible_miners(tip.state, miners, tip.next_height)
    check_header(header, parent=tip.header, miners=miners, eligible=eligible)
    count = len(block.transactions)
    _require(count <= parameters.block_transactions_max, f"{count} transactions are too many")
    size = sum([len(transaction.wire) for transaction in block.transactions])
    _require(size <= parameters.block_bytes_max, f"{size} bytes are too many")
    is_due = header.time_ms >= tip.header.time_ms + heartbeat_ms_of(tip.state)
    _require(
        bool(count) or header.proposal_round > 0 or is_due, "it is empty and no heartbeat is due"
    )
    execution = BlockExecution(
        tip,
        proposer=header.proposer,
        proposal_round=header.proposal_round,
        time_ms=header.time_ms,
        verify=verify,
    )
    for step in steps(enumerate(block.transactions), size_of=lambda item: len(item[1].wire)):
        for index, transaction in step:
            try:
                execution.apply(transaction)
            except Rejection as error:
                raise InvalidBlock(error.detail, code=error.code, index=index) from error
        yield
    result = execution.finish()
    for root in ("transaction_root", "receipt_root", "state_root", "next_miner_set_hash"):
        _require(
            getattr(header, root) == getattr(result.header, root),
            f"its {root} is not the one that execution gives",
            code="wrong_root",
        )
    assert result.header == header, "every field was checked"
    return result


def steps(items: Iterable[T], *, size_of: Callable[[T], int]) -> Iterator[list[T]]:
    """Cut transactions, in whatever form, into runs that are worked off without a pause.

    Parameters
    ----------
    size_of : callable
        Returns the bytes of one of them on the wire.
    """
    step: list[T] = []
    size = 0
    for item in items:
        step.append(item)
        size += size_of(item)
        if len(step) == STEP_TRANSACTIONS or size >= STEP_SIZE:
            yield step
            step, size = [], 0
    if step:
        yield step


def advance(tip: Tip, execution: Execution) -> Tip:
    """Return the tip after `execution`, whose delta the state's source holds by now."""
    tip.state.advance(execution.delta, execution.tree)
    tip.recent.append(execution.summary, parameters_of(tip.state))
    return Tip(header=execution.header, state=tip.state, recent=tip.recent)


def summarise(block: Block, state: State) -> BlockSummary:
    """Return what a committed block adds to the look-back, from a later state.

    Notes
    -----
    What it needs of the state never changes after the block: a device's organisation and gateway,
    and which model was active at a recent height.
    """
    sent: dict[Address, int] = {}
    flows: list[Address] = []
    digests: list[Digest] = []
    for transaction in block.transactions:
        kind = KINDS[transaction.payload.kind]
        sender = transaction.payload.sender
        if kind.signer is Signer.REGISTRAR:
            for subject in registrar_subjects(sender):
                sent[subject] = sent.get(subject, 0) + 1
        if not kind.metered:
            continue
        device = state.get(DEVICE_TABLE, sender)
        assert device is not None, "a committed report comes from a registered device"
        for subject, _ in metered_subjects(sender, device, state):
            sent[subject] = sent.get(subject, 0) + 1
        if is_judged(kind.decode(transaction).payload, state, block.header.height):
            flows.append(sender)
            digests.append(transaction.digest)
    return BlockSummary(
        height=block.header.height,
        time_ms=block.header.time_ms,
        ids=tuple([transaction.id for transaction in block.transactions]),
        sent=sent,
        flows=tuple(flows),
        judged=judged_digest(digests),
    )


def lane_of(transaction: Transaction) -> Lane:
    """Return the lane of a transaction; that of an unknown kind does not matter."""
    kind = KINDS.get(transaction.payload.kind)
    return Lane.TELEMETRY if kind is None else kind.lane


def move_anchors(block: BlockContext, *, window: int = ANCHOR_WINDOW) -> None:
    """Remember the parent, if it is one to be remembered, and forget the one that is too old."""
    height = block.height - 1
    if height % ANCHOR_INTERVAL:
        return
    block.state.put(ANCHOR_TABLE, Anchor(block_hash=block.parent_hash), height_key(height))
    if height >= window:
        block.state.remove_if_present(ANCHOR_TABLE, height_key(height - window))


def _shift_miner_sets(state: Overlay) -> MinerSet:
    """Move the sets on by one height; return the set of the next height."""
    sets = state.get(MINER_SETS)
    assert sets is not None, "genesis sets the miners"
    shifted = replace(sets, current=sets.next, next=sets.after or sets.next, after=None)
    if shifted != sets:
        state.put(MINER_SETS, shifted)
    return MinerSet(shifted.current)


def _require(condition: bool, reason: str, *, code: str = "invalid_block") -> None:
    if not condition:
        raise InvalidBlock(reason, code=code)
