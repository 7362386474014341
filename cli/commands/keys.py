"""``securenet keys``: key files of devices, registrars and miners."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from chain.crypto import address_of
from chain.reader_keys import ReaderKey
from chain.types import PublicKey
from cli.key_files import encrypt_key, make_key, open_any_key, read_passphrase
from cli.options import AsJson, PassphraseFile
from cli.render import show_fields, show_json
from node.keys import AnyKey

app = typer.Typer(help="Key files: of senders, miners, readers.", no_args_is_help=True)


class Algorithm(StrEnum):
    """What a key may be of."""

    ED25519 = "ed25519"
    P256 = "p256"
    X25519 = "x25519"


KeyFile = Annotated[Path, typer.Argument(metavar="FILE", help="The key file.")]


@app.command()
def new(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write the key.")],
    algorithm: Annotated[
        Algorithm,
        typer.Option("--algorithm", help="Miners and nodes need ed25519, readers x25519."),
    ] = Algorithm.ED25519,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and write it to a file that only you can read.

    One of x25519 reads what others encrypt for its public part; the others sign.

    With --passphrase-file it is encrypted. An existing file is never overwritten.

    Example: securenet keys new --out sensor.json --algorithm p256
    """
    key = make_key(out, algorithm.value, read_passphrase(passphrase_file))
    _show(out, key, as_json)


@app.command()
def show(file: KeyFile, passphrase_file: PassphraseFile = None, as_json: AsJson = False) -> None:
    """Show the public part of a key file.

    Example: securenet keys show registrar.json --json
    """
    _show(file, open_any_key(file, passphrase_file), as_json)


@app.command()
def encrypt(
    file: KeyFile,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where to write the encrypted key.")
    ],
    new_passphrase_file: Annotated[
        Path,
        typer.Option(
            "--new-passphrase-file",
            metavar="FILE",
            help="Holds the passphrase to encrypt with in its first line.",
        ),
    ],
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Write a key file again, encrypted with a passphrase; then delete the old one yourself.

    Example: securenet keys encrypt miner.json --out miner.enc.json --new-passphrase-file secret
    """
    new_passphrase = read_passphrase(new_passphrase_file)
    assert new_passphrase is not None, "a file is given, and an empty line is an error"
    key = encrypt_key(file, out, old=read_passphrase(passphrase_file), new=new_passphrase)
    _show(out, key, as_json)


def _show(path: Path, key: AnyKey, as_json: bool) -> None:
    is_of_miner = not isinstance(key, ReaderKey) and key.algorithm == "ed25519"
    document: dict[str, Any] = {
        "file": str(path),
        "algorithm": key.algorithm,
        "public_key": key.public.hex(),
        "miner_id": address_of(PublicKey(key.public)).hex() if is_of_miner else None,
    }
    if as_json:
        show_json(document)
    else:
        show_fields(document)
