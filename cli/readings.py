"""Device data as people give it: measurements in words, flows in files."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

from chain.errors import DecodeError
from chain.payloads import FLOW, READING, Flow, Measurement, Reading
from cli.arguments import opened
from cli.errors import BadInput

_MEASUREMENT: Final = re.compile(
    r"(?P<name>[^=]+)=(?P<whole>[+-]?\d+)(?:\.(?P<fraction>\d+))?(?:[eE](?P<power>[+-]?\d{1,2}))?"
    r"\s*(?P<unit>.*)",
    re.ASCII,
)
FLOW_SIZE_MAX: Final = 64 * 1024
"""Of a flow as text; the largest that a transaction holds takes a tenth of it."""
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

    Of a file of rows, which may be large, no more is read than up to that row.

    Parameters
    ----------
    row : int
        Which one, from 1.

    Raises
    ------
    BadInput
        It is neither, has not so many rows, or a flow takes more than `FLOW_SIZE_MAX` bytes.
    """
    with opened(path) as file:
        first = _line(path, file)
        if not first:
            raise BadInput(f"{path} has no rows", "give a flow as JSON, or rows of NSL-KDD")
        if first.startswith(b"{"):
            if _is_json(first):
                text = _json_row(path, file, first, row)
            elif row > 1:
                raise _no_row(path, row, 1)
            else:
                text = first + file.read(FLOW_SIZE_MAX + 1 - len(first))
                _check_size(path, text)
            return _parse_flow(path, text)
    from ml_validator.nsl_kdd import read_flows  # slow to import, and seldom needed

    number = 0
    for number, flow in enumerate(read_flows(path), start=1):
        if number == row:
            return flow
    raise _no_row(path, row, number)


def _json_row(path: Path, file: BinaryIO, first: bytes, row: int) -> bytes:
    """Return a row of a file whose first is read already."""
    text = first
    for number in range(2, row + 1):
        text = _line(path, file)
        if not text:
            raise _no_row(path, row, number - 1)
    return text


def _no_row(path: Path, row: int, last: int) -> BadInput:
    return BadInput(f"{path} has no row {row}; its last is {last}", f"choose from 1 to {last}")


def _line(path: Path, file: BinaryIO) -> bytes:
    """Return the next line that is not empty, or nothing where the file ends."""
    while (text := file.readline(FLOW_SIZE_MAX + 1)).isspace():
        pass
    _check_size(path, text)
    return text.lstrip()


def _check_size(path: Path, text: bytes) -> None:
    if len(text) > FLOW_SIZE_MAX:
        raise BadInput(
            f"{path}: a flow of more than {FLOW_SIZE_MAX} bytes", "give one flow, or one a line"
        )


def _is_json(text: bytes) -> bool:
    """Whether a first line is a whole document, as it is not in a printed one."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parse_flow(path: Path, text: bytes) -> Flow:
    try:
        return FLOW.parse(json.loads(text), "flow")
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is no JSON: {error}", "check the file") from error
    except DecodeError as error:
        raise BadInput(f"{path}: {error}", "give schema, integers and categories") from error
