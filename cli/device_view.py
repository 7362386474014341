"""A device as people read it."""

from typing import Any

from cli.client import Document
from cli.render import show_fields


def show_device(device: Document) -> None:
    """Print a device, its tally and the last measure against it in words."""
    tally, measure = device["tally"], device["measure"]
    words = {
        "tally": None if tally is None else _tally(tally),
        "measure": None if measure is None else _measure(measure),
        "appeal": None if measure is None else _appeal(measure),
    }
    show_fields({**device, **words})


def _tally(tally: dict[str, Any]) -> str:
    return (
        f"{tally['anomalous']} of {tally['judged']} flows anomalous; {tally['in_window']} of the "
        f"last {tally['window']}, {tally['anomalous_min']} cross the line"
    )


def _measure(measure: dict[str, Any]) -> str:
    return (
        f"{measure['action']} at height {measure['height']}: {measure['anomalous']} of "
        f"{measure['window']} flows anomalous, the last in block {measure['judged_height']}, "
        f"by {len(measure['accusers'])} miners"
    )


def _appeal(measure: dict[str, Any]) -> str | None:
    appeal, answer = measure["appeal"], measure["answer"]
    said = None if answer == "none" else f"{answer} at height {measure['answered_height']}"
    return said if appeal is None else f"{appeal['text']}: {said or 'not answered'}"
