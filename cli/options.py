"""Options that many commands share, each said once."""

from pathlib import Path
from typing import Annotated, Final

import typer

DEFAULT_RPC: Final = "http://127.0.0.1:26757"
DEFAULT_HOME: Final = "~/.securenet"
DEFAULT_TESTNET: Final = "testnet"

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, for scripts.")]

Rpc = Annotated[
    str,
    typer.Option("--rpc", envvar="SECURENET_RPC", metavar="URL", help="RPC of the node to ask."),
]

Home = Annotated[
    Path,
    typer.Option(
        "--home", envvar="SECURENET_HOME", metavar="DIR", help="Home directory of the node."
    ),
]

TestnetDir = Annotated[
    Path, typer.Option("--dir", metavar="DIR", help="Directory of the test network.")
]

RegistrarKey = Annotated[
    Path, typer.Option("--key", metavar="FILE", help="Key file of the organisation's registrar.")
]

MinerKey = Annotated[Path, typer.Option("--key", metavar="FILE", help="Key file of a miner.")]

Organisation = Annotated[
    str | None,
    typer.Option(
        "--organisation",
        metavar="NAME",
        help="Organisation to act for; found by the key where genesis names it.",
    ),
]

Wait = Annotated[
    bool,
    typer.Option("--wait/--no-wait", help="Wait for the receipt, or return once it is pooled."),
]

Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Entries at most.")]

SchemaFile = Annotated[
    Path | None,
    typer.Option(
        "--schema", metavar="FILE", help="What the columns of a CSV file are; see docs/data.md."
    ),
]

Trust = Annotated[
    str | None,
    typer.Option(
        "--trust",
        metavar="HASH",
        help="Hash of a block, or of the genesis document, from somebody you trust: "
        "the node has to prove the round.",
    ),
]

TestData = Annotated[
    Path | None,
    typer.Option("--test", metavar="FILE", help="With --schema: a CSV file to be measured on."),
]

TrafficOnly = Annotated[
    bool,
    typer.Option(
        "--traffic-only", help="Do without what captures and logs cannot show (NSL-KDD only)."
    ),
]

PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        envvar="SECURENET_PASSPHRASE_FILE",
        metavar="FILE",
        help="Holds the passphrase of the key file in its first line.",
    ),
]
