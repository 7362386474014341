"""``securenet tx``: a device's data and files, and transactions of any kind."""

from pathlib import Path
from typing import Annotated

import typer

from chain.errors import DecodeError
from chain.kinds import KINDS
from chain.kinds.device_data import DeviceData
from chain.manifests import READERS_MAX
from chain.transactions import PAYLOAD, decode_transaction
from cli.arguments import parse_digest, parse_reader_key, read_bytes
from cli.client import Client, Document, ask
from cli.errors import BadInput, NotFound
from cli.files.fetching import fetch_file
from cli.files.sending import send_file
from cli.key_files import open_key, open_reader_key
from cli.options import DEFAULT_RPC, AsJson, Organisation, PassphraseFile, Rpc, Wait
from cli.readings import parse_flow_file, parse_readings
from cli.render import show_fields, show_json
from cli.sending import show_outcome
from cli.signing import find_device_sender, submit

app = typer.Typer(help="Send device data; look at transactions.", no_args_is_help=True)


@app.command("submit")
def submit_data(
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="Key file of the device.")],
    reading: Annotated[
        list[str] | None,
        typer.Option(
            "--reading", metavar="NAME=VALUE", help="A measurement, as temperature=21.5C; repeat."
        ),
    ] = None,
    flow: Annotated[
        Path | None,
        typer.Option(
            "--flow", metavar="FILE", help="A flow as JSON, or a file of JSON lines or NSL-KDD."
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="PATH", help="A file of any kind, sent in chunks."),
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to",
            metavar="PUBLICKEY",
            help="Who may read the file (keys new --algorithm x25519); repeat. None: everybody.",
        ),
    ] = None,
    row: Annotated[
        int, typer.Option("--row", min=1, help="With --flow: which row of the file.")
    ] = 1,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="ID", help="The device, where its key was rotated."),
    ] = None,
    organisation: Organisation = None,
    passphrase_file: PassphraseFile = None,
    wait: Wait = False,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Sign a reading, a flow or what names a file with the device's key and send it.

    A file is cut into chunks, encrypted for its readers, registered, and handed in once that is
    committed (--wait is implied). Where this breaks off, the same command goes on.

    Example: securenet tx submit --key sensor.json --reading temperature=21.5C --wait
    """
    if bool(reading) + (flow is not None) + (file is not None) != 1:
        raise BadInput(
            "there is nothing, or too much, to send", "give one of --reading, --flow and --file"
        )
    readers = tuple(dict.fromkeys([parse_reader_key(text) for text in to or []]))
    if readers and file is None:
        raise BadInput("--to is for files", "readings and flows are open to all")
    if len(readers) > READERS_MAX:
        raise BadInput(f"{len(readers)} readers are too many", f"name at most {READERS_MAX}")
    signing = open_key(key, passphrase_file)
    if file is not None:
        path = file

        async def sending(client: Client) -> Document:
            sender = await find_device_sender(client, signing, organisation, device)
            return await send_file(client, sender, path, readers=readers)

        show_outcome(ask(rpc, sending), as_json=as_json)
        return
    payload = parse_readings(reading) if reading else parse_flow_file(flow or Path(), row)

    async def question(client: Client) -> Document:
        sender = await find_device_sender(client, signing, organisation, device)
        transaction = sender.sign("device.data", DeviceData(payload=payload))
        return await submit(client, transaction, wait=wait)

    show_outcome(ask(rpc, question), as_json=as_json)


@app.command()
def fetch(
    id: Annotated[str, typer.Argument(metavar="ID", help="Id of the transaction of a file.")],
    out: Annotated[Path, typer.Option("--out", metavar="PATH", help="A new file.")],
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="Key file of a reader; not for an open file."),
    ] = None,
    trust: Annotated[
        str | None,
        typer.Option(
            "--trust",
            metavar="HASH",
            help="Hash of a block or of the genesis document, where the node is not believed.",
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Fetch the file that a transaction names, prove, decrypt and write it, whole or not at all.

    Where this breaks off, the same command goes on.

    Example: securenet tx fetch 9f3c… --key reader.json --out image.png
    """
    transaction_id = parse_digest(id, "transaction id")
    trusted = None if trust is None else parse_digest(trust, "hash")
    reader = None if key is None else open_reader_key(key, passphrase_file)
    document = ask(
        rpc,
        lambda client: fetch_file(client, transaction_id, reader=reader, out=out, trust=trusted),
    )
    if as_json:
        show_json(document)
    else:
        show_fields(document)


@app.command()
def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="Id of the transaction.")],
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Show a transaction, where it is in its life, and its receipt.

    Example: securenet tx show 9f3c… --json
    """
    digest = parse_digest(id, "transaction id")
    document = ask(rpc, lambda client: client.transaction(digest.hex()))
    show_outcome(document, as_json=as_json)
    if document["status"] == "unknown":
        raise NotFound(f"the node knows no transaction {id}", "check the id, or ask another node")


@app.command()
def decode(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Canonical bytes, or their hex; - for stdin.")
    ],
    as_json: AsJson = False,
) -> None:
    """Take the bytes of a transaction apart, without asking a node.

    Example: securenet tx decode transaction.msgpack --json
    """
    data = read_bytes(Path(file))
    text = data.strip()
    try:
        transaction = decode_transaction(bytes.fromhex(text.decode("ascii")))
    except (ValueError, DecodeError):
        transaction = decode_transaction(data)
    payload = PAYLOAD.render(transaction.payload)
    kind = KINDS.get(transaction.payload.kind)
    if kind is not None:
        payload["body"] = kind.body.render(kind.decode(transaction))
    document = {
        "id": transaction.id.hex(),
        "digest": transaction.digest.hex(),
        "size_bytes": len(transaction.wire),
        **payload,
        "signature": transaction.signature.hex(),
    }
    if as_json:
        show_json(document)
    else:
        show_fields(document)
