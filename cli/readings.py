"""Device data as people give it: measurements in words, flows in files."""

import json
import re
from collections.abc import Sequence
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


def parse_flow_file(path: Path) -> Flow:
    """Read a flow: a JSON object, or the first row of a file in NSL-KDD's format.

    Raises
    ------
    BadInput
        It is neither.
    """
    data = read_bytes(path)
    if not data.lstrip().startswith(b"{"):
        from ml_validator.nsl_kdd import read_records  # slow to import, and seldom needed

        record = next(read_records(path), None)
        if record is None:
            raise BadInput(f"{path} is empty", "give a flow as JSON or a row of NSL-KDD")
        return record.flow
    try:
        return FLOW.parse(json.loads(data), "flow")
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is no JSON: {error}", "check the file") from error
    except DecodeError as error:
        raise BadInput(f"{path}: {error}", "give schema, integers and categories") from error
