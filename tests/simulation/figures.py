"""What came of many worlds, in one line."""

from collections import Counter
from statistics import median

from tests.simulation.seeds import Outcome


class Figures:
    """Adds outcomes up; a few numbers of each world are kept.

    Attributes
    ----------
    failed : int
        Worlds that had no outcome.
    """

    def __init__(self) -> None:
        self.failed = 0
        self._sums: Counter[str] = Counter()
        self._miners: Counter[int] = Counter()
        self._hostile: Counter[int] = Counter()
        self._recovered_s: list[float] = []

    @property
    def played(self) -> int:
        """How many worlds there were."""
        return len(self._recovered_s) + self.failed

    def add(self, outcome: Outcome) -> None:
        """Take in a world that ended well."""
        for name in ("time_s", "height", "transactions", "faults", "changes"):
            self._sums[name] += getattr(outcome, name)
        self._miners[outcome.miners] += 1
        self._hostile[outcome.hostile] += 1
        self._recovered_s.append(outcome.recovered_s)

    def line(self, took_s: float) -> str:
        """Return the line, for worlds that took so long together."""
        good = len(self._recovered_s)
        if not good:
            return f"worlds {self.failed} failed {self.failed}"

        def mean(name: str) -> float:
            return self._sums[name] / good

        return (
            f"worlds {self.played} failed {self.failed}; in the mean {mean('time_s'):.0f} "
            f"simulated s, {mean('height'):.0f} heights, {mean('transactions'):.0f} transactions, "
            f"{mean('faults'):.1f} faults, {mean('changes'):.1f} decisions of the miners; "
            f"worlds by miners {_shares(self._miners)}, by liars {_shares(self._hostile)}; "
            f"recovery p50 {median(self._recovered_s):.1f} s, max {max(self._recovered_s):.1f} s; "
            f"{60 * self.played / took_s:.0f} worlds a minute"
        )


def _shares(counts: Counter[int]) -> str:
    return " ".join(f"{value}:{counts[value]}" for value in sorted(counts))
