"""Reading Zeek's conn.log: tab-separated with its header, or JSON, a connection a line.

References
----------
https://docs.zeek.org/en/v7.0.11/scripts/base/protocols/conn/main.zeek.html
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

from ml_validator.errors import InvalidDataset
from ml_validator.nsl_kdd import INTEGER_MAX
from ml_validator.tables import VALUE_MAX, scaled
from ml_validator.text_lines import read_lines
from ml_validator.traffic.connections import CONNECTIONS_MAX, Connection, Protocol, Traffic
from ml_validator.traffic.services import (
    FINISHED,
    flag_of_zeek,
    service_of_message,
    service_of_zeek,
)

LINE_LENGTH_MAX: Final = 64 * 1024
ADDRESS_LENGTH_MAX: Final = 45
PORT_MAX: Final = 65_535
NOT_COMPUTABLE: Final = ("wrong_fragment", "urgent")
NEEDED: Final = (
    *("ts", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "conn_state"),
)

_PROTOCOLS: Final = ("icmp", "tcp", "udp")
_STATE: Final = re.compile(r"[A-Z][A-Z0-9]{1,7}")
_UNSET: Final = "-"
_MICROSECONDS: Final = 1_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Fields = Mapping[str, str]


def read_conn_log(path: Path) -> Traffic:
    """Read a conn.log.

    Raises
    ------
    MissingDataset
        It cannot be opened.
    InvalidDataset
        A row cannot be read, or there is none; says which and which field.
    """
    connections: list[Connection] = []
    skipped: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    row = 0
    for row, fields in _rows(path):
        try:
            protocol = _needed(fields, "proto")
            if protocol not in _PROTOCOLS:
                skipped["neither TCP, UDP nor ICMP"] += 1
                continue
            if len(connections) == CONNECTIONS_MAX:
                raise _BadField("row", f"more than {CONNECTIONS_MAX} connections")
            connections.append(_connection(fields, cast(Protocol, protocol), missing))
        except _BadField as bad:
            raise InvalidDataset(str(path), row, bad.field, bad.reason) from bad
    if not connections:
        raise InvalidDataset(str(path), max(row, 1), "row", "the file has no connections")
    return Traffic(
        connections=connections, skipped=skipped, missing=missing, not_computable=NOT_COMPUTABLE
    )


class _BadField(Exception):
    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason


def _rows(path: Path) -> Iterator[tuple[int, Fields]]:
    """Yield number and set fields of each row; a field that is not set is left out."""
    names: list[str] | None = None
    separator, unset = "\t", _UNSET
    for number, line in read_lines(path, encoding="utf-8-sig", length_max=LINE_LENGTH_MAX):
        if not line.strip():
            continue
        if line.startswith("{"):
            yield number, _json_fields(str(path), number, line)
        elif line.startswith("#"):
            key, _, value = line[1:].partition(" " if line.startswith("#separator") else separator)
            if key == "separator":
                separator = _separator(str(path), number, value)
            elif key == "unset_field":
                unset = value
            elif key == "fields":
                names = value.split(separator)
                for name in NEEDED:
                    if name not in names:
                        raise InvalidDataset(str(path), number, name, "there is no such field")
        else:
            if names is None:
                raise InvalidDataset(
                    str(path), number, "row", "neither JSON nor below a line of #fields"
                )
            cells = line.split(separator)
            if len(cells) != len(names):
                raise InvalidDataset(
                    str(path), number, "row", f"{len(cells)} fields, not {len(names)}"
                )
            pairs = zip(names, cells, strict=True)
            yield number, {name: cell for name, cell in pairs if cell != unset}


def _separator(file: str, number: int, text: str) -> str:
    match = re.fullmatch(r"\\x([0-9a-fA-F]{2})", text.strip())
    if match is None or match[1] == "00":
        raise InvalidDataset(file, number, "separator", f"{text[:32]!r} is no separator")
    return chr(int(match[1], 16))


def _json_fields(file: str, number: int, line: str) -> Fields:
    try:
        # Numbers stay as they are written: a float in between would change them.
        document: Any = json.loads(line, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise InvalidDataset(file, number, "row", "no JSON object") from error
    if type(document) is not dict:
        raise InvalidDataset(file, number, "row", "no JSON object")
    return {name: value for name, value in document.items() if type(value) is str}


def _connection(fields: Fields, protocol: Protocol, missing: Counter[str]) -> Connection:
    source_port, destination_port = _port(fields, "id.orig_p"), _port(fields, "id.resp_p")
    destination = _address(fields, "id.resp_h")
    state = _needed(fields, "conn_state")
    if not _STATE.fullmatch(state):
        raise _BadField("conn_state", f"{state[:32]!r} is no state")
    if protocol == "icmp":
        service = service_of_message(source_port, destination_port, is_v6=":" in destination)
    else:
        service = service_of_zeek(fields.get("service", ""), protocol, destination_port)
    return Connection(
        start_us=_time_us(_needed(fields, "ts")),
        duration_us=_number(fields, "duration", missing, scale=_MICROSECONDS),
        protocol=protocol,
        source=_address(fields, "id.orig_h"),
        source_port=source_port,
        destination=destination,
        destination_port=destination_port,
        service=service,
        # What is no TCP has this flag in NSL-KDD, answered or not.
        flag=flag_of_zeek(state) if protocol == "tcp" else FINISHED,
        src_bytes=_number(fields, "orig_bytes", missing),
        dst_bytes=_number(fields, "resp_bytes", missing),
    )


def _needed(fields: Fields, name: str) -> str:
    if not fields.get(name):
        raise _BadField(name, "the value is missing")
    return fields[name]


def _address(fields: Fields, name: str) -> str:
    text = _needed(fields, name)
    if len(text) > ADDRESS_LENGTH_MAX:
        raise _BadField(name, f"{text[:32]!r} is no address")
    return text


def _port(fields: Fields, name: str) -> int:
    text = _needed(fields, name)
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= PORT_MAX):
        raise _BadField(name, f"{text[:32]!r} is no port")
    return int(text)


def _time_us(text: str) -> int:
    read = scaled(text, _MICROSECONDS)
    if read is None:
        # Zeek can be told to write times as people do.
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise _BadField("ts", f"{text[:32]!r} is no time") from error
        since = moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH
        read = (since.days * 86_400 + since.seconds) * _MICROSECONDS + since.microseconds, True
    if not 0 <= read[0] <= VALUE_MAX:
        raise _BadField("ts", f"{text[:32]!r} is no time since 1970")
    return read[0]


def _number(fields: Fields, name: str, missing: Counter[str], *, scale: int = 1) -> int:
    text = fields.get(name)
    if text is None:
        missing[name] += 1
        return 0
    read = scaled(text, scale)
    if read is None or (scale == 1 and not read[1]):
        raise _BadField(name, f"{text[:32]!r} is no number")
    if not 0 <= read[0] <= INTEGER_MAX * scale:
        raise _BadField(name, f"{text[:32]!r} is below 0 or above {INTEGER_MAX}")
    return read[0]
