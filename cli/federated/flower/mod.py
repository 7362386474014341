"""What goes around a ClientApp of Flower, so that updates are on the chain before they leave.

::

    app = ClientApp(mods=[anchored])

The SuperNode says which device takes part, and by which node of its own organisation::

    flower-supernode --node-config 'securenet-key="gateway.json" securenet-rpc="http://…"' …
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from flwr.app import Array, ArrayRecord, Context, Message, MessageType, RecordDict

from chain.types import Digest
from cli.arguments import parse_digest
from cli.client import Client, ask
from cli.errors import BadInput
from cli.federated.flower.anchoring import ROUND, UPDATE
from cli.federated.flower.member import anchor_update
from cli.federated.flower.models import Arrays, difference, flattened
from cli.key_files import open_key
from cli.signing import find_device_sender
from ml_validator.federated.fixed_point import Floats


def anchored(
    message: Message, context: Context, call_next: Callable[[Message, Context], Message]
) -> Message:
    """Let the ClientApp train, commit the update's digest on the chain, and send the update.

    Everything but training goes through as it is. A message to train that names no federated round
    is refused, so that no update leaves unseen by the chain.

    Raises
    ------
    SecureNetError
        The device takes no part in the round; Flower tells the server that the node has failed.
    """
    if message.metadata.message_type.split(".")[0] != MessageType.TRAIN:
        return call_next(message, context)
    round_id, base = _round_of(message), _arrays_of(message)
    settings = {name: str(value) for name, value in context.node_config.items()}
    passphrase = settings.get("securenet-passphrase-file")
    key = open_key(
        Path(_setting(settings, "securenet-key")), None if passphrase is None else Path(passphrase)
    )
    trusted = settings.get("securenet-trust")
    trust = None if trusted is None else parse_digest(trusted, "hash")
    replies: list[Message] = []

    async def train() -> Floats:
        reply = await asyncio.to_thread(call_next, message, context)
        if reply.has_error():
            raise BadInput(f"training failed: {reply.error.reason}", "see the log of the ClientApp")
        replies.append(reply)
        return difference(base, _arrays_of(reply))

    async def take_part(client: Client) -> bytes:
        sender = await find_device_sender(
            client, key, settings.get("securenet-organisation"), settings.get("securenet-device")
        )
        return await anchor_update(
            client, sender, round_id, trust=trust, base=flattened(base), train=train
        )

    update = ask(_setting(settings, "securenet-rpc"), take_part)
    record = ArrayRecord({UPDATE: Array("int64", (len(update) // 8,), UPDATE, update)})
    metrics = replies[0].content.metric_records
    return Message(RecordDict({UPDATE: record, **metrics}), reply_to=message)


def _round_of(message: Message) -> Digest:
    for record in message.content.config_records.values():
        if ROUND in record:
            return parse_digest(str(record[ROUND]), "round id")
    raise BadInput(
        "the message to train names no federated round",
        "the ServerApp needs the strategy of cli.federated.flower.strategy",
    )


def _arrays_of(message: Message) -> Arrays:
    records = list(message.content.array_records.values())
    if len(records) != 1:
        raise BadInput(f"a message with {len(records)} models", "send one ArrayRecord")
    return {name: array.numpy() for name, array in records[0].items()}


def _setting(settings: dict[str, str], name: str) -> str:
    if name not in settings:
        raise BadInput(f"the SuperNode has no {name}", "give it with --node-config")
    return settings[name]
