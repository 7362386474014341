"""``securenet db``: the database of a node that does not run, and archives of its blocks."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chain.types import HEIGHT_MAX
from cli.arguments import check_out, home_directory, parse_digest, require_home
from cli.errors import BadInput, Missed
from cli.options import DEFAULT_HOME, AsJson, Home
from cli.progress import Progress
from cli.render import show_fields, show_json, show_line, show_table

if TYPE_CHECKING:
    from node.pruner import PruningPolicy
    from node.stopped import ClassStats, StoppedNode

app = typer.Typer(
    help="Look after the database of a stopped node, and archives.", no_args_is_help=True
)

Archive = Annotated[
    Path,
    typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="An archive of blocks."),
]
Kept = Annotated[int | None, typer.Option(min=1, max=HEIGHT_MAX, metavar="N")]


@app.callback()
def _db() -> None:
    """Look after the database of a stopped node, and archives of its blocks."""


@app.command()
def verify(
    home: Home = Path(DEFAULT_HOME),
    archive: Annotated[
        Path | None,
        typer.Option(
            "--archive",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Check this archive instead.",
        ),
    ] = None,
    trust: Annotated[
        str | None,
        typer.Option(
            "--trust",
            metavar="HASH",
            help="Hash of a block in the archive, or of its genesis document if it begins with "
            "block 1, from somebody you trust.",
        ),
    ] = None,
    genesis: Annotated[
        Path | None,
        typer.Option(
            "--genesis",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="The genesis document that it must have.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read a whole database, or an archive, and tell what is not as it should be.

    An archive is verified by certificates and roots, and executed where it begins with block 1;
    without --trust and --genesis it is compared with nothing but itself. One that begins later
    needs --trust.

    Example: securenet db verify --home testnet/node0
    """
    if archive is not None:
        _verify_archive(archive, trust, genesis, as_json)
        return
    if trust is not None or genesis is not None:
        raise BadInput("--trust and --genesis are for an archive", "name it with --archive")
    home = home_directory(home)
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


@app.command()
def stats(home: Home = Path(DEFAULT_HOME), as_json: AsJson = False) -> None:
    """Count the entries of a database, and what they take.

    Example: securenet db stats --home node0
    """
    from node.stopped import files_size, stats_of
    from node.storage.rollback import lowest_height
    from node.storage.schema import KEPT_APART

    with _opened(home) as node:
        chain = node.chain()
        classes = stats_of(node.store)
        document: dict[str, Any] = {
            "home": str(node.home.path),
            "height": chain.height,
            "block_hash": chain.tip.header.hash.hex(),
            "first_heights": {name: chain.first(what) for name, what in KEPT_APART.items()},
            "lowest_rollback": lowest_height(chain),
            "files_bytes": files_size(node.home.chain),
        }
    rows = {name: _numbers(found) for name, found in classes.items()}
    if as_json:
        show_json(document | {"classes": rows})
        return
    show_table(
        ("class", "entries", "bytes", "on disk"),
        [(name, *row.values()) for name, row in rows.items()],
        empty="nothing",
    )
    first = document.pop("first_heights")
    show_fields(document | {f"first {name}": height for name, height in first.items() if height})


@app.command()
def compact(home: Home = Path(DEFAULT_HOME), as_json: AsJson = False) -> None:
    """Give the room of removed and replaced entries back to the disk.

    It needs room for some of them twice meanwhile.

    Example: securenet db compact --home node0
    """
    from node.stopped import files_size

    with _opened(home) as node:
        before = files_size(node.home.chain)
        node.store.compact()
    # Old tables go when the database is closed.
    with _opened(home) as node:
        _show_sizes({}, before, files_size(node.home.chain), as_json)


@app.command()
def prune(
    home: Home = Path(DEFAULT_HOME),
    telemetry_keep_blocks: Kept = None,
    telemetry_keep_days: Kept = None,
    verdicts_keep_blocks: Kept = None,
    verdicts_keep_days: Kept = None,
    registry_keep_blocks: Kept = None,
    registry_keep_days: Kept = None,
    receipts_keep_blocks: Kept = None,
    receipts_keep_days: Kept = None,
    as_json: AsJson = False,
) -> None:
    """Remove what need not be kept and give its room back, as a running node does by itself.

    Without a number those of [pruning] in config.toml hold. Interrupted, it goes on when called
    again.

    Example: securenet db prune --home node0 --telemetry-keep-blocks 10000
    """
    given = {
        "telemetry_keep_blocks": telemetry_keep_blocks,
        "telemetry_keep_days": telemetry_keep_days,
        "verdicts_keep_blocks": verdicts_keep_blocks,
        "verdicts_keep_days": verdicts_keep_days,
        "registry_keep_blocks": registry_keep_blocks,
        "registry_keep_days": registry_keep_days,
        "receipts_keep_blocks": receipts_keep_blocks,
        "receipts_keep_days": receipts_keep_days,
    }
    from node.config import parse_config
    from node.stopped import files_size

    numbers = {name: number for name, number in given.items() if number is not None}
    with _opened(home) as node:
        config = parse_config({"pruning": numbers}) if numbers else node.home.load_config()
        policy = config.pruning.policy()
        if policy.is_idle:
            raise BadInput(
                "everything is to be kept",
                "say what is not: --telemetry-keep-blocks N, or [pruning] in config.toml",
            )
        before = files_size(node.home.chain)
        pruned = asyncio.run(_prune(node, policy))
    with _opened(home) as node:
        _show_sizes(pruned, before, files_size(node.home.chain), as_json)


@app.command()
def export(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A file that is not there.")],
    home: Home = Path(DEFAULT_HOME),
    from_: Annotated[
        int, typer.Option("--from", min=1, max=HEIGHT_MAX, metavar="HEIGHT", help="First block.")
    ] = 1,
    to: Annotated[
        int | None,
        typer.Option(
            "--to", min=1, max=HEIGHT_MAX, metavar="HEIGHT", help="Last block; all by default."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write blocks with all that proves them to an archive.

    Example: securenet db export --home node0 --out chain.archive
    """
    from node.archive import export_archive

    check_out(out)
    with _opened(home) as node:
        chain = node.chain()
        last = chain.height if to is None else to
        if not from_ <= last <= chain.height:
            raise BadInput(
                f"there are no blocks {from_} to {last}; the last one is {chain.height}",
                "give --from and --to within the chain",
            )
        with Progress().bar("export", last + 1 - from_) as bar:
            size = export_archive(
                chain, out, first=from_, last=last, progress=lambda height: bar.advance()
            )
        header = chain.header(last)
        assert header is not None, "it was exported"
        document = {
            "archive": str(out),
            "chain_id": node.genesis.chain_id,
            "genesis_hash": node.genesis.hash.hex(),
            "first": from_,
            "last": last,
            "block_hash": header.hash.hex(),
            "size_bytes": size,
        }
    _show(document, as_json)


@app.command("import")
def import_(archive: Archive, home: Home = Path(DEFAULT_HOME), as_json: AsJson = False) -> None:
    """Take the blocks of an archive into a home whose chain is empty or shorter.

    All of it is verified before anything is written. Interrupted, it goes on when called again.

    Example: securenet db import chain.archive --home node0
    """
    from chain.genesis import genesis_header, genesis_state
    from chain.state import MemorySource, State
    from node.archive import check_continues
    from node.home import Home as NodeHome
    from node.stopped import open_stopped

    path = home_directory(home)
    require_home(path)
    stopped = NodeHome(path)
    if not stopped.chain.is_dir():
        genesis = stopped.load_genesis()
        root = State(MemorySource(genesis_state(genesis))).root
        check_continues(archive, genesis, genesis_header(genesis, root))
    with open_stopped(path, create=True) as node:
        _show(asyncio.run(_import(node, archive)), as_json)


async def _import(node: "StoppedNode", archive: Path) -> dict[str, Any]:
    from node.archive import import_archive, read_begin

    chain = node.chain()
    with Progress().bar("import", max(0, read_begin(archive).last - chain.height)) as bar:
        count = await import_archive(chain, archive, progress=lambda height: bar.advance())
    return {
        "home": str(node.home.path),
        "imported": count,
        "height": chain.height,
        "block_hash": chain.tip.header.hash.hex(),
        "state_root": chain.tip.header.state_root.hex(),
    }


async def _prune(node: "StoppedNode", policy: "PruningPolicy") -> dict[str, int]:
    from node.metrics import Metrics
    from node.pruner import NAMES, Pruner
    from node.storage.pruning import PRUNED_CLASSES

    chain = node.chain()
    pruner = Pruner(chain=chain, executor=node.executor, policy=policy, metrics=Metrics())
    removed = await pruner.prune(0)
    await pruner.compact()
    return {
        **{f"pruned_{NAMES[what]}": removed.get(what, 0) for what in PRUNED_CLASSES},
        **{f"first_{NAMES[what]}": chain.first(what) for what in PRUNED_CLASSES},
    }


def _verify_archive(archive: Path, trust: str | None, genesis: Path | None, as_json: bool) -> None:
    from chain.errors import WrongChain
    from node.archive import read_begin, verify_archive
    from node.errors import BadArchive
    from node.home import load_genesis

    trusted = None if trust is None else parse_digest(trust, "hash")
    known = None if genesis is None else load_genesis(genesis)
    try:
        begin = read_begin(archive)
        if begin.first > 1 and trusted is None:
            raise BadInput(
                f"{archive} begins with block {begin.first}, and nothing is known to trust it by",
                "give the hash of one of its blocks with --trust",
            )
        with Progress().bar("verify", begin.last + 1 - begin.first) as bar:
            found = verify_archive(
                archive, genesis=known, trusted=trusted, progress=lambda height: bar.advance()
            )
    except BadArchive as error:
        raise Missed(str(error), "take no block from it; export it anew elsewhere") from error
    except WrongChain as error:
        raise Missed(str(error), "give the genesis document of its chain") from error
    _show(
        {
            "archive": str(archive),
            "chain_id": found.genesis.chain_id,
            "genesis_hash": found.genesis.hash.hex(),
            "first": found.first,
            "last": found.last.height,
            "block_hash": found.last.hash.hex(),
            "executed": found.is_executed,
            "compared": known is not None or trusted is not None,
        },
        as_json,
    )


def _findings(path: Path) -> list[dict[str, str]]:
    from node.errors import CorruptStore
    from node.storage.chain_store import other_chain
    from node.storage.verify import is_of_other_chain, verify_store

    try:
        with _opened(path) as node:
            if is_of_other_chain(node.store, node.genesis):
                raise other_chain(node.home.chain)
            return [
                {"where": found.where, "what": found.what}
                for found in verify_store(node.store, node.genesis)
            ]
    except CorruptStore as error:
        return [{"where": "database files", "what": str(error)}]


@contextmanager
def _opened(home: Path) -> Iterator["StoppedNode"]:
    """Open the home of a node that has run and does not now."""
    from node.home import Home as NodeHome
    from node.stopped import open_stopped

    path = home_directory(home)
    if not NodeHome(path).chain.is_dir():
        raise BadInput(f"there is no database in {path}", "name the home of a node with --home")
    with open_stopped(path) as node:
        yield node


def _numbers(found: "ClassStats") -> dict[str, int]:
    return {
        "entries": found.entries,
        "size_bytes": found.size_bytes,
        "disk_bytes": found.disk_bytes,
    }


def _show_sizes(document: dict[str, int], before: int, after: int, as_json: bool) -> None:
    _show(document | {"bytes_before": before, "bytes_after": after}, as_json)


def _show(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(document)
    else:
        show_fields(document)
