"""Device data as people give it: measurements in words, flows in files."""

import json
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from chain.errors import DecodeError
from chain.payloads import FLOW, READING, Flow, Measurement, Reading
from cli.arguments import read_bytes
from cli.errors import BadInput

_MEASUREMENT: Final = re.compile(
    r"(?P<name>[^=]+)=(?P<whole>[+-]?\d+)(?:\.(?P<fraction>\d+))?(?:[eE](?P<power>[+-]?\d{1,2}))?"
    r"\s*(?P<unit>.*)",
    re.ASCII,
)
_DIGITS_MAX: Final = 1_000
"""More than any value has, and fewer than Python reads."""


def parse_readings(texts: Sequence[str]) -> Reading:
    """Read measurements such as ``temperature=21.5C``: name, decimal number, unit.

    Raises
    ------
    BadInput
        One is of another form, or out of the bounds of a reading.
    """
    values = []
    for text in texts:
        match = _MEASUREMENT.fullmatch(text)
        if match is None or len(text) > _DIGITS_MAX:
            raise BadInput(
                f"{text[:80]!r} is no measurement", "give NAME=VALUE with a unit, as temp=21.5C"
            )
        fraction = match["fraction"] or ""
        values.append(
            Measurement(
                name=match["name"],
                value=int(match["whole"] + fraction),
                exponent=int(match["power"] or 0) - len(fraction),
                unit=match["unit"],
            )
        )
    reading = Reading(values=tuple(values))
    try:
        READING.read(READING.write(reading), "reading")
    except DecodeError as error:
        raise BadInput(str(error), "correct the measurement that is named") from error
    return reading


def parse_flow_file(path: Path, row: int = 1) -> Flow:
    """Read a flow: a JSON object, or a row of a file of JSON lines or in NSL-KDD's format.

    Parameters
    ----------
    row : int
        Which one, from 1.

    Raises
    ------
    BadInput
        It is neither, or has not so many rows.
    """
    data = read_bytes(path)
    if not data.lstrip().startswith(b"{"):
        from ml_validator.nsl_kdd import read_flows  # slow to import, and seldom needed

        flow = next(islice(read_flows(path), row - 1, None), None)
        if flow is None:
            raise BadInput(f"{path} has no row {row}", "give a flow as JSON or a row of NSL-KDD")
        return flow
    if _is_json_lines(data):
        lines = data.splitlines()
        if len(lines) < row:
            raise BadInput(f"{path} has no row {row}", f"it has {len(lines)}")
        data = lines[row - 1]
    elif row > 1:
        raise BadInput(f"{path} has no row {row}", "it is one flow")
    try:
        return FLOW.parse(json.loads(data), "flow")
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is no JSON: {error}", "check the file") from error
    except DecodeError as error:
        raise BadInput(f"{path}: {error}", "give schema, integers and categories") from error


def _is_json_lines(data: bytes) -> bool:
    """Whether the first of several lines is a whole document, as it is not in a printed one."""
    first, _, others = data.partition(b"\n")
    if not others.strip():
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return True
