"""``securenet blob``: what the chain names by digest and does not hold itself."""

from functools import partial
from os import SEEK_END
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from chain.blobs import BLOB_SIZE_MAX, CHUNK_SIZE, digest_of_hashes
from chain.merkle import leaf_hash
from chain.types import Digest
from cli.arguments import check_out, parse_digest
from cli.client import Client, ask
from cli.errors import BadInput, Missed
from cli.options import DEFAULT_RPC, AsJson, Rpc
from cli.render import show_fields, show_json
from node.files import new_file

app = typer.Typer(help="Blobs, such as models: put, get.", no_args_is_help=True)


@app.command()
def put(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The bytes.")],
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Hand a file in and print its digest.

    A node takes from its own machine what the chain does not name, and keeps it for a week.

    Example: securenet blob put forest.safetensors
    """
    try:
        with file.open("rb") as opened:
            digest = _digest_of(opened)
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}", "name another file") from error
    if digest is None:
        size = file.stat().st_size
        raise BadInput(f"{file} has {size} bytes", f"a blob has 1 to {BLOB_SIZE_MAX}")
    document = ask(rpc, lambda client: client.put_blob(digest.hex(), file))
    if as_json:
        show_json(document)
    else:
        show_fields(document)


@app.command()
def get(
    digest: Annotated[str, typer.Argument(metavar="DIGEST", help="Digest of the blob.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A new file.")],
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Read a blob into a new file, which is there whole and proven or not at all.

    Example: securenet blob get 5c1d… --out forest.safetensors
    """
    wanted = parse_digest(digest, "digest")
    check_out(out)
    with new_file(out) as file:

        async def question(client: Client) -> None:
            async for part in client.blob(wanted.hex()):
                file.write(part)

        # Once: a second attempt would write behind what the first has written.
        ask(rpc, question, attempts=1)
        if _digest_of(file) != wanted:
            raise Missed("the node sent other bytes than those of the digest", "ask another node")
    document = {"id": wanted.hex(), "size": out.stat().st_size, "file": str(out)}
    if as_json:
        show_json(document)
    else:
        show_fields(document)


def _digest_of(file: BinaryIO) -> Digest | None:
    """Return the digest of a file as a blob, reading a chunk at a time; None where it is none."""
    size = file.seek(0, SEEK_END)
    file.seek(0)
    if not 1 <= size <= BLOB_SIZE_MAX:
        return None
    chunks = iter(partial(file.read, CHUNK_SIZE), b"")
    return digest_of_hashes(size, [leaf_hash(chunk) for chunk in chunks])
