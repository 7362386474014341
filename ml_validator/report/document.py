"""The report as one JSON document and one HTML page, which stands alone.

All words of the page are in the template beside this file; all its figures come from the document.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import mean
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from ml_validator.report import figures
from ml_validator.report.description import NORMALISATIONS, Description
from ml_validator.report.protocol import SEEDS, Run, Scores
from ml_validator.report.published import TABLE_1, TABLE_1_ATTACKS, TABLE_2

FORMAT: Final = 1
SCORE_NAMES: Final = tuple(field.name for field in fields(Scores))


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that the page tells.

    Parameters
    ----------
    data : mapping of str to str
        SHA-256 in hex of each file that was read.
    versions : mapping of str to str
        Python and the libraries that took part.
    runs : sequence of Run
        All of them, in any order.
    adversaries : mapping, optional
        The document of `ml_validator.adversaries`, where evasion was measured.
    """

    data: Mapping[str, str]
    versions: Mapping[str, str]
    description: Description
    runs: Sequence[Run]
    adversaries: Mapping[str, Any] | None = None


def to_json(report: Report) -> str:
    """Return the document; equal reports give equal text."""
    return (
        json.dumps(
            {
                "format": FORMAT,
                "data": dict(report.data),
                "versions": dict(report.versions),
                "description": asdict(report.description),
                "table_1": {
                    "published": [list(row) for row in TABLE_1],
                    "named": list(TABLE_1_ATTACKS),
                    "rows": table_1(report.description),
                },
                "table_2": table_2(report.runs),
                "runs": [asdict(run) for run in report.runs],
                "adversaries": report.adversaries,
            },
            indent=1,
        )
        + "\n"
    )


def table_1(description: Description) -> list[dict[str, Any]]:
    """Return the rows of Table 1: as published, and what comes nearest in the data.

    ``own`` is mean and median in seconds of the type that the paper names for the row, None where
    it names none. ``nearest`` is that of all types, under all normalisations, whose mean and median
    are at most ``off`` away.
    """
    kinds = {kind.label: kind for kind in description.kinds}
    rows = []
    for place, published in enumerate(TABLE_1):
        attack = TABLE_1_ATTACKS[place] if place < len(TABLE_1_ATTACKS) else None
        own = None if attack is None else kinds.get(attack)
        rows.append(
            {
                "published": list(published),
                "attack": attack,
                "own": None if own is None else [own.duration_mean_s, own.duration_median_s],
                "nearest": _nearest(published, description),
            }
        )
    return rows


def table_2(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the rows of Table 2: as published and, with and without the leak, as measured.

    Each measured score is in per cent: ``mean``, ``min`` and ``max`` over the seeds, ``first`` of
    the first seed.
    """
    rows = []
    for model, published in TABLE_2.items():
        for leaks in (True, False):
            own = [run for run in runs if run.model == model and run.difficulty == leaks]
            first = min(own, key=lambda run: _place(run.seed)).scores
            rows.append(
                {
                    "model": model,
                    "difficulty": leaks,
                    "seeds": [run.seed for run in own],
                    "published": asdict(published),
                    "measured": {
                        name: _spread([getattr(run.scores, name) for run in own])
                        | {"first": 100 * getattr(first, name)}
                        for name in SCORE_NAMES
                    },
                }
            )
    return rows


def to_html(report: Report) -> str:
    """Return the page, with its plots inside."""
    environment = Environment(
        loader=PackageLoader("ml_validator.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    honest = [run for run in report.runs if not run.difficulty]
    shown = [
        min((run for run in honest if run.model == model), key=lambda run: _place(run.seed))
        for model in TABLE_2
    ]
    description = report.description
    return environment.get_template("page.html").render(
        report=report,
        description=description,
        table_1=table_1(description),
        normalisations=NORMALISATIONS,
        table_2=table_2(report.runs),
        score_names=SCORE_NAMES,
        plots={
            "attack_distribution": figures.attack_distribution(description),
            "durations": figures.durations(description),
            "source_bytes": figures.source_bytes(description),
            "mean_and_variance": figures.mean_and_variance(description),
            "recalls": figures.recalls(shown),
            "roc": figures.roc(shown),
            "precision_recall": figures.precision_recall(shown),
            "confusions": [figures.confusion(run) for run in shown],
        },
        seed=shown[0].seed,
    )


def _nearest(published: tuple[float, float], description: Description) -> dict[str, Any]:
    """Return the type and the normalisation whose mean and median are nearest to a printed pair."""
    off, label, normalisation, pair = min(
        (max(abs(found - printed) for found, printed in zip(pair, published, strict=True)),
         kind.label, normalisation, pair)
        for kind in description.kinds
        for normalisation, pair in kind.durations.items()
    )  # fmt: skip
    return {
        "label": label,
        "normalisation": normalisation,
        "mean": pair[0],
        "median": pair[1],
        "off": off,
    }


def _place(seed: int) -> int:
    return SEEDS.index(seed) if seed in SEEDS else len(SEEDS) + seed


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": 100 * mean(values), "min": 100 * min(values), "max": 100 * max(values)}
