"""``securenet tx``: a device's data, and transactions of any kind."""

from pathlib import Path
from typing import Annotated

import typer

from chain.errors import DecodeError
from chain.kinds import KINDS
from chain.kinds.device_data import DeviceData
from chain.transactions import PAYLOAD, decode_transaction
from cli.arguments import parse_digest, read_bytes
from cli.client import Client, Document, ask
from cli.errors import BadInput, NotFound
from cli.key_files import open_key
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
    """Sign a reading or a flow with the device's key and send it.

    Example: securenet tx submit --key sensor.json --reading temperature=21.5C --wait
    """
    if bool(reading) == (flow is not None):
        raise BadInput("there is nothing, or too much, to send", "give either --reading or --flow")
    payload = parse_readings(reading) if reading else parse_flow_file(flow or Path(), row)
    signing = open_key(key, passphrase_file)

    async def question(client: Client) -> Document:
        sender = await find_device_sender(client, signing, organisation, device)
        transaction = sender.sign("device.data", DeviceData(payload=payload))
        return await submit(client, transaction, wait=wait)

    show_outcome(ask(rpc, question), as_json=as_json)


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
