"""A participant whose update comes from a ClientApp of Flower."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from chain.types import Digest
from cli.client import Client
from cli.errors import CliError, Refused, TimedOut
from cli.federated.chain_port import ChainPort, RoundReader
from cli.federated.flower.anchoring import check_round
from cli.federated.flower.models import base_digest
from cli.federated.follow import Patience
from cli.federated.memory import MemoryStore
from cli.federated.participant import Participant
from cli.signing import Sender
from ml_validator.federated.fixed_point import Floats
from node.random_source import SystemRandom

POLL_S: Final = 0.5
TIMEOUT_S: Final = 3_600.0
"""As long as Flower itself waits for the replies of a round."""


async def anchor_update(
    client: Client,
    sender: Sender,
    round_id: Digest,
    *,
    trust: Digest | None,
    base: Floats,
    train: Callable[[], Awaitable[Floats]],
) -> bytes:
    """Take part in a round up to the update that the chain and the node have, and return it.

    Flower never sends a message twice, so nothing is remembered beyond it: whoever was stopped in
    the middle sits the round out.

    Parameters
    ----------
    trust : Digest or None
        As in `RoundReader`.
    base : ndarray of shape (n_parameters,), float64
        The model that came by Flower.
    train : callable
        Makes the update; called once, when all have joined.

    Raises
    ------
    BadInput, Missed
        The round is not about this model.
    Refused
        The device is not invited, or the round is over before its update is in.
    TimedOut
        The round does not go on.
    """
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader = RoundReader(client, trust)
            with TemporaryDirectory(prefix="securenet-flower-") as home:
                store = MemoryStore(Path(home))
                part = Participant(
                    round_id,
                    sender.address,
                    store=store,
                    port=ChainPort(client, sender, reader),
                    train=lambda terms, steps: train(),
                    random=SystemRandom(),
                )
                await _deliver(reader, round_id, part, base)
                memory = store.find(round_id, sender.address)
                assert memory is not None, "it has delivered an update"
                return store.load_update(memory)
    except TimeoutError as error:
        raise TimedOut(
            f"federated round {round_id.hex()} does not go on", "securenet fl status, consensus why"
        ) from error


async def _deliver(reader: RoundReader, round_id: Digest, part: Participant, base: Floats) -> None:
    patience = Patience()
    digest = base_digest(base)
    while not part.has_delivered:
        try:
            found = await reader.find(round_id)
            check_round(found, base=digest, parameter_count=len(base))
            if not found.is_open:
                detail = f"the federated round is {found.phase}"
                raise Refused(status=422, code="round_closed", detail=detail)
            await part.act(found)
            patience.renew()
        except CliError as error:
            await patience.bear(error)
        await asyncio.sleep(POLL_S)
