"""``securenet query``: what a node knows."""

import asyncio
from contextlib import aclosing
from enum import StrEnum
from operator import itemgetter
from typing import Annotated

import typer

from cli.arguments import parse_address
from cli.client import Document, ask, connect
from cli.device_view import show_device
from cli.errors import BadInput
from cli.listing import Columns, show_list
from cli.options import DEFAULT_RPC, AsJson, Limit, Rpc
from cli.render import show_fields, show_json, show_json_line, show_line, show_table

app = typer.Typer(help="Ask a node what it knows.", no_args_is_help=True)


class EventType(StrEnum):
    """What can be subscribed to."""

    BLOCK = "block"
    TRANSACTION = "transaction"
    VERDICT = "verdict"
    EVENT = "event"


@app.command()
def status(rpc: Rpc = DEFAULT_RPC, as_json: AsJson = False) -> None:
    """Show how a node is doing: height, hash, state root, peers, mempool.

    Example: securenet query status --rpc http://127.0.0.1:26767
    """
    document = ask(rpc, lambda client: client.status())
    if as_json:
        show_json(document)
    else:
        show_fields(document)


@app.command()
def block(
    reference: Annotated[
        str, typer.Argument(metavar="[HEIGHT|HASH|latest]", help="Which block.")
    ] = "latest",
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Show a block: header, ids of its transactions, events of its end, certificate.

    Example: securenet query block latest --json
    """
    is_hash = len(reference) == 64 and all(c in "0123456789abcdef" for c in reference)
    if not (reference == "latest" or reference.isdecimal() or is_hash):
        raise BadInput(f"{reference[:80]!r} is no block", "give a height, a block hash, or latest")
    document = ask(rpc, lambda client: client.block(reference))
    if as_json:
        show_json(document)
        return
    show_fields(document["header"])
    certificate = document["certificate"]
    signers = None if certificate is None else [vote["index"] for vote in certificate["votes"]]
    show_fields({"signed by miners": signers, "transactions": len(document["transaction_ids"])})
    for id in document["transaction_ids"]:
        show_line(f"  {id}")
    for event in document["events"]:
        show_line(f"  {_text_of(event)}")


@app.command()
def device(
    id: Annotated[str, typer.Argument(metavar="ID", help="Id of the device.")],
    limit: Limit = 20,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Show a device with what is left of its budget and what it sent.

    Example: securenet query device 41b0… --limit 5
    """
    address = parse_address(id, "device id").hex()

    async def question() -> Document:
        async with connect(rpc, attempts=3) as client:
            return {
                "device": await client.device(address),
                "budget": await client.get(f"/v1/devices/{address}/budget"),
                "transactions": await client.pages(
                    f"/v1/devices/{address}/transactions", limit=limit
                ),
            }

    document = asyncio.run(question())
    if as_json:
        show_json(document)
        return
    show_device(document["device"])
    windows = [
        [w["subject"], w["capacity"], w["seconds"], w["remaining"]]
        for w in document["budget"]["windows"]
    ]
    show_table(["limit of", "capacity", "seconds", "left"], windows, empty="no rate limits")
    rows = [[t["height"], t["index"], t["id"]] for t in document["transactions"]]
    show_table(["height", "index", "transaction"], rows, empty="no transactions")


@app.command()
def behaviour(
    id: Annotated[str, typer.Argument(metavar="ID", help="Id of the device.")],
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Show how a device behaves, against its own past and its organisation's other devices.

    It is what this node has seen in the last blocks; no verdict rests on it.

    Example: securenet query behaviour 41b0…
    """
    address = parse_address(id, "device id").hex()
    document = ask(rpc, lambda client: client.get(f"/v1/devices/{address}/behaviour"))
    if as_json:
        show_json(document)
        return
    show_fields(
        {
            "score": f"{document['score_ppm'] // 10_000} of 100",
            "reason": document["reason"] or "nothing unusual",
            "blocks": f"{document['from_height']} to {document['height']}",
        }
    )
    rows = [
        [
            q["name"],
            q["latest_mean"],
            f"{q['mean']} ± {q['deviation']}" if q["count"] else None,
            f"{q['group_mean']} ± {q['group_deviation']}" if q["group_count"] else None,
            "drifts" if q["is_drifting"] else "",
            q["reason"],
        ]
        for q in document["quantities"]
    ]
    columns = ["quantity", "latest", "normal", "group", "drift", "reason"]
    show_table(columns, rows, empty="it has sent nothing in these blocks")


@app.command()
def verdicts(limit: Limit = 100, rpc: Rpc = DEFAULT_RPC, as_json: AsJson = False) -> None:
    """List what the miners' detectors said of the flows of each block, oldest first.

    Example: securenet query verdicts --limit 10 --json
    """
    columns: Columns = {
        "block": itemgetter("judged_height"),
        "miner": itemgetter("miner"),
        "flows": lambda v: len(v["scores_ppm"]),
        "anomalous": lambda v: sum(score >= v["threshold_ppm"] for score in v["scores_ppm"]),
        "at height": itemgetter("height"),
    }
    show_list(rpc, "/v1/verdicts", columns, limit=limit, as_json=as_json, empty="no verdicts")


@app.command()
def measures(
    appealed: Annotated[
        bool, typer.Option("--appealed", help="Only those whose appeal waits for an answer.")
    ] = False,
    limit: Limit = 100,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """List the last measure against each device that was limited, quarantined or revoked.

    Example: securenet query measures --appealed
    """
    columns: Columns = {
        "device": itemgetter("device"),
        "action": itemgetter("action"),
        "anomalous": lambda m: f"{m['anomalous']} of {m['window']}",
        "until (ms)": lambda m: m["until_ms"] or None,
        "appeal": lambda m: None if m["appeal"] is None else m["appeal"]["text"],
        "answer": itemgetter("answer"),
    }
    show_list(
        rpc,
        "/v1/measures",
        columns,
        limit=limit,
        as_json=as_json,
        empty="no measures",
        only={"appealed": "true" if appealed else None},
    )


@app.command()
def models(limit: Limit = 100, rpc: Rpc = DEFAULT_RPC, as_json: AsJson = False) -> None:
    """List the registered models and say which judges.

    Example: securenet query models
    """
    columns: Columns = {
        "model": itemgetter("id"),
        "name": itemgetter("name"),
        "threshold ppm": itemgetter("threshold_ppm"),
        "active": itemgetter("active"),
    }
    show_list(rpc, "/v1/models", columns, limit=limit, as_json=as_json, empty="no models")


@app.command()
def rounds(
    id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A round, to show its members.")
    ] = None,
    phase: Annotated[
        str | None,
        typer.Option(
            "--phase",
            metavar="WORD",
            help="Only those at join, draw, share, commit, attest, reveal, aggregate, "
            "or finished, failed, aborted.",
        ),
    ] = None,
    limit: Limit = 100,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """List federated rounds, or show one: its phase, its members, and whom it waits for.

    Example: securenet query rounds --phase join
    """
    if id is not None:
        if phase is not None:
            raise BadInput("--phase is for the list", "leave it out to show one federated round")
        _show_round(parse_address(id, "round id").hex(), rpc, as_json)
        return
    columns: Columns = {
        "round": itemgetter("id"),
        "name": itemgetter("name"),
        "phase": itemgetter("phase"),
        "until height": itemgetter("deadline"),
        "members": lambda r: " ".join(
            f"{count} {status}" for status, count in r["statuses"].items() if count
        ),
        "groups": itemgetter("groups"),
        "result": lambda r: r["aggregate"] or r["reason"],
    }
    show_list(
        rpc,
        "/v1/rounds",
        columns,
        limit=limit,
        as_json=as_json,
        empty="no federated rounds",
        only={"phase": phase},
    )


def _show_round(id: str, rpc: str, as_json: bool) -> None:
    found = ask(rpc, lambda client: client.get(f"/v1/rounds/{id}"))
    if as_json:
        show_json(found)
        return
    terms = found["terms"]
    masked = "not masked" if terms["group_size"] == 1 else "masked"
    show_fields(
        {
            "round": found["id"],
            "name": terms["name"],
            "coordinator": found["coordinator"],
            "base": terms["base"],
            "rule": terms["rule"],
            "groups": f"{len(found['groups'])} that count, {masked}",
            "phase": found["phase"],
            "until height": found["deadline"],
            "waits for": f"{len(found['awaited'])} participants" if found["awaited"] else None,
            "miners": f"{len(found['attestations'])} attested, {len(found['votes'])} computed",
            "aggregate": found["aggregate"],
            "reason": found["reason"],
        }
    )
    awaited = set(found["awaited"])
    rows = [
        [
            m["device"],
            m["status"],
            m["group"],
            "void" if m["group"] in found["void"] else "",
            m["weight"],
            "yes" if m["device"] in awaited else "",
        ]
        for m in found["members"]
    ]
    columns = ["participant", "status", "group", "", "weight", "awaited"]
    show_table(columns, rows, empty="no members")


@app.command()
def proposals(
    status: Annotated[
        str | None,
        typer.Option(
            "--status",
            metavar="WORD",
            help="Only those that are open, enacted, rejected, expired or void.",
        ),
    ] = None,
    limit: Limit = 100,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """List what miners have proposed and how far the votes are.

    Example: securenet query proposals --status open
    """
    columns: Columns = {
        "proposal": itemgetter("id"),
        "kind": itemgetter("kind"),
        "status": itemgetter("status"),
        "for": lambda p: len(p["approvals"]),
        "against": lambda p: len(p["refusals"]),
        "what": itemgetter("body"),
    }
    show_list(
        rpc,
        "/v1/proposals",
        columns,
        limit=limit,
        as_json=as_json,
        empty="no proposals",
        only={"status": status},
    )


@app.command()
def evidence(limit: Limit = 100, rpc: Rpc = DEFAULT_RPC, as_json: AsJson = False) -> None:
    """List the miners that were convicted of signing two things, each of the last time.

    The transaction holds both statements: securenet tx show ID.

    Example: securenet query evidence --json
    """
    columns: Columns = {
        "miner": itemgetter("miner"),
        "type": itemgetter("type"),
        "height": itemgetter("height"),
        "round": itemgetter("round"),
        "at height": itemgetter("accepted_height"),
        "pardoned at": itemgetter("pardoned_height"),
        "transaction": itemgetter("transaction"),
    }
    show_list(rpc, "/v1/evidence", columns, limit=limit, as_json=as_json, empty="no evidence")


@app.command()
def events(
    follow: Annotated[
        bool, typer.Option("--follow", help="Stay and print what comes, until Ctrl-C.")
    ] = False,
    types: Annotated[
        list[EventType] | None, typer.Option("--type", help="Only these types; repeat.")
    ] = None,
    cursor: Annotated[
        str | None,
        typer.Option("--from", metavar="CURSOR", help="Continue behind this cursor; 0:0 is all."),
    ] = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Print events of the chain, one a line: those up to now, or with --follow all to come.

    Example: securenet query events --follow --type verdict --json
    """
    wanted = [type.value for type in types or EventType]
    if cursor is not None:
        _position(cursor)
    if follow:
        asyncio.run(_follow(rpc, wanted, cursor, as_json))
    else:
        asyncio.run(_print_past(rpc, wanted, cursor or "0:0", as_json))


async def _follow(rpc: str, types: list[str], cursor: str | None, as_json: bool) -> None:
    async with connect(rpc) as client:
        while True:
            subscription: Document = {"subscribe": types}
            if cursor is not None:
                subscription["from"] = cursor
            async with aclosing(client.events(subscription)) as stream:
                async for event in stream:
                    cursor = event["cursor"]
                    _print_event(event, as_json)
            # The node has stopped, or found us slow: go on behind the last event.
            await asyncio.sleep(1)


async def _print_past(rpc: str, types: list[str], cursor: str, as_json: bool) -> None:
    async with connect(rpc) as client:
        tip = await client.block("latest")
        height, count = tip["header"]["height"], len(tip["transaction_ids"])
        # With these types among them, one event stands at the very end.
        wanted = {*types, "block", "transaction"}
        end = (height, count)
        if tip["events"]:
            wanted.add("event")
            end = (height, count + 1)
        if _position(cursor) >= end:
            return
        subscription = {"subscribe": sorted(wanted), "from": cursor}
        async with aclosing(client.events(subscription)) as stream:
            async for event in stream:
                if event["type"] in types:
                    _print_event(event, as_json)
                if _position(event["cursor"]) >= end:
                    return


def _position(cursor: str) -> tuple[int, int]:
    height, _, index = cursor.partition(":")
    if not (height.isdecimal() and index.isdecimal()):
        raise BadInput(f"{cursor[:80]!r} is no cursor", "give HEIGHT:INDEX, as 0:0")
    return int(height), int(index)


def _text_of(event: Document) -> str:
    return " ".join([event["name"], *event["values"]])


def _print_event(event: Document, as_json: bool) -> None:
    if as_json:
        show_json_line(event)
        return
    data = event["data"]
    match event["type"]:
        case "block":
            header = data["header"]
            text = f"{header['height']} {header['hash']} {data['transaction_count']} transactions"
        case "transaction":
            text = f"{data['kind']} {data['id']} from {data['sender']}"
        case "verdict":
            above = sum(score >= data["threshold_ppm"] for score in data["scores_ppm"])
            text = f"block {data['judged_height']}: {above} of {len(data['scores_ppm'])} anomalous"
        case _:
            text = _text_of(data)
    show_line(f"{event['cursor']:>12}  {event['type']:<11}  {text}")
