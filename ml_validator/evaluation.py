"""Counting how well a detector does on labelled rows.

Accuracy alone flatters where most rows are attacks, as in the test files of NSL-KDD; so the false
positive rate and the precision to expect at a prevalence of 1 % always stand beside it. All rates
are parts per million, rounded down. Where there is nothing to measure one on, it is 0, and
`Evaluation.unmeasured` says why it means nothing.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ml_validator.labelled import Labelled
from ml_validator.verdicts import is_anomalous

_PPM: Final = 1_000_000
_OF_BOTH: Final = ("precision_ppm", "f1_ppm", "precision_at_one_percent_ppm", "auc")
"""What takes attacks and normal rows: the last is for those who measure it beside these."""
_PREVALENCE_ODDS: Final = 99
"""Normal flows for each attack, where precision is given at a prevalence of 1 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Counts of judged rows, and the usual rates of them.

    Parameters
    ----------
    true_positives, false_negatives : int
        Attacks called anomalous, and those missed.
    false_positives, true_negatives : int
        Normal rows called anomalous, and those let pass.
    rows_by_label, anomalous_by_label : Counter of str
        Rows of each label, and how many of them were called anomalous.
    """

    true_positives: int
    false_negatives: int
    false_positives: int
    true_negatives: int
    rows_by_label: Counter[str]
    anomalous_by_label: Counter[str]

    @property
    def rows(self) -> int:
        """All rows."""
        return (
            self.true_positives + self.false_negatives + self.false_positives + self.true_negatives
        )

    def unmeasured(self) -> dict[str, str]:
        """Return the rates that these rows tell nothing of, by their names in `figures`: why."""
        found: dict[str, str] = {}
        if not self.true_positives + self.false_positives:
            names: tuple[str, ...] = ("precision_ppm", "precision_at_one_percent_ppm")
            found |= dict.fromkeys(names, "no row was called anomalous")
        if not self.true_positives + self.false_negatives:
            found |= dict.fromkeys(("recall_ppm", *_OF_BOTH), "there are no attacks")
        if not self.false_positives + self.true_negatives:
            # Precision would be 1, whatever the detector says.
            names = ("false_positive_rate_ppm", *_OF_BOTH)
            found |= dict.fromkeys(names, "there are no normal rows")
        return found

    @property
    def accuracy_ppm(self) -> int:
        """Rows judged rightly, of all."""
        return _ppm(self.true_positives + self.true_negatives, self.rows)

    @property
    def precision_ppm(self) -> int:
        """Attacks, of the rows called anomalous."""
        return _ppm(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall_ppm(self) -> int:
        """Attacks called anomalous, of all attacks."""
        return _ppm(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1_ppm(self) -> int:
        """Harmonic mean of precision and recall."""
        return _ppm(
            2 * self.true_positives,
            2 * self.true_positives + self.false_positives + self.false_negatives,
        )

    @property
    def false_positive_rate_ppm(self) -> int:
        """Normal rows called anomalous, of all normal rows."""
        return _ppm(self.false_positives, self.false_positives + self.true_negatives)

    @property
    def precision_at_one_percent_ppm(self) -> int:
        """Precision to expect where one flow in a hundred is an attack."""
        recall, alarms = self.recall_ppm, self.false_positive_rate_ppm
        return _ppm(recall, recall + _PREVALENCE_ODDS * alarms)

    def recall_of(self, labels: Collection[str]) -> int:
        """Return the recall over attacks with one of these labels, in parts per million."""
        return _ppm(
            sum(self.anomalous_by_label[label] for label in labels),
            sum(self.rows_by_label[label] for label in labels),
        )

    def figures(self) -> dict[str, int]:
        """Return counts and measured rates under their names, for a manifest."""
        figures = {
            "rows": self.rows,
            "true_positives": self.true_positives,
            "false_negatives": self.false_negatives,
            "false_positives": self.false_positives,
            "true_negatives": self.true_negatives,
            "accuracy_ppm": self.accuracy_ppm,
            "precision_ppm": self.precision_ppm,
            "recall_ppm": self.recall_ppm,
            "f1_ppm": self.f1_ppm,
            "false_positive_rate_ppm": self.false_positive_rate_ppm,
            "precision_at_one_percent_ppm": self.precision_at_one_percent_ppm,
        }
        unmeasured = self.unmeasured()
        return {name: figure for name, figure in figures.items() if name not in unmeasured}


def evaluate(
    records: Sequence[Labelled], scores_ppm: Iterable[int], *, threshold_ppm: int
) -> Evaluation:
    """Compare the verdicts of `scores_ppm` with the labels of `records`, one for one."""
    rows: Counter[str] = Counter()
    anomalous: Counter[str] = Counter()
    outcomes: Counter[tuple[bool, bool]] = Counter()
    for record, score in zip(records, scores_ppm, strict=True):
        called = is_anomalous(score, threshold_ppm)
        outcomes[record.is_attack, called] += 1
        rows[record.label] += 1
        anomalous[record.label] += called
    return Evaluation(
        true_positives=outcomes[True, True],
        false_negatives=outcomes[True, False],
        false_positives=outcomes[False, True],
        true_negatives=outcomes[False, False],
        rows_by_label=rows,
        anomalous_by_label=anomalous,
    )


def _ppm(part: int, whole: int) -> int:
    return part * _PPM // whole if whole else 0
