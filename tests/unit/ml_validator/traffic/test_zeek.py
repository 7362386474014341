"""Zeek's conn.log: both forms, and rows that cannot be read."""

import json

import pytest

from ml_validator.errors import InvalidDataset, MissingDataset
from ml_validator.traffic import zeek
from ml_validator.traffic.connections import Connection, Traffic
from ml_validator.traffic.services import FLAGS
from ml_validator.traffic.zeek import read_conn_log

FIELDS = (
    *("ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "service"),
    *("duration", "orig_bytes", "resp_bytes", "conn_state", "local_orig", "history"),
)
HEADER = (
    "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n"
    "#open\t2024-01-01-00-00-00\n#fields\t" + "\t".join(FIELDS) + "\n#types\ttime\tstring\n"
)
PAGE = {
    "ts": "1700000000.123456",
    "uid": "CAcJw21BbVedgFnYH3",
    "id.orig_h": "192.0.2.1",
    "id.orig_p": "40000",
    "id.resp_h": "198.51.100.7",
    "id.resp_p": "8080",
    "proto": "tcp",
    "service": "http",
    "duration": "3.75",
    "orig_bytes": "100",
    "resp_bytes": "1000",
    "conn_state": "SF",
}


_NUMBERS = ("ts", "id.orig_p", "id.resp_p", "duration", "orig_bytes", "resp_bytes")
PAGE_DOCUMENT = json.dumps({k: json.loads(v) if k in _NUMBERS else v for k, v in PAGE.items()})
"""The row as a JSON document."""


def line(**changed: str) -> str:
    """Return a row of the tab-separated form; a dot in a name is written as two underscores."""
    row = PAGE | {name.replace("__", "."): value for name, value in changed.items()}
    return "\t".join(row.get(name, "-") for name in FIELDS) + "\n"


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a log of this text."""

    def call(text: str) -> Traffic:
        path = tmp_path / "conn.log"
        path.write_text(text, encoding="utf-8")
        return read_conn_log(path)

    return call


EXPECTED = Connection(
    start_us=1_700_000_000_123_456,
    duration_us=3_750_000,
    protocol="tcp",
    source="192.0.2.1",
    source_port=40_000,
    destination="198.51.100.7",
    destination_port=8080,
    service="http",
    flag="SF",
    src_bytes=100,
    dst_bytes=1000,
)


def test_both_forms_give_the_same(read):
    document = json.loads(PAGE_DOCUMENT)
    for text in (
        HEADER + line() + "#close\t2024-01-01-01-00-00\n",
        json.dumps(document | {"local_orig": True}) + "\n",
        json.dumps(document | {"ts": "2023-11-14T22:13:20.123456Z"}) + "\n\n",
    ):
        traffic = read(text)
        assert list(traffic.connections) == [EXPECTED]
        assert traffic.not_computable == ("wrong_fragment", "urgent")


def test_another_separator_and_sign_of_nothing_are_taken_from_the_header(read):
    text = (HEADER + line(duration="?")).replace("\t", "|").replace("\\x09", "\\x7c")
    traffic = read(text.replace("#unset_field|-", "#unset_field|?"))
    assert traffic.connections[0].duration_us == 0
    assert traffic.missing == {"duration": 1}


@pytest.mark.parametrize(
    ("changed", "service"),
    [
        ({"service": "ssl", "id__resp_p": "443"}, "http_443"),
        ({"service": "-", "id__resp_p": "25"}, "smtp"),
        ({"service": "-ssl,http"}, "http"),
        ({"service": "dns", "id__resp_p": "5353", "proto": "udp"}, "domain_u"),
        ({"service": "dns", "id__resp_p": "53"}, "domain"),
        ({"service": "-", "id__resp_p": "50000"}, "private"),
        ({"service": "-", "id__resp_p": "8080"}, "other"),
        ({"proto": "icmp", "id__orig_p": "8", "id__resp_p": "0"}, "eco_i"),
        ({"proto": "icmp", "id__orig_p": "128", "id__resp_p": "0", "id__resp_h": "::1"}, "eco_i"),
    ],
)
def test_services_have_the_names_of_nsl_kdd(read, changed, service):
    assert read(HEADER + line(**changed)).connections[0].service == service


@pytest.mark.parametrize("state", sorted(FLAGS))
def test_states_that_nsl_kdd_has_are_its_flags(read, state):
    assert read(HEADER + line(conn_state=state)).connections[0].flag == state


def test_states_that_it_has_not_are_its_flag_for_the_rest(read):
    for state in ("RSTRH", "SHR"):
        assert read(HEADER + line(conn_state=state)).connections[0].flag == "OTH"
    assert read(HEADER + line(conn_state="S0", proto="udp")).connections[0].flag == "SF"


def test_values_that_are_not_there_are_counted(read):
    traffic = read(HEADER + line(orig_bytes="-", resp_bytes="-", duration="-", conn_state="S0"))
    assert traffic.connections[0].src_bytes == 0
    assert traffic.missing == {"orig_bytes": 1, "resp_bytes": 1, "duration": 1}


def test_other_protocols_are_counted_and_passed_over(read):
    traffic = read(HEADER + line(proto="unknown_transport") + line())
    assert len(traffic.connections) == 1
    assert traffic.skipped == {"neither TCP, UDP nor ICMP": 1}


@pytest.mark.parametrize(
    ("changed", "field", "reason"),
    [
        ({"ts": "x"}, "ts", "is no time"),
        ({"ts": "nan"}, "ts", "is no time"),
        ({"ts": "-1"}, "ts", "no time since 1970"),
        ({"ts": "1e300"}, "ts", "no time since 1970"),
        ({"ts": "-"}, "ts", "missing"),
        ({"id__orig_p": "65536"}, "id.orig_p", "is no port"),
        ({"id__resp_p": "-1"}, "id.resp_p", "is no port"),
        ({"id__orig_h": "a" * 46}, "id.orig_h", "is no address"),
        ({"duration": "-0.5"}, "duration", "is below 0"),
        ({"duration": "inf"}, "duration", "is no number"),
        ({"orig_bytes": "1.5"}, "orig_bytes", "is no number"),
        ({"orig_bytes": "1" + "0" * 15}, "orig_bytes", "above"),
        ({"conn_state": "sf\u2028"}, "conn_state", "is no state"),
        ({"proto": "-"}, "proto", "missing"),
    ],
)
def test_a_bad_field_is_named_by_row_and_field(read, changed, field, reason):
    with pytest.raises(InvalidDataset) as caught:
        read(HEADER + line() + line(**changed))
    assert (caught.value.row, caught.value.column) == (10, field)
    assert caught.value.file.endswith("/conn.log")
    assert reason in caught.value.reason
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "row 1, row: the file has no connections"),
        (HEADER, "row 1, row: the file has no connections"),
        (line(), "row 1, row: neither JSON nor below"),
        (HEADER + "a\tb\n", "row 9, row: 2 fields, not 14"),
        (HEADER.replace("conn_state", "state"), "row 7, conn_state: there is no such field"),
        ("#separator tab\n", "row 1, separator"),
        ('{"ts": 1', "row 1, row: no JSON object"),
        ("{" * 60_000, "row 1, row: no JSON object"),
        ('{"ts": 1.0}', "row 1, proto: the value is missing"),
        ('{"proto": ["tcp"]}', "row 1, proto: the value is missing"),
        ("{" + "x" * 70_000, "longer than"),
    ],
)
def test_what_is_no_conn_log_is_refused(read, text, reason):
    with pytest.raises(InvalidDataset, match=reason):
        read(text)


def test_a_log_that_is_not_there_or_too_long_is_refused(read, tmp_path, monkeypatch):
    with pytest.raises(MissingDataset):
        read_conn_log(tmp_path / "none.log")
    monkeypatch.setattr(zeek, "CONNECTIONS_MAX", 2)
    with pytest.raises(InvalidDataset, match="row 11, row: more than 2 connections"):
        read(HEADER + line() * 3)
