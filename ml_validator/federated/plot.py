"""The comparison as a picture."""

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

_COLOURS: Final = {"central": "#4477aa", "federated": "#228833", "alone": "#cc3311"}
# Matplotlib's own type of it is a list of all its three hundred settings.
_STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "securenet",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def draw(summary: Mapping[str, Any]) -> str:
    """Return an SVG: accuracy round by round, and macro F1 of the three ways.

    Parameters
    ----------
    summary : mapping
        Of `ml_validator.federated.comparison.summary`.
    """
    models = list(dict.fromkeys(row["model"] for row in summary["results"]))
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        course, bars = figure.subplots(1, 2)
        for model, line in zip(models, ("-", "--"), strict=False):
            _draw_course(course, summary, model, line)
        course.set(xlabel="federated round", ylabel="accuracy on hold-out, %")
        course.legend()
        for place, (way, colour) in enumerate(_COLOURS.items()):
            found = {r["model"]: r for r in summary["results"] if r["way"] == way}
            bars.bar(
                [index + 0.27 * (place - 1) for index in range(len(models))],
                [100 * found[model]["macro_f1"] for model in models],
                yerr=[100 * found[model]["macro_f1_spread"] for model in models],
                width=0.25,
                color=colour,
                label=way,
            )
        bars.set_xticks(range(len(models)), models)
        bars.set(ylabel="macro F1, %", ylim=(0, 118))
        bars.legend(ncols=len(_COLOURS), loc="upper center")
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _draw_course(axes: Any, summary: Mapping[str, Any], model: str, line: str) -> None:
    runs = [r["by_round"] for r in summary["runs"] if r["model"] == model and r["by_round"]]
    if not runs:
        return
    means: Sequence[float] = [100 * sum(values) / len(runs) for values in zip(*runs, strict=True)]
    axes.plot(
        range(1, len(means) + 1),
        means,
        line,
        color=_COLOURS["federated"],
        label=f"{model}, federated",
    )
    (central,) = (r for r in summary["results"] if (r["model"], r["way"]) == (model, "central"))
    axes.axhline(
        100 * central["accuracy"],
        linestyle=line,
        color=_COLOURS["central"],
        linewidth=1,
        label=f"{model}, central",
    )
