"""``securenet consensus``: what agreement waits for, and why."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli.client import Document, ask, connect
from cli.errors import Refused, Unreachable
from cli.options import DEFAULT_RPC, DEFAULT_TESTNET, AsJson, TestnetDir
from cli.render import show_fields, show_json, show_line, show_table
from cli.stall import Answer, compare
from cli.testnet.network import load_network

app = typer.Typer(help="What agreement on the next block waits for.", no_args_is_help=True)

ASK_TIMEOUT_S: Final = 5.0

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

RpcList = Annotated[
    list[str] | None,
    typer.Option("--rpc", envvar="SECURENET_RPC", metavar="URL", help="A node to ask; repeat."),
]


@app.callback()
def _consensus() -> None:
    """Tell what agreement on the next block waits for."""


@app.command()
def why(
    rpc: RpcList = None,
    all_nodes: Annotated[
        bool, typer.Option("--all", help="Ask all nodes of a test network, or of each --rpc.")
    ] = False,
    directory: TestnetDir = Path(DEFAULT_TESTNET),
    as_json: AsJson = False,
) -> None:
    """Say why the chain does not go on: who voted, who is missing, since when, and a diagnosis.

    Example: securenet consensus why --all --dir testnet
    """
    urls = rpc or [DEFAULT_RPC]
    if all_nodes and rpc is None:
        network = load_network(directory)
        _why_all([(node.name, node.rpc) for node in network.nodes], as_json)
    elif all_nodes or len(urls) > 1:
        _why_all([(url, url) for url in urls], as_json)
    else:
        _why_one(urls[0], as_json)


def _why_one(rpc: str, as_json: bool) -> None:
    document = ask(rpc, lambda client: client.get("/v1/consensus"))
    if as_json:
        show_json(document)
        return
    phase = document["phase"]
    show_line(f"{document['diagnosis']}: {document['explanation']}")
    show_line(
        f"height {document['height']}, round {document['round']}, {phase} for "
        f"{document['phase_for_ms']} ms: {_PHASES.get(phase, 'see docs/spec/consensus.md')}"
    )
    refusal = document["refusal"]
    show_fields(
        {
            "signs": document["signing"],
            "proposer": document["proposer"],
            "proposal": document["proposal"],
            "refused": None
            if refusal is None
            else f"round {refusal['round']}: {refusal['reason']}",
            "found invalid": document["fault"],
            "prepared round": document["prepared_round"],
            "quorum": document["quorum"],
            "missing": document["missing"] or None,
            "timer fires in ms": document["deadline_in_ms"],
        }
    )
    columns = ["miner", "round", "prepare", "commit", "round change", "missing ms", "clock ms"]
    rows = [
        [
            member["miner"],
            member["round"],
            member["prepare"],
            member["commit"],
            member["round_change"],
            member["missing_for_ms"],
            member["clock_offset_ms"],
        ]
        for member in document["members"]
    ]
    show_table(columns, rows, empty="no members")
    rounds = [
        [entry["round"], entry["entered_ms_ago"], entry["cause"], entry["lacked"]]
        for entry in document["rounds"]
    ]
    show_table(["round", "ms ago", "entered by", "lacked before"], rounds, empty="no rounds")


def _why_all(nodes: Sequence[tuple[str, str]], as_json: bool) -> None:
    answers = asyncio.run(_ask_all(nodes))
    if all(answer.document is None for answer in answers):
        raise Unreachable(nodes[0][1], f"none of {len(nodes)} answers")
    verdict = compare(answers)
    document: dict[str, Any] = {
        "diagnosis": verdict.code,
        "explanation": verdict.text,
        "nodes": [{"node": answer.name, "consensus": answer.document} for answer in answers],
    }
    if as_json:
        show_json(document)
        return
    show_line(f"{verdict.code}: {verdict.text}")
    show_table(
        ["node", "height", "round", "phase", "hears", "diagnosis", "explanation"],
        [_row(answer) for answer in answers],
        empty="no nodes",
    )


def _row(answer: Answer) -> list[Any]:
    document = answer.document
    if document is None:
        return [answer.name, None, None, None, None, "no answer", None]
    fields = ("height", "round", "phase", "heard", "diagnosis", "explanation")
    return [answer.name, *(document[field] for field in fields)]


async def _ask_all(nodes: Sequence[tuple[str, str]]) -> list[Answer]:
    async def ask_one(name: str, url: str) -> Answer:
        document: Document | None = None
        try:
            async with connect(url, timeout_s=ASK_TIMEOUT_S) as client:
                document = await client.get("/v1/consensus")
        except (Unreachable, Refused):
            pass
        return Answer(name=name, document=document)

    return list(await asyncio.gather(*(ask_one(name, url) for name, url in nodes)))
