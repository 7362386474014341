"""Which of the updates that come by Flower count: those that the chain has, and no others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from chain.blobs import blob_digest
from chain.federated.records import FederatedRound
from chain.types import Address, Digest
from cli.errors import BadInput, Missed
from ml_validator.federated.aggregation import contribution
from ml_validator.federated.fixed_point import Integers
from ml_validator.federated.on_chain import aggregate_of

ROUND: Final = "securenet-round"
"""Names the federated round, in hex, in the configuration of a training message."""
UPDATE: Final = "securenet-update"
"""Names the update in a reply: the very bytes whose digest is on the chain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What came from a node of Flower; `update` is None where it is no update at all."""

    sender: str
    update: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An offer that does not count, and why: a code of docs/federated.md."""

    sender: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What counts, and what does not.

    Parameters
    ----------
    updates : mapping of Address to bytes
        By the participants who have committed them.
    accepted : sequence of str
        Who sent them.
    """

    updates: Mapping[Address, bytes]
    accepted: Sequence[str]
    refused: Sequence[Refusal]


def check_round(found: FederatedRound, *, base: Digest, parameter_count: int) -> None:
    """Make sure that a round is about the model that came by Flower.

    Raises
    ------
    BadInput
        It is another kind of round.
    Missed
        It starts from another model: not all participants were sent the same.
    """
    if found.terms.is_masked or found.terms.parameter_count != parameter_count:
        raise BadInput(
            f"the federated round is of {found.terms.parameter_count} parameters in groups of "
            f"{found.terms.group_size}, not of {parameter_count} in groups of 1",
            "rounds for Flower are opened by its ServerApp",
        )
    if found.terms.base != base:
        raise Missed(
            "the model that was sent is not the one from which the federated round starts",
            "sit this round out: the server sends different models to different participants",
        )


def judge(found: FederatedRound, offers: Sequence[Offer]) -> Judgement:
    """Tell which offers count in a round that is over."""
    updates: dict[Address, bytes] = {}
    accepted, refused = [], []
    for offer in offers:
        update = offer.update
        if update is None:
            code = "no_update"
        elif len(update) != found.terms.update_size:
            code = "wrong_shape"
        elif (device := _committed(found, blob_digest(update))) is None:
            code = "not_on_chain"
        elif device not in included(found):
            code = "not_included"
        elif device in updates:
            code = "repeated"
        else:
            updates[device] = update
            accepted.append(offer.sender)
            continue
        refused.append(Refusal(sender=offer.sender, code=code))
    return Judgement(updates=updates, accepted=accepted, refused=refused)


def included(found: FederatedRound) -> dict[Address, Digest]:
    """Return the updates that are in the aggregate of a finished round."""
    return {
        member.device: member.update
        for member in found.members
        if member.status == "included" and member.update is not None
    }


def aggregated(
    round_id: Digest, found: FederatedRound, updates: Mapping[Address, bytes]
) -> Integers:
    """Return the aggregate of all included updates, which has to be that of the miners.

    Raises
    ------
    Missed
        It is not.
    """
    total = aggregate_of(round_id, found, reveals={}, blobs=updates)
    if contribution(total).digest != found.aggregate:
        raise Missed(
            f"federated round {round_id.hex()}: the miners have agreed on another aggregate",
            "compare the versions of SecureNet here and there",
        )
    return total


def _committed(found: FederatedRound, update: Digest) -> Address | None:
    return next((m.device for m in found.members if m.update == update), None)
