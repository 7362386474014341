"""``securenet model features``: flows from captures, logs and tables."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from cli.arguments import check_out, read_bytes
from cli.errors import BadInput, CliError
from cli.options import AsJson, SchemaFile
from cli.progress import Progress
from cli.render import show_fields, show_json, show_warning
from node.files import new_file

if TYPE_CHECKING:
    from chain.payloads import Flow
    from ml_validator.features import FeatureSchema
    from ml_validator.traffic.connections import Traffic

app = typer.Typer()

CSV, JSON_LINES = ".csv", ".jsonl"
_SHOWN: Final = 8


class _Made(NamedTuple):
    """Flows of a file, and what is not in them; lists and counts are for the answer."""

    schema: "FeatureSchema"
    flows: "list[Flow]"
    not_computable: Sequence[str]
    missing: Mapping[str, int]
    skipped: Mapping[str, int]


@app.command()
def features(
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="FLOWS.csv or FLOWS.jsonl, to be made.")
    ],
    zeek: Annotated[
        Path | None, typer.Option("--zeek", metavar="FILE", help="A conn.log of Zeek.")
    ] = None,
    pcap: Annotated[
        Path | None, typer.Option("--pcap", metavar="FILE", help="A capture, pcap or pcapng.")
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="A CSV file, with --schema and --model."),
    ] = None,
    schema: SchemaFile = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="FILE", help="With --csv: the model that is to read it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn the connections of a capture or log into flows that models of NSL-KDD read.

    What such a file cannot show is 0 in the flows, and named; models made with model train
    --traffic-only do without it. Rows of a CSV file become flows that a model of such files reads;
    labels are not needed. Send a flow with tx submit --flow.

    Example: securenet model features --zeek conn.log --out flows.jsonl
    """
    from ml_validator.nsl_kdd import file_digest

    sources = [path for path in (zeek, pcap, table) if path is not None]
    if len(sources) != 1:
        raise BadInput("there is no input, or too many", "give one of --zeek, --pcap and --csv")
    if table is None and (schema, model) != (None, None):
        raise BadInput("--schema and --model are for --csv", "leave them out")
    if out.suffix not in (CSV, JSON_LINES):
        raise BadInput(f"{out} is neither .csv nor .jsonl", "name it by the form that you want")
    check_out(out)
    (source,) = sources
    Progress().phase(f"reading {source}")
    if table is not None:
        made = _from_table(table, schema, model, out)
    elif zeek is not None:
        made = _from_log(source)
    else:
        made = _from_capture(source)
    _write(out, made.flows)
    if table is None:
        show_warning(
            "the bundled forests need logged_in, which such a file does not show, and call most "
            "normal flows anomalous without it; securenet model train --traffic-only makes models "
            "that do without"
        )
    counts = _counts(made)
    if as_json:
        show_json(
            {
                "out": str(out),
                "flows": len(made.flows),
                "schema": made.schema.digest.hex(),
                "source": {"file": source.name, "sha256": file_digest(source)},
                "not_computable": list(made.not_computable),
                "missing": dict(made.missing),
                "skipped": dict(made.skipped),
                **{name: dict(count.most_common()) for name, count in counts.items()},
            }
        )
        return
    filled = "replaced as the schema file says" if table else "filled with 0"
    show_fields(
        {
            "flows": f"{len(made.flows)} in {out}",
            "not computable": _ended(", ".join(made.not_computable), filled),
            "missing": _ended(_listed(made.missing), filled),
            "skipped": _listed(made.skipped) or None,
            **{name: _listed(count) for name, count in counts.items()},
        }
    )


def _from_log(path: Path) -> _Made:
    from ml_validator.traffic.zeek import read_conn_log

    return _from_traffic(read_conn_log(path))


def _from_capture(path: Path) -> _Made:
    if find_spec("dpkt") is None:
        raise CliError("dpkt is missing", "pip install '.[features]' where the project is")
    from ml_validator.traffic.tracker import read_capture

    return _from_traffic(read_capture(path))


def _from_traffic(traffic: "Traffic") -> _Made:
    from ml_validator.features import NSL_KDD_SCHEMA
    from ml_validator.nsl_kdd import CONTENT_FEATURES
    from ml_validator.traffic.windows import flows_of

    return _Made(
        schema=NSL_KDD_SCHEMA,
        flows=list(flows_of(traffic.connections)),
        not_computable=(*CONTENT_FEATURES, *traffic.not_computable),
        missing=traffic.missing,
        skipped=traffic.skipped,
    )


def _from_table(path: Path, schema: Path | None, model: Path | None, out: Path) -> _Made:
    from cli.data_schema import load_schema_file
    from ml_validator import load_artifact
    from ml_validator.table_data import flows_for
    from ml_validator.tables import read_table

    if schema is None or model is None:
        raise BadInput("--csv needs to know the columns", "give --schema and --model too")
    if out.suffix != JSON_LINES:
        raise BadInput(f"{out} is not .jsonl", "rows of NSL-KDD have no place for other flows")
    layout = load_schema_file(schema).unlabelled()
    artifact = load_artifact(read_bytes(model))
    table = read_table(path, layout)
    return _Made(
        schema=artifact.schema,
        flows=flows_for(artifact.schema, layout, table.rows),
        not_computable=(),
        missing=table.missing,
        skipped={"blank": table.blank} if table.blank else {},
    )


def _write(out: Path, flows: "list[Flow]") -> None:
    """Write all flows or, if that fails, nothing under the name of `out`."""
    from chain.payloads import FLOW
    from ml_validator.nsl_kdd import to_flow_row

    is_csv = out.suffix == CSV
    with new_file(out) as file:
        for flow in flows:
            row = to_flow_row(flow) if is_csv else json.dumps(FLOW.render(flow))
            file.write(f"{row}\n".encode("ascii"))


def _counts(made: _Made) -> dict[str, Counter[str]]:
    """Count the values of each category."""
    return {
        column.name: Counter(flow.categories[at] for flow in made.flows)
        for at, column in enumerate(made.schema.categories)
    }


def _ended(text: str, end: str) -> str | None:
    return f"{text}; {end}" if text else None


def _listed(counts: Mapping[str, int]) -> str:
    """Return the most frequent names with their numbers."""
    most = Counter(counts).most_common(_SHOWN)
    more = ", …" if len(counts) > _SHOWN else ""
    return ", ".join(f"{name} {count}" for name, count in most) + more
