"""``securenet consensus``: what agreement waits for."""

from typing import Final

import typer

from cli.client import ask
from cli.options import DEFAULT_RPC, AsJson, Rpc
from cli.render import show_fields, show_json, show_line, show_table

app = typer.Typer(help="What agreement on the next block waits for.", no_args_is_help=True)

_PHASES: Final = {
    "idle": "there is no work",
    "proposal": "waits for the proposer's block",
    "building": "this node makes the block",
    "checking": "checks the proposed block",
    "prepare": "waits for a quorum of PREPAREs",
    "commit": "waits for a quorum of COMMITs",
    "fetching": "fetches the bodies of a block",
    "committed": "the block is committed",
    "round-change": "too few miners have reached this round",
}


@app.callback()
def _consensus() -> None:
    """Tell what agreement on the next block waits for."""


@app.command()
def why(rpc: Rpc = DEFAULT_RPC, as_json: AsJson = False) -> None:
    """Say what this node waits for: who voted, who is missing, since when.

    Example: securenet consensus why --rpc http://127.0.0.1:26767
    """
    document = ask(rpc, lambda client: client.get("/v1/consensus"))
    if as_json:
        show_json(document)
        return
    phase = document["phase"]
    show_line(
        f"height {document['height']}, round {document['round']}, {phase}: "
        f"{_PHASES.get(phase, 'see docs/spec/consensus.md')}"
    )
    show_fields(
        {
            "signs": document["signing"],
            "proposer": document["proposer"],
            "proposal": document["proposal"],
            "prepared round": document["prepared_round"],
            "quorum": document["quorum"],
            "missing": document["missing"] or None,
            "timer fires in ms": document["deadline_in_ms"],
        }
    )
    rows = [
        [
            member["miner"],
            member["round"],
            member["prepare"],
            member["commit"],
            member["round_change"],
            member.get("missing_since_ms"),
        ]
        for member in document["members"]
    ]
    columns = ["miner", "round", "prepare", "commit", "round change", "missing since ms"]
    show_table(columns, rows, empty="no members")
