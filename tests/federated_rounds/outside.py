"""An aggregate computed again by somebody who has the RPC alone, and no miner's store or state.

The arithmetic is that of miners, from shares to the rule; `tests.learners.expected` and the vectors
are there to say whether it is right. What differs is where all comes from: reveals are read from
the round's transactions, each with its proof, updates and the aggregate from the blobs.
docs/spec/federated.md, section 6: what a closed round leaves is enough for this.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from chain.federated.records import FederatedRound, RevealRecord
from chain.kinds import KINDS
from chain.kinds.participation import UpdateReveal
from chain.types import Address, Digest
from cli.client import Client
from cli.federated.chain_port import fetch_round
from cli.proofs import prove_transaction
from ml_validator.federated import Contribution, contribution_of, encode_update, join


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A closed round as it can be seen from outside.

    Parameters
    ----------
    events : list of tuple of str
        What its blocks have brought about: a name, then values.
    aggregate : bytes
        As computed here.
    contributions : dict of int to Contribution
        By group.
    """

    found: FederatedRound
    events: list[tuple[str, ...]]
    aggregate: bytes
    contributions: dict[int, Contribution]

    def is_between(self, groups: Iterable[int]) -> bool:
        """Tell whether no coordinate of the aggregate is beyond those that `groups` contribute."""
        rows = np.array([self.contributions[group].values for group in groups])
        joined = np.frombuffer(self.aggregate, "<i8")
        return bool(np.all((rows.min(axis=0) <= joined) & (joined <= rows.max(axis=0))))


async def read_blob(client: Client, digest: Digest) -> bytes:
    """Return a blob as a node hands it out."""
    return b"".join([part async for part in client.blob(digest.hex())])


async def see(client: Client, round_id: Digest) -> Seen:
    """Compute the aggregate of a finished round."""
    found = await fetch_round(client, round_id)
    reveals: dict[Address, RevealRecord] = {}
    events: list[tuple[str, ...]] = []
    for height in range(found.opened_height, found.phase_height + 1):
        block = await client.block(height)
        events += [_said(event) for event in block["events"]]
        for id in block["transaction_ids"]:
            document = await client.transaction(id)
            events += [_said(event) for event in document["receipt"]["events"]]
            if document["transaction"]["kind"] != "update.reveal":
                continue
            proven = await prove_transaction(client, Digest(bytes.fromhex(id)), trust=None)
            body: UpdateReveal = KINDS["update.reveal"].decode(proven.transaction)
            if body.round == round_id:
                sender = Address(proven.transaction.payload.sender)
                reveals[sender] = RevealRecord(shares=body.shares)
    blobs = {
        member.device: await read_blob(client, member.update)
        for member in found.members
        if member.status == "included" and member.update is not None
    }
    contributions = {
        group: contribution_of(round_id, found, group, reveals=reveals, blobs=blobs)
        for group in found.groups
    }
    aggregate = encode_update(join(found, list(contributions.values())))
    return Seen(found=found, events=events, aggregate=aggregate, contributions=contributions)


def _said(event: dict[str, Any]) -> tuple[str, ...]:
    return (event["name"], *map(str, event["values"]))
