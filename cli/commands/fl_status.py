"""``securenet fl status``: how federated rounds are getting on."""

import asyncio
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Final

import typer

from chain.federated.records import CLOSED_PHASES, CLOSED_ROUNDS_MAX, OPEN_ROUNDS_MAX
from chain.types import Digest
from cli.arguments import home_directory, parse_digest
from cli.client import Client, Document, ask
from cli.errors import BadInput, Missed
from cli.federated.waits import AWAITED, waits_for
from cli.options import DEFAULT_RPC, AsJson, Limit, Rpc
from cli.progress import Progress
from cli.render import show_fields, show_json, show_line, show_table

app = typer.Typer()

POLL_S: Final = 0.5
DELTA: Final = 1e-5
ORGANISATIONS_MAX: Final = 10_000


@app.command()
def status(
    round_id: Annotated[
        str | None, typer.Argument(metavar="[ROUND]", help="A federated round, to show it alone.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show how it goes until it is over.")
    ] = False,
    home: Annotated[
        Path | None,
        typer.Option(
            "--home",
            metavar="DIR",
            help="Of a participant: what its updates have told; asks no node.",
        ),
    ] = None,
    delta: Annotated[
        float, typer.Option("--delta", help="For --home: chance with which the privacy may fail.")
    ] = DELTA,
    limit: Limit = 100,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Show federated rounds, the newest first: phase, what they wait for, until which height.

    With --follow it ends when the round does: with 0 if it is finished, else with 14. With --home
    it shows the ledgers of fl join --noise instead.

    Example: securenet fl status 5c1d… --follow
    """
    if home is not None:
        if round_id is not None or follow:
            raise BadInput("--home is about no single round", "give it alone")
        directory = home_directory(home)
        if not directory.is_dir():
            raise BadInput(f"there is no home {home}", "give that of fl join")
        _show_ledgers(directory, delta, as_json=as_json)
        return
    if round_id is None:
        if follow:
            raise BadInput("--follow is for one round", "name it: securenet fl status ROUND")
        _show_all(rpc, limit, as_json)
        return
    id = parse_digest(round_id, "round id")
    if follow:
        follow_round(rpc, id, as_json=as_json)
        return
    found = ask(rpc, lambda client: client.get(f"/v1/rounds/{id.hex()}"))
    if as_json:
        show_json(found)
    else:
        _show(found, _owners(rpc, found))


def _show_ledgers(home: Path, delta: float, *, as_json: bool) -> None:
    from cli.federated.memory import memory_folder
    from cli.federated.privacy import ledgers

    if not 0 < delta < 1:
        raise BadInput("--delta has to be between 0 and 1", f"take {DELTA:g}")
    shown = [
        {
            "device": device,
            "rounds": len(ledger.spent),
            "models": len({spent.base for spent in ledger.spent}),
            "rho": ledger.rho,
            "epsilon": ledger.epsilon(delta),
            "delta": delta,
        }
        for device, ledger in ledgers(memory_folder(home)).items()
    ]
    if as_json:
        show_json(shown)
        return
    show_table(
        ["device", "rounds", "models", "epsilon", "delta"],
        [
            [one["device"], one["rounds"], one["models"], f"{one['epsilon']:.3g}", f"{delta:g}"]
            for one in shown
        ],
        empty="no ledger: nothing was told with --noise",
    )


def waits(found: Document) -> str:
    """Say in one line what a round waits for."""
    return waits_for(found["phase"], deadline=found["deadline"], count=len(found["awaited"]))


def follow_round(rpc: str, id: Digest, *, as_json: bool) -> None:
    """Show each phase of a round as it passes, and the outcome; raises `Missed` for none."""

    async def question(client: Client) -> Document:
        path = f"/v1/rounds/{id.hex()}"
        found = await client.get(path)
        progress = Progress()
        while found["phase"] not in CLOSED_PHASES:
            phase = found["phase"]
            if phase not in AWAITED:
                progress.phase(f"{phase}: {waits(found)}")
                found = await _next(client, path, phase)
                continue
            text = f"{phase}: {AWAITED[phase]}, until height {found['deadline']}"
            with progress.bar(text, _done_of(found, phase)[1]) as bar:
                done = 0
                while True:
                    now = max(_done_of(found, phase)[0], done)
                    bar.advance(now - done)
                    done = now
                    if found["phase"] != phase:
                        break
                    await asyncio.sleep(POLL_S)
                    found = await client.get(path)
        return found

    found = ask(rpc, question)
    if as_json:
        show_json(found)
    else:
        _show(found, _owners(rpc, found))
    if found["phase"] != "finished":
        raise Missed(
            f"federated round {id.hex()} is {found['phase']}: {found['reason'] or 'by its opener'}",
            "see who was missing with securenet query rounds ID, and open another",
        )


def _done_of(found: Document, phase: str) -> tuple[int, int]:
    """Return how many have done what a phase waits for, of how many; holds behind it, too."""
    members = found["members"]
    if phase == "join":
        return sum(member["mask_key"] is not None for member in members), len(members)
    drawn = [member for member in members if member["group"] in found["groups"]]
    sharing = [member for member in drawn if member["status"] not in ("invited", "joined")]
    if phase == "share":
        return len(sharing), len(drawn)
    if phase == "commit":
        taking = sharing if found["terms"]["group_size"] > 1 else drawn
        taking = [m for m in taking if m["status"] not in ("complained", "expelled")]
        return sum(member["update"] is not None for member in taking), len(taking)
    included = [member for member in drawn if member["status"] == "included"]
    return sum(member["group"] in found["revealed"] for member in included), len(included)


async def _next(client: Client, path: str, phase: str) -> Document:
    found = await client.get(path)
    while found["phase"] == phase:
        await asyncio.sleep(POLL_S)
        found = await client.get(path)
    return found


def _owners(rpc: str, found: Document) -> dict[str, str]:
    """Return the name of the organisation to which each member belongs, by its id."""

    async def question(client: Client) -> dict[str, str]:
        listed = await client.pages("/v1/organisations", limit=ORGANISATIONS_MAX)
        names: dict[str, str] = {item["id"]: item["name"] for item in listed}
        owners = {}
        for member in found["members"]:
            id: str = (await client.device(member["device"]))["organisation"]
            owners[member["device"]] = names.get(id, id)
        return owners

    return ask(rpc, question)


def _show(found: Document, owners: Mapping[str, str]) -> None:
    members = found["members"]
    counts: dict[str, int] = {}
    for member in members:
        counts[member["status"]] = counts.get(member["status"], 0) + 1
    terms = found["terms"]
    show_fields(
        {
            "round": found["id"],
            "name": terms["name"],
            "base": terms["base"],
            "phase": found["phase"],
            "members": ", ".join(f"{count} {status}" for status, count in sorted(counts.items())),
            "groups": f"{len(found['groups'])} that count, {len(found['void'])} void",
            "rule": f"{terms['rule']}, withstands {terms['tolerated']} spoiled groups",
            "aggregate": found["aggregate"],
            "reason": found["reason"],
        }
    )
    show_table(
        ["member", "organisation", "weight", "steps", "status"],
        [
            [one["device"], owners[one["device"]], one["weight"], one["steps"], one["status"]]
            for one in members
        ],
        empty="no members",
    )
    show_line(waits(found))


def _show_all(rpc: str, limit: int, as_json: bool) -> None:
    async def question(client: Client) -> list[Document]:
        # They come by id; the newest of so few are known once all are.
        items = await client.pages("/v1/rounds", limit=OPEN_ROUNDS_MAX + CLOSED_ROUNDS_MAX)
        items.sort(key=itemgetter("opened_height"), reverse=True)
        return [await client.get(f"/v1/rounds/{item['id']}") for item in items[:limit]]

    items = ask(rpc, question)
    if as_json:
        show_json(items)
        return
    rows = [
        [item["id"], item["terms"]["name"], len(item["members"]), item["phase"], waits(item)]
        for item in items
    ]
    columns = ["round", "name", "participants", "phase", ""]
    show_table(columns, rows, empty="no federated rounds")
