"""The paper's figures 5 to 8 and the usual plots of classifiers, as SVG text.

Equal inputs give equal text: ids are salted and no date is written. Text stays text, so that it can
be searched and read aloud.
"""

import math
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ml_validator.report.description import Description
from ml_validator.report.protocol import Run

# Matplotlib's own type of it is a list of all its three hundred settings.
_STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "securenet",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
}
NORMAL_COLOUR: Final = "#4477aa"
ATTACK_COLOUR: Final = "#cc3311"
NAMED_MOMENTS: Final = 6
"""Columns with the largest variance that are named in the scatter plot."""

DRAWN_ALARMS_MIN: Final = 1e-4
DRAWN_RECALL_MAX: Final = 0.995
"""What lies beyond falls steeply to 0, or to the share of attacks, and may be cut off."""


def attack_distribution(description: Description) -> str:
    """Draw the paper's figure 5: how many rows each label has."""

    def draw(axes: Axes) -> None:
        kinds = description.kinds[::-1]
        bars = axes.barh(
            [kind.label for kind in kinds],
            [kind.rows for kind in kinds],
            color=[NORMAL_COLOUR if kind.family == "normal" else ATTACK_COLOUR for kind in kinds],
        )
        axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
        axes.set(xscale="log", xlabel="rows (logarithmic)", title="Rows of each label")
        axes.grid(axis="y", visible=False)

    return _svg(draw, height=0.22 * len(description.kinds) + 1.2)


def durations(description: Description) -> str:
    """Draw the paper's figure 6: mean and median duration of each label."""

    def draw(axes: Axes) -> None:
        kinds = description.kinds[::-1]
        places = np.arange(len(kinds))
        for offset, values, name, colour in (
            (0.2, [kind.duration_mean_s for kind in kinds], "mean", NORMAL_COLOUR),
            (-0.2, [kind.duration_median_s for kind in kinds], "median", "#ddaa33"),
        ):
            bars = axes.barh(places + offset, values, height=0.38, label=name, color=colour)
            axes.bar_label(bars, fmt="{:,.1f}", padding=3, fontsize=7)
        axes.set_yticks(places, [kind.label for kind in kinds])
        axes.set_xscale("symlog", linthresh=1)
        axes.set(
            xlabel="duration in seconds (linear below 1, then logarithmic)",
            title="Mean and median duration by label",
        )
        axes.grid(axis="y", visible=False)
        axes.legend(loc="lower right")

    return _svg(draw, height=0.3 * len(description.kinds) + 1.2)


def source_bytes(description: Description) -> str:
    """Draw the paper's figure 7: how many bytes the sources send."""

    def draw(axes: Axes) -> None:
        volume = description.volume
        places = np.arange(len(volume.normal))
        # Side by side, for on a logarithmic scale nothing can be stacked; and on another, the few
        # large flows would not be seen.
        for offset, flows, name, colour in (
            (-0.22, volume.normal, "normal", NORMAL_COLOUR),
            (0.22, volume.attack, "attack", ATTACK_COLOUR),
        ):
            axes.bar(places + offset, flows, width=0.44, color=colour, label=name)
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
        axes.yaxis.set_major_formatter("{x:,.0f}")
        names = ["0", *(f"{_short(edge)}" for edge in volume.edges[1:-1])]
        axes.set_xticks(places[::2], names[::2], rotation=45, ha="right")
        axes.set(
            xlabel="src_bytes of a flow: from so many bytes up to the next bin",
            ylabel="flows (logarithmic)",
            title="Bytes sent by the source",
        )
        axes.grid(axis="x", visible=False)
        axes.legend()

    return _svg(draw, height=3.6)


def mean_and_variance(description: Description) -> str:
    """Draw the paper's figure 8: mean against variance of each integer column."""

    def draw(axes: Axes) -> None:
        moments = [m for m in description.moments if m.mean > 0 and m.variance > 0]
        axes.scatter(
            [m.mean for m in moments], [m.variance for m in moments], s=18, color=NORMAL_COLOUR
        )
        largest = sorted(moments, key=lambda m: -m.variance)[:NAMED_MOMENTS]
        for line, named in enumerate(largest):
            # In a list, in the order of the points: some lie too close for names next to them.
            axes.annotate(
                named.column,
                (named.mean, named.variance),
                xytext=(0.5, 0.95 - 0.085 * line),
                textcoords="axes fraction",
                ha="right",
                va="center",
                fontsize=8,
                arrowprops={
                    "arrowstyle": "-",
                    "color": "#999999",
                    "linewidth": 0.6,
                    "relpos": (1, 0.5),
                },
            )
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="mean, in the unit of the column",
            ylabel="variance, in the unit squared",
            title="Mean against variance of the integer columns",
        )

    return _svg(draw, height=3.8)


def confusion(run: Run) -> str:
    """Draw which class the test rows were said to be of, a line for each true class."""

    def draw(axes: Axes) -> None:
        counts = np.array(run.confusion)
        image = axes.imshow(
            np.where(counts > 0, counts, np.nan), norm=LogNorm(vmin=1), cmap="viridis_r"
        )
        places = range(len(run.classes))
        axes.set_xticks(places, run.classes, rotation=90, fontsize=7)
        axes.set_yticks(places, run.classes, fontsize=7)
        axes.set(xlabel="said", ylabel="true", title=f"Test rows, {run.model}")
        axes.grid(visible=False)
        axes.figure.colorbar(image, ax=axes, label="rows (white: none)", shrink=0.8)

    return _svg(draw, height=5.6)


def recalls(runs: Sequence[Run]) -> str:
    """Draw the recall of each class, one colour for each run."""

    def draw(axes: Axes) -> None:
        classes = sorted({label for run in runs for label in run.classes})
        height = 0.8 / len(runs)
        for place, run in enumerate(runs):
            known = dict(zip(run.classes, run.recall, strict=True))
            axes.barh(
                np.arange(len(classes)) + place * height,
                [known.get(label, 0.0) for label in classes],
                height=height,
                label=run.model,
            )
        axes.set_yticks(np.arange(len(classes)) + height * (len(runs) - 1) / 2, classes)
        axes.invert_yaxis()
        axes.set(xlabel="recall", xlim=(0, 1), title="Recall of each class")
        axes.grid(axis="y", visible=False)
        axes.figure.legend(loc="outside lower center", ncols=len(runs))

    return _svg(draw, height=0.28 * len({label for run in runs for label in run.classes}) + 1.6)


def roc(runs: Sequence[Run]) -> str:
    """Draw the receiver operating characteristic of attack against normal."""

    def draw(axes: Axes) -> None:
        for run in runs:
            axes.plot(
                run.curves.false_positive_rate,
                run.curves.true_positive_rate,
                label=f"{run.model}, area {run.curves.roc_auc:.4f}",
            )
        axes.set_xscale("symlog", linthresh=1e-3)
        rates = [
            found
            for run in runs
            for alarms, found in zip(
                run.curves.false_positive_rate, run.curves.true_positive_rate, strict=True
            )
            if alarms >= DRAWN_ALARMS_MIN
        ]
        axes.set(
            xlim=(0, 1),
            ylim=(_below(rates), 1.005),
            xlabel="false positive rate (linear below 0.001, then logarithmic)",
            ylabel="true positive rate",
            title="Attack against normal: ROC",
        )
        axes.legend(loc="lower right")

    return _svg(draw, height=3.8)


def precision_recall(runs: Sequence[Run]) -> str:
    """Draw precision against recall of attack against normal."""

    def draw(axes: Axes) -> None:
        for run in runs:
            axes.plot(run.curves.recall, run.curves.precision, label=run.model)
        precisions = [
            precision
            for run in runs
            for recall, precision in zip(run.curves.recall, run.curves.precision, strict=True)
            if recall <= DRAWN_RECALL_MAX
        ]
        axes.set(
            xlim=(0.9, 1.001),
            ylim=(_below(precisions), 1.005),
            xlabel="recall",
            ylabel="precision",
            title="Attack against normal: precision and recall",
        )
        axes.legend(loc="lower left")

    return _svg(draw, height=3.8)


def _svg(draw: Callable[[Axes], None], *, height: float) -> str:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, height), layout="constrained")
        draw(figure.subplots())
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    drawn = text.getvalue()
    # What stands before is the declaration of a document of its own; this goes into a page.
    return drawn[drawn.index("<svg") :]


def _below(rates: Sequence[float]) -> float:
    """Return where an axis begins that has all of `rates`, so that no space is left to nothing."""
    return math.floor(20 * min(rates, default=0) - 0.5) / 20


def _short(size_bytes: int) -> str:
    for unit in ("", "k", "M", "G"):
        if size_bytes < 1024:
            return f"{size_bytes}{unit}"
        size_bytes //= 1024
    return f"{size_bytes}T"
