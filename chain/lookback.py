"""What a block's rules need of the recent past, outside the state root.

The duplicate check looks back L + D of block time, rate limits up to W_max, verdicts a number of
heights. All of it follows from the recent blocks alone, so that it is rebuilt from them at start
and a joining node verifies it by fetching their bodies. docs/spec/state.md, section "Look-back".
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from chain.blocks import Header
from chain.crypto import tagged_hash
from chain.limits import RATE_SECONDS_MAX, RateWindow
from chain.parameters import FUTURE_DRIFT_MS, LIFETIME_MS_MAX, VERDICT_WINDOW, Parameters
from chain.types import Address, Digest

_JUDGED_TAG: Final = b"securenet/judged-flows/v1"
LOOKBACK_MS_MAX: Final = max(LIFETIME_MS_MAX + FUTURE_DRIFT_MS, RATE_SECONDS_MAX * 1000)
"""How far the look-back may ever reach from the time of a block, whatever is voted for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSummary:
    """What one block adds to the look-back.

    Parameters
    ----------
    ids : tuple of Digest
        Ids of its transactions.
    sent : mapping of Address to int
        Metered transactions by device, organisation and gateway.
    flows : tuple of Address
        The device of each flow that detectors judge, in block order.
    judged : Digest or None
        Digest of these flows with all that stands around them; None where there is none.
    """

    height: int
    time_ms: int
    ids: tuple[Digest, ...]
    sent: Mapping[Address, int]
    flows: tuple[Address, ...]
    judged: Digest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far back any rule for the block behind a tip may look.

    Parameters
    ----------
    ids_after_ms : int
        Ids matter of blocks with a later time.
    after_ms : int
        Nothing of a block matters whose time is not later than this and whose height is below
        `height`.
    """

    ids_after_ms: int
    after_ms: int
    height: int

    @classmethod
    def of(cls, tip: Header, parameters: Parameters) -> "Reach":
        """Return the reach of the rules behind the block `tip`, under the parameters after it."""
        ids_after_ms = tip.time_ms - parameters.transaction_lifetime_ms - FUTURE_DRIFT_MS
        return cls(
            ids_after_ms=ids_after_ms,
            after_ms=min(ids_after_ms, tip.time_ms - RATE_SECONDS_MAX * 1000),
            height=tip.height - VERDICT_WINDOW,
        )

    def contains(self, header: Header) -> bool:
        """Tell whether a rule may look at this block."""
        return header.time_ms > self.after_ms or header.height >= self.height


class _Sent:
    """Cumulative count of one subject's transactions by block time."""

    __slots__ = ("before", "times", "totals")

    def __init__(self) -> None:
        self.before = 0
        self.times: list[int] = []
        self.totals: list[int] = []

    def add(self, time_ms: int, count: int) -> None:
        total = (self.totals[-1] if self.totals else self.before) + count
        self.times.append(time_ms)
        self.totals.append(total)

    def drop_until(self, time_ms: int) -> None:
        gone = bisect_right(self.times, time_ms)
        if gone:
            self.before = self.totals[gone - 1]
            del self.times[:gone]
            del self.totals[:gone]

    def since(self, time_ms: int) -> int:
        """Count the transactions in blocks with a time after `time_ms`."""
        if not self.totals:
            return 0
        index = bisect_right(self.times, time_ms)
        return self.totals[-1] - (self.totals[index - 1] if index else self.before)


class Lookback:
    """The recent past as of the last committed block.

    Notes
    -----
    Bounded by what blocks may hold within the windows: ids of the last L + D, one number for each
    subject and block of the last W_max, the flows of the last `VERDICT_WINDOW` heights.
    """

    def __init__(self) -> None:
        self._ids: set[Digest] = set()
        self._id_blocks: deque[tuple[int, tuple[Digest, ...]]] = deque()
        self._sent: dict[Address, _Sent] = {}
        self._flows: dict[int, tuple[tuple[Address, ...], Digest]] = {}

    def append(self, block: BlockSummary, parameters: Parameters) -> None:
        """Take in the next committed block and forget what no rule can ask for any more."""
        self._ids.update(block.ids)
        self._id_blocks.append((block.time_ms, block.ids))
        oldest = block.time_ms - parameters.transaction_lifetime_ms - FUTURE_DRIFT_MS
        while self._id_blocks[0][0] <= oldest:
            self._ids.difference_update(self._id_blocks.popleft()[1])
        horizon = block.time_ms - RATE_SECONDS_MAX * 1000
        for subject, count in block.sent.items():
            # Moved to the end, so that the subjects stand in the order of their last block.
            sent = self._sent.pop(subject, None) or _Sent()
            sent.drop_until(horizon)
            sent.add(block.time_ms, count)
            self._sent[subject] = sent
        while self._sent:
            subject = next(iter(self._sent))
            if self._sent[subject].times[-1] > horizon:
                break
            del self._sent[subject]
        if block.judged is not None:
            self._flows[block.height] = block.flows, block.judged
        while self._flows:
            height = next(iter(self._flows))
            if height >= block.height - VERDICT_WINDOW:
                break
            del self._flows[height]

    @property
    def id_count(self) -> int:
        """How many ids it holds."""
        return len(self._ids)

    @property
    def subject_count(self) -> int:
        """Of how many senders, organisations and gateways it holds what they sent."""
        return len(self._sent)

    def has_id(self, id: Digest) -> bool:
        """Tell whether a transaction with this id stands in a block of the last L + D."""
        return id in self._ids

    def sent_since(self, subject: Address, time_ms: int) -> int:
        """Count the subject's metered transactions in blocks with a time after `time_ms`."""
        sent = self._sent.get(subject)
        return 0 if sent is None else sent.since(time_ms)

    def free_at_ms(self, subject: Address, window: RateWindow) -> int:
        """Return the block time from which on `window` has room again for `subject`."""
        sent = self._sent.get(subject)
        if sent is None or sent.totals[-1] - sent.before < window.capacity:
            return 0
        # The block up to which so much must be left behind that fewer than `capacity` remain.
        index = bisect_left(sent.totals, sent.totals[-1] - window.capacity + 1)
        return sent.times[index] + window.seconds * 1000

    def flows(self, height: int) -> tuple[Address, ...]:
        """Return the devices of the judged flows of a recent block."""
        found = self._flows.get(height)
        return () if found is None else found[0]

    def judged(self, height: int) -> Digest | None:
        """Return the digest of the judged flows of a recent block, or None: it has none."""
        found = self._flows.get(height)
        return None if found is None else found[1]


class OpenBlock:
    """The look-back together with the transactions of a block that is being executed.

    Parameters
    ----------
    sent : dict, optional
        Where charges are counted; by default nothing is charged yet.
    """

    __slots__ = ("_digests", "_flows", "_ids", "_past", "_sent", "_time_ms")

    def __init__(
        self, past: Lookback, *, time_ms: int, sent: dict[Address, int] | None = None
    ) -> None:
        self._past = past
        self._time_ms = time_ms
        self._ids: dict[Digest, None] = {}
        self._sent = {} if sent is None else sent
        self._flows: list[Address] = []
        self._digests: list[Digest] = []

    def has_id(self, id: Digest) -> bool:
        """Tell whether the id occurs in the look-back or earlier in this block."""
        return id in self._ids or self._past.has_id(id)

    def sent_within(self, subject: Address, seconds: int) -> int:
        """Count the subject's metered transactions of the last `seconds`, this block's included."""
        since = self._time_ms - seconds * 1000
        return self._past.sent_since(subject, since) + self._sent.get(subject, 0)

    def free_in_ms(self, subject: Address, window: RateWindow) -> int:
        """Return how long until `window` has room again, at least one millisecond.

        What is charged in the open block counts as sent at its time.
        """
        room = window.capacity - self._sent.get(subject, 0)
        if room <= 0:
            return window.seconds * 1000
        past = RateWindow(capacity=room, seconds=window.seconds)
        return max(1, self._past.free_at_ms(subject, past) - self._time_ms)

    def flows(self, height: int) -> tuple[Address, ...]:
        """Return the devices of the judged flows of a recent block."""
        return self._past.flows(height)

    def judged(self, height: int) -> Digest | None:
        """Return the digest of the judged flows of a recent block, or None: it has none."""
        return self._past.judged(height)

    def append(self, id: Digest) -> None:
        """Take in a transaction."""
        self._ids[id] = None

    def charge(self, subject: Address) -> None:
        """Count one metered transaction against `subject`."""
        self._sent[subject] = self._sent.get(subject, 0) + 1

    def add_flow(self, device: Address, digest: Digest) -> None:
        """Take in a flow that detectors will judge, with the full digest of its transaction."""
        self._flows.append(device)
        self._digests.append(digest)

    def summary(self, height: int) -> BlockSummary:
        """Return what this block adds to the look-back."""
        return BlockSummary(
            height=height,
            time_ms=self._time_ms,
            ids=tuple(self._ids),
            sent=self._sent,
            flows=tuple(self._flows),
            judged=judged_digest(self._digests),
        )


def judged_digest(digests: Sequence[Digest]) -> Digest | None:
    """Return the digest that verdicts on these transactions name; None if there is none."""
    return tagged_hash(_JUDGED_TAG, *digests) if digests else None
