"""A federated round of all devices on the chain behind the RPC, up to its first revelation."""

from hashlib import sha256
from typing import Any

from chain.crypto import address_of
from chain.federated.boxes import Handover, ShareKind, public_key_of, share_hash
from chain.federated.records import SHARE_SIZE
from chain.kinds.device_registry import DeviceUpdate, SetRoles
from chain.kinds.participation import (
    RoundJoin,
    RoundShare,
    UpdateCommit,
    UpdateReveal,
)
from chain.kinds.rounds import Invitation, RoundAttest, RoundOpen
from chain.transactions import Transaction
from chain.types import Address, Digest
from tests.federation import make_terms
from tests.unit.node.rpc.chain_node import DEVICES, MINERS, ORGANISATION, REGISTRAR, ChainNode

SHARE = bytes(SHARE_SIZE)


def members(node: ChainNode) -> list[Address]:
    """Return the devices in the order in which a round has them."""
    return sorted(node.device(index) for index in range(len(DEVICES)))


async def open_round(node: ChainNode) -> Digest:
    """Make all devices participants, open a round for them, and return its id."""
    await node.mine(
        *[
            node.sign(
                "device.update",
                DeviceUpdate(device=device, change=SetRoles(roles=("participant",))),
                REGISTRAR,
                ORGANISATION,
            )
            for device in members(node)
        ]
    )
    body = RoundOpen(
        terms=make_terms(node.chain.tip.next_height, group_size=3),
        participants=tuple(
            [Invitation(device=device, weight=1, steps=5) for device in members(node)]
        ),
    )
    opening = node.sign("round.open", body, REGISTRAR, ORGANISATION)
    await node.mine(opening)
    return opening.id


async def play_round(node: ChainNode) -> Digest:
    """Open a round, let it come to `reveal`, let one member reveal its shares, return its id."""
    round_id = await open_round(node)
    devices = members(node)
    await node.mine(*[join(node, round_id, device) for device in devices])
    node.now_ms += 2_000
    await node.mine()
    await node.mine(*[share(node, round_id, device) for device in devices])
    await node.mine(*[commit(node, round_id, device) for device in devices])
    attest = RoundAttest(round=round_id, held=b"\x07")
    await node.mine(
        *[
            node.sign("round.attest", attest, miner, address_of(miner.public))
            for miner in MINERS[:2]
        ]
    )
    reveal = UpdateReveal(round=round_id, shares=(SHARE, None, SHARE))
    await node.mine(by(node, devices[0], "update.reveal", reveal))
    return round_id


def by(node: ChainNode, device: Address, kind: str, body: Any) -> Transaction:
    """Return a transaction of a device."""
    keys = {node.device(index): key for index, key in enumerate(DEVICES)}
    return node.sign(kind, body, keys[device], device)


def join(node: ChainNode, round_id: Digest, device: Address) -> Transaction:
    """Return a device's `round.join`."""
    body = RoundJoin(
        round=round_id,
        mask_key=public_key_of(sha256(device).digest()),
        box_key=public_key_of(device),
    )
    return by(node, device, "round.join", body)


def share(node: ChainNode, round_id: Digest, device: Address) -> Transaction:
    """Return a device's `round.share`; every share is zeros."""
    hashes = [
        share_hash(SHARE, kind, Handover(round_id=round_id, owner=device, receiver=receiver))
        for receiver in members(node)
        for kind in ShareKind
    ]
    body = RoundShare(round=round_id, hashes=b"".join(hashes), boxes=b"")
    return by(node, device, "round.share", body)


def commit(node: ChainNode, round_id: Digest, device: Address) -> Transaction:
    """Return a device's `update.commit`."""
    terms = make_terms()
    body = UpdateCommit(
        round=round_id, base=terms.base, size_bytes=terms.update_size, root=Digest(device)
    )
    return by(node, device, "update.commit", body)
