"""``securenet device``: the registry of approved devices."""

from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any

import typer

from chain.kinds.appeal import DeviceAppeal
from chain.kinds.device_registry import (
    DeviceRegister,
    DeviceRelease,
    DeviceUpdate,
    RefuseAppeal,
    Resume,
    Revoke,
    RotateKey,
    SetLimits,
    SetRoles,
    Suspend,
    device_id,
    sign_rotation,
)
from chain.types import Address, PublicKey
from cli.arguments import parse_address, parse_public_key, parse_rate_limits
from cli.client import Client, Document, ask
from cli.device_view import show_device
from cli.errors import BadInput
from cli.key_files import open_key
from cli.listing import Columns, show_list
from cli.options import (
    DEFAULT_RPC,
    AsJson,
    Limit,
    Organisation,
    PassphraseFile,
    RegistrarKey,
    Rpc,
    Wait,
)
from cli.render import show_fields, show_json
from cli.sending import send, send_as_registrar, show_outcome
from cli.signing import find_device_sender, registrar_sender, submit

app = typer.Typer(help="Register devices and change them.", no_args_is_help=True)

DeviceId = Annotated[str, typer.Argument(metavar="ID", help="Id of the device.")]
DeviceKey = Annotated[Path, typer.Option("--key", metavar="FILE", help="Key file of the device.")]
Role = Annotated[
    list[str] | None,
    typer.Option("--role", metavar="ROLE", help="sensor, gateway or participant; repeat."),
]


@app.command()
def register(
    key: RegistrarKey,
    name: Annotated[str, typer.Option("--name", help="Name of the device, for people.")],
    device_key: Annotated[
        Path | None, typer.Option("--device-key", metavar="FILE", help="Key file of the device.")
    ] = None,
    public_key: Annotated[
        str | None,
        typer.Option(
            "--public-key", metavar="HEX", help="Its public key, if that is all you have."
        ),
    ] = None,
    role: Role = None,
    gateway: Annotated[
        str | None,
        typer.Option("--gateway", metavar="ID", help="The device through which it sends."),
    ] = None,
    limits: Annotated[
        str | None,
        typer.Option("--limits", metavar="LIMITS", help="Rate limits, as 10:1,300:60."),
    ] = None,
    organisation: Organisation = None,
    passphrase_file: PassphraseFile = None,
    wait: Wait = True,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Register a device of the organisation and print its permanent id.

    Example: securenet device register --key registrar.json --name sensor-1 --device-key sensor.json
    """
    if (device_key is None) == (public_key is None):
        raise BadInput(
            "the device's key is missing, or given twice", "give --device-key or --public-key"
        )
    new_key: PublicKey
    if device_key is not None:
        new_key = open_key(device_key, passphrase_file).public
    else:
        new_key = parse_public_key(public_key or "")
    body = DeviceRegister(
        name=name,
        key=new_key,
        roles=tuple(role or ("sensor",)),
        gateway=None if gateway is None else parse_address(gateway, "device id"),
        limits=None if limits is None else parse_rate_limits(limits),
    )
    signing = open_key(key, passphrase_file)

    async def question(client: Client) -> Document:
        genesis = await client.genesis()
        sender = registrar_sender(genesis, signing, organisation)
        answer = await submit(client, sender.sign("device.register", body), wait=wait)
        id = device_id(genesis.hash, sender.address, new_key)
        return {"device": id.hex(), "transaction": answer}

    answer = ask(rpc, question)
    if as_json:
        show_json(answer)
    else:
        show_fields({"device": answer["device"]})
        show_outcome(answer["transaction"], as_json=False, id_name="transaction")


@app.command("list")
def list_devices(
    status: Annotated[
        str | None,
        typer.Option(
            "--status", metavar="WORD", help="Only the active, suspended, quarantined or revoked."
        ),
    ] = None,
    limit: Limit = 100,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """List the registered devices.

    Example: securenet device list --status quarantined
    """
    columns: Columns = {
        "id": itemgetter("id"),
        "name": itemgetter("name"),
        "status": itemgetter("status"),
        "limits": itemgetter("limits"),
        "roles": itemgetter("roles"),
    }
    show_list(
        rpc,
        "/v1/devices",
        columns,
        limit=limit,
        as_json=as_json,
        empty="no devices",
        only={"status": status},
    )


@app.command()
def show(id: DeviceId, rpc: Rpc = DEFAULT_RPC, as_json: AsJson = False) -> None:
    """Show a device: key, state, limits, and what the verdicts say of it.

    Example: securenet device show 41b0…
    """
    address = parse_address(id, "device id")
    device = ask(rpc, lambda client: client.device(address.hex()))
    if as_json:
        show_json(device)
    else:
        show_device(device)


@app.command()
def rotate(
    id: DeviceId,
    key: RegistrarKey,
    new_key: Annotated[
        Path, typer.Option("--new-key", metavar="FILE", help="Key file of the device's new key.")
    ],
    organisation: Organisation = None,
    passphrase_file: PassphraseFile = None,
    wait: Wait = True,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Give a device a new key, which proves itself; the device's id stays.

    Example: securenet device rotate 41b0… --key registrar.json --new-key sensor-2.json
    """
    device = parse_address(id, "device id")
    registrar = open_key(key, passphrase_file)
    successor = open_key(new_key, passphrase_file)
    send(
        rpc,
        lambda genesis: registrar_sender(genesis, registrar, organisation).sign(
            "device.update",
            DeviceUpdate(
                device=device,
                change=RotateKey(
                    new_key=successor.public,
                    proof=sign_rotation(genesis.hash, device, successor),
                ),
            ),
        ),
        wait=wait,
        as_json=as_json,
    )


@app.command()
def suspend(
    id: DeviceId,
    key: RegistrarKey,
    organisation: Organisation = None,
    passphrase_file: PassphraseFile = None,
    wait: Wait = True,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Stop a device until it is resumed.

    Example: securenet device suspend 41b0… --key registrar.json
    """
    _update(id, Suspend(), key, passphrase_file, organisation, rpc, wait, as_json)


@app.command()
def resume(
    id: DeviceId,
    key: RegistrarKey,
    organisation: Organisation = None,
    passphrase_file: PassphraseFile = None,
    wait: Wait = True,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """End a suspension.

    Example: securenet device resume 41b0… --key registrar.json
    """
    _update(id, Resume(), key, passphrase_file, organisation, rpc, wait, as_json)


@app.command()
def revoke(
    id: DeviceId,
    key: RegistrarKey,
    organisation: Organisation = None,
    passphrase_file: PassphraseFile = None,
    wait: Wait = True,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """End a device for good; its id is never used again.

    Example: securenet device revoke 41b0… --key registrar.json
    """
    _update(id, Revoke(), key, passphrase_file, organisation, rpc, wait, as_json)


@app.command("limits")
def set_limits(
    id: DeviceId,
    limits: Annotated[
        str, typer.Argument(metavar="LIMITS", help="Rate limits, as 10:1,300:60; '' for none.")
    ],
    key: RegistrarKey,
    organisation: Organisation = None,
    passphrase_file: PassphraseFile = None,
    wait: Wait = True,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Set how much a device may send.

    Example: securenet device limits 41b0… 10:1,300:60 --key registrar.json
    """
    change = SetLimits(limits=parse_rate_limits(limits))
    _update(id, change, key, passphrase_file, organisation, rpc, wait, as_json)


@app.command("roles")
def set_roles(
    id: DeviceId,
    key: RegistrarKey,
    role: Role = None,
    organisation: Organisation = None,
    passphrase_file: PassphraseFile = None,
    wait: Wait = True,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Set the roles of a device; those that are not named it loses.

    Example: securenet device roles 41b0… --role gateway --key registrar.json
    """
    change = SetRoles(roles=tuple(role or ()))
    _update(id, change, key, passphrase_file, organisation, rpc, wait, as_json)


@app.command()
def release(
    id: DeviceId,
    key: RegistrarKey,
    organisation: Organisation = None,
    passphrase_file: PassphraseFile = None,
    wait: Wait = True,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Take back a limit or a quarantine, which counts as a false alarm of those who caused it.

    Example: securenet device release 41b0… --key registrar.json
    """
    body = DeviceRelease(device=parse_address(id, "device id"))
    _send("device.release", body, key, passphrase_file, organisation, rpc, wait, as_json)


@app.command()
def appeal(
    key: DeviceKey,
    text: Annotated[str, typer.Option("--text", metavar="TEXT", help="Why, for the registrar.")],
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="ID", help="The device, where its key was rotated."),
    ] = None,
    organisation: Organisation = None,
    passphrase_file: PassphraseFile = None,
    wait: Wait = True,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Ask the registrar, in the device's name, to take back its limit or quarantine.

    There is one appeal against each; the answer is `device release` or `device refuse`.

    Example: securenet device appeal --key sensor.json --text 'a firmware update on Monday'
    """
    signing = open_key(key, passphrase_file)
    body = DeviceAppeal(text=text)

    async def question(client: Client) -> Document:
        sender = await find_device_sender(client, signing, organisation, device)
        return await submit(client, sender.sign("device.appeal", body), wait=wait)

    show_outcome(ask(rpc, question), as_json=as_json)


@app.command()
def refuse(
    id: DeviceId,
    key: RegistrarKey,
    organisation: Organisation = None,
    passphrase_file: PassphraseFile = None,
    wait: Wait = True,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Refuse the appeal of a device; its limit or quarantine stays.

    Example: securenet device refuse 41b0… --key registrar.json
    """
    _update(id, RefuseAppeal(), key, passphrase_file, organisation, rpc, wait, as_json)


def _update(
    id: str,
    change: Any,
    key: Path,
    passphrase_file: Path | None,
    organisation: str | None,
    rpc: str,
    wait: bool,
    as_json: bool,
) -> None:
    device: Address = parse_address(id, "device id")
    body = DeviceUpdate(device=device, change=change)
    _send("device.update", body, key, passphrase_file, organisation, rpc, wait, as_json)


def _send(
    kind: str,
    body: Any,
    key: Path,
    passphrase_file: Path | None,
    organisation: str | None,
    rpc: str,
    wait: bool,
    as_json: bool,
) -> None:
    registrar = open_key(key, passphrase_file)
    send_as_registrar(rpc, registrar, organisation, kind, body, wait=wait, as_json=as_json)
