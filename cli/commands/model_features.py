"""``securenet model features``: flows from captures and logs."""

import json
import os
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cli.errors import AlreadyThere, BadInput, CliError
from cli.options import AsJson
from cli.progress import Progress
from cli.render import show_fields, show_json

if TYPE_CHECKING:
    from chain.payloads import Flow
    from ml_validator.traffic.connections import Traffic

app = typer.Typer()

CSV, JSON_LINES = ".csv", ".jsonl"
_SHOWN: Final = 8


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
    as_json: AsJson = False,
) -> None:
    """Turn the connections of a capture or log into flows that models of NSL-KDD read.

    What such a file cannot show is 0 in the flows, and named; models made with model train
    --traffic-only do without it. Send a flow with tx submit --flow.

    Example: securenet model features --zeek conn.log --out flows.jsonl
    """
    from ml_validator.features import NSL_KDD_SCHEMA
    from ml_validator.nsl_kdd import CONTENT_FEATURES, file_digest
    from ml_validator.traffic.windows import flows_of

    if (zeek is None) == (pcap is None):
        raise BadInput("there is no input, or there are two", "give either --zeek or --pcap")
    if out.suffix not in (CSV, JSON_LINES):
        raise BadInput(f"{out} is neither .csv nor .jsonl", "name it by the form that you want")
    if out.exists():
        raise AlreadyThere(out)
    source = zeek or pcap or Path()
    Progress().phase(f"reading {source}")
    traffic = _read(zeek, pcap)
    flows = list(flows_of(traffic.connections))
    _write(out, flows)
    document = {
        "out": str(out),
        "flows": len(flows),
        "schema": NSL_KDD_SCHEMA.digest.hex(),
        "source": {"file": source.name, "sha256": file_digest(source)},
        "not_computable": [*CONTENT_FEATURES, *traffic.not_computable],
        "missing": dict(traffic.missing),
        "skipped": dict(traffic.skipped),
        **_counts(flows),
    }
    if as_json:
        show_json(document)
        return
    show_fields(
        {
            "flows": f"{len(flows)} in {out}",
            "not computable": f"{', '.join(document['not_computable'])}; filled with 0",
            "missing": _listed(traffic.missing, "; filled with 0"),
            "skipped": _listed(traffic.skipped, ""),
            **{
                name: _listed(Counter(document[name]), "")
                for name in ("protocol_type", "service", "flag")
            },
        }
    )


def _read(zeek: Path | None, pcap: Path | None) -> "Traffic":
    if zeek is not None:
        from ml_validator.traffic.zeek import read_conn_log

        return read_conn_log(zeek)
    if find_spec("dpkt") is None:
        raise CliError("dpkt is missing", "install with pip install 'securenet[features]'")
    from ml_validator.traffic.tracker import read_capture

    assert pcap is not None, "one of the two is given"
    return read_capture(pcap)


def _write(out: Path, flows: "list[Flow]") -> None:
    """Write all flows or, if that fails, nothing under the name of `out`."""
    from chain.payloads import FLOW
    from ml_validator.nsl_kdd import to_flow_row

    is_csv = out.suffix == CSV
    part = out.with_name(out.name + ".part")
    try:
        with part.open("x", encoding="ascii", newline="\n") as file:
            for flow in flows:
                row = to_flow_row(flow) if is_csv else json.dumps(FLOW.render(flow))
                file.write(row + "\n")
        os.replace(part, out)
    except FileExistsError as error:
        raise AlreadyThere(part) from error
    except OSError as error:
        part.unlink(missing_ok=True)
        raise BadInput(
            f"{out} cannot be written: {error.strerror}", "choose another --out"
        ) from error


def _counts(flows: "list[Flow]") -> dict[str, Any]:
    from ml_validator.features import NSL_KDD_SCHEMA

    return {
        column.name: dict(Counter(flow.categories[at] for flow in flows).most_common())
        for at, column in enumerate(NSL_KDD_SCHEMA.categories)
    }


def _listed(counts: Counter[str], end: str) -> str | None:
    """Return the most frequent names with their numbers, or None where there are none."""
    if not counts:
        return None
    shown = ", ".join(f"{name} {count}" for name, count in counts.most_common(_SHOWN))
    return f"{shown}{', …' if len(counts) > _SHOWN else ''}{end}"
