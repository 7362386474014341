"""Data that models learn from, and captures and logs that flows are made of."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cli.data_schema import load_schema_file
from cli.errors import CliError
from ml_validator.errors import ModelError
from ml_validator.features import NSL_KDD_SCHEMA, decode_schema
from ml_validator.table_data import make_dataset
from ml_validator.tables import Column, Layout, read_table
from ml_validator.traffic.connections import Traffic
from ml_validator.traffic.tracker import read_capture
from ml_validator.traffic.windows import flows_of
from ml_validator.traffic.zeek import read_conn_log
from tests.fuzz.target import Target, file_target, pure
from tests.unit.cli.test_model_data import EXAMPLES, SMALL
from tests.unit.ml_validator.traffic.packets import PAGE, capture, ethernet, fragments, icmp, udp
from tests.unit.ml_validator.traffic.test_zeek import HEADER, PAGE_DOCUMENT, line

LAYOUT = Layout(
    name="office",
    columns=(
        Column(name="dur", kind="decimal", scale=1000, missing=frozenset("-"), when_missing="0"),
        Column(name="proto", kind="category"),
        Column(name="kind", kind="label"),
    ),
    normal=frozenset({"ok"}),
)


def targets() -> Iterator[Target]:
    """Yield all of them."""
    yield file_target("table", "bytes", _tables, _read_table, ModelError)
    yield file_target("schema file", "bytes", _schema_files, load_schema_file, CliError)
    yield file_target("conn.log", "bytes", _logs, _read(read_conn_log), ModelError)
    yield file_target("conn.log, JSON", "json", _documents, _read(read_conn_log), ModelError)
    yield file_target("capture", "bytes", _captures, _read(read_capture), ModelError)
    yield pure("feature schema", "msgpack", lambda: [NSL_KDD_SCHEMA.encode()], _check_schema)


def _tables() -> list[bytes]:
    return [b'dur,proto,kind\n1.5,tcp,ok\n2e3,udp,scan\n-,"a,b",ok\n']


def _read_table(path: Path) -> None:
    table = read_table(path, LAYOUT)
    dataset, _ = make_dataset(LAYOUT, table)
    rows = dataset.schema.rows([record.flow for record in dataset.training])
    assert (rows >= 0).all(), "a number below 0"


def _schema_files() -> list[bytes]:
    return [text.encode() for text in (SMALL, *EXAMPLES.values())]


def _logs() -> list[bytes]:
    rows = (line(), line(conn_state="S0", orig_bytes="-"), line(proto="icmp", id__orig_p="8"))
    return [(HEADER + "".join(rows)).encode()]


def _documents() -> list[bytes]:
    return [PAGE_DOCUMENT.encode()]


def _captures() -> list[bytes]:
    frames = [ethernet(p) for p in (*PAGE, udp(5), icmp(8), *fragments((0, 80), (40, 80)))]
    return [capture(*frames), capture(*frames, ng=True), capture(*frames[:1])]


def _read(read: Any) -> Any:
    """Return a reader that also makes flows of what was read."""

    def call(path: Path) -> None:
        traffic: Traffic = read(path)
        flows: Sequence[Any] = list(flows_of(traffic.connections))
        assert all(NSL_KDD_SCHEMA.fits(flow) for flow in flows), "no flow of the schema"

    return call


def _check_schema(data: bytes) -> bool:
    try:
        schema = decode_schema(data)
    except ModelError:
        return False
    assert schema.encode() == data, "it is encoded differently"
    return True
