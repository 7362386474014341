"""The organisation that opens the rounds of a Flower federation, and waits for their outcome."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from chain.crypto import SigningKey
from chain.federated.records import FederatedRound
from chain.types import Address, Digest
from cli.client import Client, ask
from cli.errors import CliError, TimedOut
from cli.federated.chain_port import fetch_round
from cli.federated.flower.anchoring import included
from cli.federated.flower.models import base_digest
from cli.federated.follow import Patience
from cli.federated.opening import RoundPlan, opening
from cli.models import fetch_blob
from cli.signing import registrar_sender, submit
from ml_validator.federated.fixed_point import Floats

POLL_S: Final = 0.5
TIMEOUT_S: Final = 7_200.0
"""The deadlines of a round are heights: with these, of a chain that goes on, it is over by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinator:
    """Opens and follows rounds by one node's RPC.

    Parameters
    ----------
    rpc : str
        As ``http://127.0.0.1:26757``.
    key : SigningKey
        Of the organisation's registrar; `cli.key_files.open_key` reads it.
    plan : RoundPlan
        Whom to invite, rule and bounds. Groups are of one, and an update is of one step: all that a
        ClientApp has changed; `clip` bounds its length.
    organisation : str, optional
        Its name, where genesis does not say whose key this is.
    """

    rpc: str
    key: SigningKey = field(repr=False)
    plan: RoundPlan
    organisation: str | None = None

    def open_round(self, number: int, base: Floats) -> Digest:
        """Open a round from a model, and return its id; raises `CliError`."""
        name = f"{self.plan.name}-{number}"
        plan = replace(self.plan, name=name, group_size=1, steps=1)

        async def question(client: Client) -> Digest:
            body = await opening(client, plan, base=base_digest(base), parameter_count=len(base))
            sender = registrar_sender(await client.genesis(), self.key, self.organisation)
            answer = await submit(client, sender.sign("round.open", body), wait=True)
            return Digest(bytes.fromhex(answer["id"]))

        return ask(self.rpc, question)

    def outcome(self, round_id: Digest) -> FederatedRound:
        """Return a round once it is over.

        Raises
        ------
        CliError
            The node does not answer, or the round is not over in `TIMEOUT_S`.
        """
        return ask(self.rpc, lambda client: _outcome(client, round_id))

    def complete(
        self, found: FederatedRound, held: Mapping[Address, bytes]
    ) -> dict[Address, bytes]:
        """Return all included updates: those that are held, and the others from the node.

        Raises
        ------
        CliError
            The node does not have one.
        """

        async def question(client: Client) -> dict[Address, bytes]:
            size = found.terms.update_size
            return {
                device: held[device]
                if device in held
                else await fetch_blob(client, digest, size_max=size)
                for device, digest in included(found).items()
            }

        return ask(self.rpc, question)


async def _outcome(client: Client, round_id: Digest) -> FederatedRound:
    patience = Patience()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                try:
                    found = await fetch_round(client, round_id)
                    patience.renew()
                    if not found.is_open:
                        return found
                except CliError as error:
                    await patience.bear(error)
                await asyncio.sleep(POLL_S)
    except TimeoutError as error:
        raise TimedOut(
            f"federated round {round_id.hex()} is not over", "securenet fl status, consensus why"
        ) from error
