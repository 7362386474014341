"""``securenet db``: the database of a node that does not run."""

from pathlib import Path

import typer

from cli.arguments import expand_home
from cli.errors import BadInput, Missed
from cli.options import DEFAULT_HOME, AsJson, Home
from cli.render import show_json, show_line

app = typer.Typer(help="Look after the database of a stopped node.", no_args_is_help=True)


@app.callback()
def _db() -> None:
    """Look after the database of a stopped node."""


@app.command()
def verify(home: Home = Path(DEFAULT_HOME), as_json: AsJson = False) -> None:
    """Read the whole database and name every entry that is not what it should be.

    Example: securenet db verify --home testnet/node0
    """
    home = expand_home(home)
    findings = _findings(home)
    if as_json:
        show_json({"home": str(home), "findings": findings})
    else:
        for finding in findings:
            show_line(f"{finding['where']}: {finding['what']}")
    if findings:
        raise Missed(
            f"{len(findings)} entries of {home} are damaged",
            "docs/operating.md, section Recovery, says how to start from the peers",
        )
    if not as_json:
        show_line("no damage found")


def _findings(path: Path) -> list[dict[str, str]]:
    from contextlib import closing

    from node.errors import CorruptStore
    from node.home import Home as NodeHome
    from node.storage.leveldb import LevelDbStore
    from node.storage.verify import verify_store

    home = NodeHome(path)
    if not home.chain.is_dir():
        raise BadInput(f"there is no database in {path}", "name the home of a node with --home")
    genesis = home.load_genesis()
    try:
        with closing(LevelDbStore(home.chain)) as store:
            return [{"where": f.where, "what": f.what} for f in verify_store(store, genesis)]
    except CorruptStore as error:
        return [{"where": "database files", "what": str(error)}]
