"""From connections to flows of NSL-KDD: each is compared with those before it.

Two windows count what else goes to the same host, and what else uses the same service: the
connections of the last two seconds, and the last 255. Both hold the connection itself.

Notes
-----
The papers describe the columns in a line each, and speak of the last 100 connections. The files are
exact, and models learn from the files; so these rules are those by which the columns of KDDTrain+
follow from each other: ``count`` ends at 511 and ``dst_host_count`` at 255; where one of
them is 1, the rates of errors are 1 for the flags below and 0 for all others; a share of "other"
services or hosts is the number of different ones, this one included, over the connections, and 0
where there is only this one. docs/data.md, section "Captures and logs".

References
----------
W. Lee, S. J. Stolfo, "A Framework for Constructing Features and Models for Intrusion Detection
Systems", ACM TISSEC 3(4), 2000, doi:10.1145/382912.382914.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from chain.payloads import Flow
from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.nsl_kdd import CONTENT_FEATURES
from ml_validator.traffic.connections import Connection

TIME_WINDOW_US: Final = 2_000_000
TIME_WINDOW_MAX: Final = 511
"""Connections within the time window; of more the latest count."""
HOST_WINDOW: Final = 255

SYN_ERRORS: Final = frozenset(("S0", "S1", "S2", "S3", "SH"))
REJ_ERRORS: Final = frozenset(("REJ", "RSTO", "RSTOS0", "RSTR"))

_SECOND_US: Final = 1_000_000


def flows_of(connections: Iterable[Connection]) -> Iterator[Flow]:
    """Yield the flow of each connection, in the order in which they began."""
    recent: deque[Connection] = deque(maxlen=TIME_WINDOW_MAX)
    last: deque[Connection] = deque(maxlen=HOST_WINDOW)
    for connection in sorted(connections, key=lambda connection: connection.start_us):
        while recent and recent[0].start_us < connection.start_us - TIME_WINDOW_US:
            recent.popleft()
        recent.append(connection)
        last.append(connection)
        values = {
            "duration": connection.duration_us // _SECOND_US,
            "src_bytes": connection.src_bytes,
            "dst_bytes": connection.dst_bytes,
            "land": int(connection.is_land),
            "wrong_fragment": connection.wrong_fragment,
            "urgent": connection.urgent,
            **dict.fromkeys(CONTENT_FEATURES, 0),
            **_of_seconds(connection, recent),
            **_of_hosts(connection, last),
        }
        yield Flow(
            schema=NSL_KDD_SCHEMA.digest,
            integers=tuple([values[column.name] for column in NSL_KDD_SCHEMA.integers]),
            categories=(connection.protocol, connection.service, connection.flag),
        )


def _of_seconds(connection: Connection, window: Collection[Connection]) -> dict[str, int]:
    host = [other for other in window if other.destination == connection.destination]
    service = [other for other in window if other.service == connection.service]
    return {
        "count": len(host),
        "srv_count": len(service),
        "serror_rate": _errors(host, SYN_ERRORS),
        "srv_serror_rate": _errors(service, SYN_ERRORS),
        "rerror_rate": _errors(host, REJ_ERRORS),
        "srv_rerror_rate": _errors(service, REJ_ERRORS),
        "same_srv_rate": _same_service(connection, host),
        "diff_srv_rate": _variety({other.service for other in host}, len(host)),
        "srv_diff_host_rate": _variety({other.destination for other in service}, len(service)),
    }


def _of_hosts(connection: Connection, window: Collection[Connection]) -> dict[str, int]:
    host = [other for other in window if other.destination == connection.destination]
    service = [other for other in window if other.service == connection.service]
    same_port = sum(other.source_port == connection.source_port for other in host)
    return {
        "dst_host_count": len(host),
        "dst_host_srv_count": len(service),
        "dst_host_same_srv_rate": _same_service(connection, host),
        "dst_host_diff_srv_rate": _variety({other.service for other in host}, len(host)),
        "dst_host_same_src_port_rate": _hundredths(same_port, len(host)),
        "dst_host_srv_diff_host_rate": _variety(
            {other.destination for other in service}, len(service)
        ),
        "dst_host_serror_rate": _errors(host, SYN_ERRORS),
        "dst_host_srv_serror_rate": _errors(service, SYN_ERRORS),
        "dst_host_rerror_rate": _errors(host, REJ_ERRORS),
        "dst_host_srv_rerror_rate": _errors(service, REJ_ERRORS),
    }


def _same_service(connection: Connection, among: Collection[Connection]) -> int:
    same = sum(other.service == connection.service for other in among)
    return _hundredths(same, len(among))


def _errors(among: Collection[Connection], flags: Collection[str]) -> int:
    return _hundredths(sum(other.flag in flags for other in among), len(among))


def _variety(different: Collection[str], whole: int) -> int:
    return _hundredths(len(different), whole) if len(different) > 1 else 0


def _hundredths(part: int, whole: int) -> int:
    """Return the share in hundredths, rounded to the nearest."""
    return (200 * part + whole) // (2 * whole)
