"""How a device behaves against its own past and against its group: a view for operators.

Running sums of a few quantities of each device, in windows: the latest full window is compared with
all that came before it, which fades. Exact integers, in the order of blocks, so that two nodes that
have seen the same blocks say the same. No verdict rests on it: nodes keep different pasts, see
docs/adr/0022-behaviour-is-a-view.md. docs/spec/ml.md, section "Behaviour of devices".

References
----------
Paper, figures 7 and 8: distribution of src_bytes; mean against variance.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Final

from chain.payloads import Flow
from chain.types import Address, Digest
from ml_validator.features import NSL_KDD_SCHEMA, FeatureSchema

WINDOW: Final = 30
"""Observations of a window; one window is the least that anything is compared with."""
PAST_MAX: Final = 1_000
"""When a past holds more observations all its sums are halved, so that what is old fades."""
GROUP_PAST_MAX: Final = 100_000
DEVICES_MAX: Final = 100_000
GROUPS_MAX: Final = 10_000
"""Who was not heard of for longest is forgotten first."""
DRIFT_WINDOWS: Final = 3
"""So many windows in a row that deviate to one side are a lasting change, and no burst."""
SUSPICIOUS_PPM: Final = 500_000
DEVIATIONS: Final = 5
"""A window whose mean lies so many standard errors away scores `SUSPICIOUS_PPM`."""
MINUTE_MS: Final = 60_000
PER_MINUTE: Final = "transactions per minute"
WATCHED: Final = ("duration", "src_bytes", "dst_bytes", "count")
"""Columns of flows that are watched, by the names in their schema."""
_PPM: Final = 1_000_000


def _places(schema: FeatureSchema) -> dict[str, int]:
    names = [column.name for column in schema.integers]
    return {name: names.index(name) for name in WATCHED if name in names}


_COLUMNS: Final[Mapping[Digest, Mapping[str, int]]] = {
    NSL_KDD_SCHEMA.digest: _places(NSL_KDD_SCHEMA)
}
"""Where the watched columns stand; of flows of any other schema only the number is watched."""


def watched_values(flow: Flow) -> dict[str, int]:
    """Return the watched quantities of a flow by their names."""
    columns = _COLUMNS.get(flow.schema, {})
    integers = flow.integers
    return {name: integers[at] for name, at in columns.items() if at < len(integers)}


class Sums:
    """Count, sum and sum of squares of integers."""

    __slots__ = ("count", "squares", "total")

    def __init__(self, count: int = 0, total: int = 0, squares: int = 0) -> None:
        self.count = count
        self.total = total
        self.squares = squares

    @property
    def mean(self) -> int:
        """The mean, rounded down; 0 of nothing."""
        return self.total // self.count if self.count else 0

    @property
    def variance(self) -> int:
        """The variance, rounded down; 0 of nothing."""
        if not self.count:
            return 0
        return (self.count * self.squares - self.total**2) // self.count**2

    @property
    def deviation(self) -> int:
        """The standard deviation, rounded down."""
        return isqrt(self.variance)

    def add(self, value: int) -> None:
        """Take in a value."""
        self.count += 1
        self.total += value
        self.squares += value * value

    def merge(self, other: "Sums") -> None:
        """Take in other sums."""
        self.count += other.count
        self.total += other.total
        self.squares += other.squares

    def fade(self, count_max: int) -> None:
        """Halve all, when there are more than `count_max` values, so that what is old weighs less.

        Rounded so that no variance falls below 0: (Σx)² ≤ n Σx² goes on to hold.
        """
        if self.count > count_max:
            self.count, self.total = (self.count + 1) // 2, self.total // 2
            self.squares = (self.squares + 1) // 2


def score_ppm(latest: Sums, past: Sums) -> int:
    """Return how far the mean of `latest` lies from that of `past`, in [0, 1_000_000].

    ``z² / (z² + DEVIATIONS²)``, z in standard errors of a window. The deviation of the past counts
    as a tenth of its mean at least, and as 1: a device that always sent the same may send a little
    more.
    """
    if not latest.count or past.count < WINDOW:
        return 0
    scale = latest.count * past.count
    distance = abs(latest.total * past.count - past.total * latest.count)
    variance = max(past.variance, (past.mean // 10) ** 2, 1)
    # z² = distance² · n / (scale² · variance), over one denominator with DEVIATIONS².
    above = distance**2 * latest.count
    return _PPM * above // (above + DEVIATIONS**2 * scale**2 * variance)


class History:
    """One quantity of one device.

    Attributes
    ----------
    past : Sums
        All before `latest`, fading.
    latest : Sums
        The last full window.
    streak : int
        So many windows in a row have deviated upwards, or downwards if it is negative.
    """

    __slots__ = ("_filling", "latest", "past", "streak")

    def __init__(self) -> None:
        self.past = Sums()
        self.latest = Sums()
        self.streak = 0
        self._filling = Sums()

    def add(self, value: int) -> None:
        """Take in an observation."""
        self._filling.add(value)
        if self._filling.count < WINDOW:
            return
        self.past.merge(self.latest)
        self.past.fade(PAST_MAX)
        self.latest, self._filling = self._filling, Sums()
        if score_ppm(self.latest, self.past) < SUSPICIOUS_PPM:
            self.streak = 0
        elif self.latest.mean >= self.past.mean:
            self.streak = max(self.streak, 0) + 1
        else:
            self.streak = min(self.streak, 0) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One quantity of a device, compared; every number an integer.

    Parameters
    ----------
    name : str
    count, mean, deviation : int
        Of the device's past.
    latest_mean : int or None
        Of its last full window; None before there is one.
    group_count, group_mean, group_deviation : int
        Of its group, the device among it; 0 where most of that is the device itself.
    score_ppm, group_score_ppm : int
        How far the latest window lies from the device's past and from the group's.
    is_drifting : bool
        Whether it has deviated to one side for `DRIFT_WINDOWS` windows.
    reason : str or None
        What is unusual, in words; None where nothing is.
    """

    name: str
    count: int
    mean: int
    deviation: int
    latest_mean: int | None
    group_count: int
    group_mean: int
    group_deviation: int
    score_ppm: int
    group_score_ppm: int
    is_drifting: bool
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What is known of a device; the score is the highest of its quantities."""

    score_ppm: int
    reason: str | None
    quantities: tuple[Quantity, ...]


class _Watched:
    """A device."""

    __slots__ = ("histories", "minute", "sent")

    def __init__(self, minute: int) -> None:
        self.histories: dict[str, History] = {}
        self.minute = minute
        self.sent = 0


class Watch:
    """The behaviour of all devices; takes in blocks in their order."""

    def __init__(self) -> None:
        self._devices: dict[Address, _Watched] = {}
        self._groups: dict[Address, dict[str, Sums]] = {}

    @property
    def device_count(self) -> int:
        """How many devices are watched."""
        return len(self._devices)

    def take(
        self,
        device: Address,
        group: Address,
        *,
        time_ms: int,
        sent: int,
        values: Iterable[Mapping[str, int]],
    ) -> None:
        """Take in what a device has in a block.

        Parameters
        ----------
        group : Address
            Whose other devices it is compared with: its organisation.
        time_ms : int
            The block's.
        sent : int
            Its transactions in the block.
        values : iterable of mapping of str to int
            The watched quantities of each of its flows, in block order.
        """
        minute = time_ms // MINUTE_MS
        # Moved to the end, so that the devices stand in the order of their last block.
        known = self._devices.pop(device, None) or _Watched(minute)
        self._devices[device] = known
        if len(self._devices) > DEVICES_MAX:
            del self._devices[next(iter(self._devices))]
        of_group = self._groups.pop(group, None) or {}
        self._groups[group] = of_group
        if len(self._groups) > GROUPS_MAX:
            del self._groups[next(iter(self._groups))]
        if minute > known.minute:
            # Minutes in which it was silent are none of its behaviour: many devices sleep.
            _observe(known, of_group, PER_MINUTE, known.sent)
            known.minute, known.sent = minute, 0
        known.sent += sent
        for row in values:
            for name, value in row.items():
                _observe(known, of_group, name, value)

    def report(self, device: Address, group: Address) -> Behaviour:
        """Return how a device behaves; without quantities of one that was not heard of."""
        known = self._devices.get(device)
        histories = {} if known is None else known.histories
        of_group = self._groups.get(group, {})
        quantities = tuple(
            [
                _compared(name, history, of_group.get(name) or Sums())
                for name, history in sorted(histories.items())
            ]
        )
        worst = max(quantities, key=_overall, default=None)
        if worst is None:
            return Behaviour(score_ppm=0, reason=None, quantities=())
        return Behaviour(score_ppm=_overall(worst), reason=worst.reason, quantities=quantities)


def _observe(known: _Watched, of_group: dict[str, Sums], name: str, value: int) -> None:
    history = known.histories.get(name)
    if history is None:
        history = known.histories[name] = History()
    history.add(value)
    group = of_group.get(name)
    if group is None:
        group = of_group[name] = Sums()
    group.add(value)
    group.fade(GROUP_PAST_MAX)


def _overall(quantity: Quantity) -> int:
    """Return the score by which a quantity counts: a device without a past has its group's."""
    return quantity.score_ppm if quantity.count >= WINDOW else quantity.group_score_ppm


def _compared(name: str, history: History, group: Sums) -> Quantity:
    past, latest = history.past, history.latest
    if group.count < 2 * (past.count + latest.count):
        # Most of it is the device itself.
        group = Sums()
    own, others = score_ppm(latest, past), score_ppm(latest, group)
    unusual = []
    if own >= SUSPICIOUS_PPM:
        unusual.append(_in_words(latest, past, "this device's normal"))
    if others >= SUSPICIOUS_PPM:
        unusual.append(_in_words(latest, group, "its group's"))
    return Quantity(
        name=name,
        count=past.count,
        mean=past.mean,
        deviation=past.deviation,
        latest_mean=latest.mean if latest.count else None,
        group_count=group.count,
        group_mean=group.mean,
        group_deviation=group.deviation,
        score_ppm=own,
        group_score_ppm=others,
        is_drifting=abs(history.streak) >= DRIFT_WINDOWS,
        reason=f"{name} {', '.join(unusual)}" if unusual else None,
    )


def _in_words(latest: Sums, normal: Sums, whose: str) -> str:
    """Return ``40 × this device's normal``, from the exact means."""
    above = latest.total * normal.count
    below = normal.total * latest.count
    if not below:
        return f"{latest.mean}, where 0 is {whose}"
    if not above:
        return f"0, where {normal.mean} is {whose}"
    if above >= below:
        return f"{_ratio(above, below)} × {whose}"
    return f"1/{_ratio(below, above)} of {whose}"


def _ratio(above: int, below: int) -> str:
    tenths = (10 * above + below // 2) // below
    return str((tenths + 5) // 10) if tenths >= 100 else f"{tenths // 10}.{tenths % 10}"
