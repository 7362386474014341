"""Whoever signs transactions: a device, an organisation's registrar or a miner, on one chain."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from chain.crypto import SigningKey, address_of
from chain.genesis import Genesis
from chain.kinds import KINDS
from chain.kinds.device_registry import device_id
from chain.kinds.organisations import organisation_id
from chain.transactions import TRANSACTION_VERSION, Payload, Transaction, sign_transaction
from chain.types import NONCE_SIZE, Address, Digest, PublicKey, TimestampMs
from cli.arguments import parse_address
from cli.client import Client, Document
from cli.errors import BadInput, Refused
from cli.progress import Progress
from cli.stall import ask_trouble
from node.clock import SystemClock
from node.random_source import SystemRandom

COMMIT_TIMEOUT_S: Final = 60.0
"""As long as a transaction lives by default: later it cannot be committed any more."""

MINERS_KNOWN_MAX: Final = 10_000
"""So many miners, removed ones included, are looked through."""

_CLOCK: Final = SystemClock()
_RANDOM: Final = SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Signs in the name of one address of a chain."""

    genesis_hash: Digest
    address: Address
    key: SigningKey

    def sign(self, kind: str, body: Any, *, time_ms: int | None = None) -> Transaction:
        """Return a signed transaction with a fresh nonce, made now unless `time_ms` is given."""
        return self.sign_body(kind, KINDS[kind].body.encode(body), time_ms=time_ms)

    def sign_body(self, kind: str, body: bytes, *, time_ms: int | None = None) -> Transaction:
        """Do the same with a body that is encoded already."""
        payload = Payload(
            version=TRANSACTION_VERSION,
            genesis_hash=self.genesis_hash,
            kind=kind,
            sender=self.address,
            time_ms=TimestampMs(_CLOCK.wall_ms() if time_ms is None else time_ms),
            nonce=_RANDOM.bytes(NONCE_SIZE),
            body=body,
        )
        return sign_transaction(payload, self.key)


async def find_miner_sender(client: Client, genesis: Genesis, key: SigningKey) -> Sender:
    """Return the miner whose key this is, or the one that would begin with it.

    A miner whose key was replaced is not called by its present one.
    """
    miner = await find_miner(client, key.public)
    address = address_of(key.public) if miner is None else Address(bytes.fromhex(miner["id"]))
    return Sender(genesis_hash=genesis.hash, address=address, key=key)


async def find_miner(client: Client, key: PublicKey) -> Document | None:
    """Return what the registry has of the miner with this key; None where there is none."""
    for miner in await client.pages("/v1/miners", limit=MINERS_KNOWN_MAX):
        if miner["key"] == key.hex():
            return miner
    return None


def registrar_sender(genesis: Genesis, key: SigningKey, organisation: str | None) -> Sender:
    """Return the organisation whose registrar has this key.

    Raises
    ------
    BadInput
        No organisation is named, and genesis names none with this key.
    """
    if organisation is None:
        names = [o.name for o in genesis.organisations if o.registrar_key == key.public]
        if len(names) != 1:
            raise BadInput(
                "of the organisations in genesis none has this key as its registrar's",
                "sign with the registrar's key (testnet: DIR/registrar.json), or name an "
                "organisation that was voted in later with --organisation",
            )
        (organisation,) = names
    return Sender(genesis_hash=genesis.hash, address=organisation_id(organisation), key=key)


def device_sender(genesis: Genesis, key: SigningKey, *, organisation: str) -> Sender:
    """Return the device that was registered by `organisation` under this key."""
    address = device_id(genesis.hash, organisation_id(organisation), key.public)
    return Sender(genesis_hash=genesis.hash, address=address, key=key)


async def find_device_sender(
    client: Client, key: SigningKey, organisation: str | None, device: str | None
) -> Sender:
    """Return the device called `device`, or whose first key this is.

    For the latter the organisations of genesis are looked at, unless one is named.

    Raises
    ------
    BadInput
        There is none; a device that has another key by now has to be named.
    """
    genesis = await client.genesis()
    if device is not None:
        address = parse_address(device, "device id")
        return Sender(genesis_hash=genesis.hash, address=address, key=key)
    names: Sequence[str] = (
        [o.name for o in genesis.organisations] if organisation is None else [organisation]
    )
    for name in names:
        sender = device_sender(genesis, key, organisation=name)
        try:
            await client.device(sender.address.hex())
        except Refused as refusal:
            if refusal.status != 404:
                raise
        else:
            return sender
    raise BadInput(
        f"under this key no device was registered by {', '.join(names)}",
        "register it (securenet device register), or name it with --device if its key was rotated",
    )


async def submit(client: Client, transaction: Transaction, *, wait: bool) -> Document:
    """Send a transaction and return its id and status; with `wait`, once it is committed.

    A long wait says on stderr, once, why the chain does not go on.

    Raises
    ------
    DecodeError
        A value in it is out of bounds; no node would take it, so none is asked.
    Refused
        The node refuses it, or it was rejected later.
    TimedOut
        It is not committed in time.
    """
    KINDS[transaction.payload.kind].decode(transaction)
    id = transaction.id.hex()
    answer = await client.submit(transaction.wire, wait=wait)
    if not wait:
        return {"id": id, "status": "pending"}
    if answer.get("status") != "committed":
        # The node has waited for a while already.
        trouble = await ask_trouble(client)
        why = "" if trouble is None else f": {trouble['explanation']}"
        Progress().phase(f"transaction {id[:12]} is not committed yet{why}")
        answer = await client.wait_committed(id, timeout_s=COMMIT_TIMEOUT_S)
    return answer
