"""Vectors of the tags, and of every id, digest and message that is not of a transaction."""

from typing import Any

from chain import codec
from chain.admission import registrar_subjects
from chain.certificate import VOTE_TAG, VoteType, vote_bytes
from chain.crypto import address_of, domain
from chain.genesis import render_genesis
from chain.kinds.device_registry import (
    ROTATION_TAG,
    device_id,
    sign_rotation,
)
from chain.kinds.evidence import EVIDENCE_TAG, evidence_digest
from chain.kinds.miners import (
    ACCEPTANCE_TAG,
    REPLACEMENT_TAG,
    ReplaceKeys,
    sign_acceptance,
)
from chain.kinds.organisations import organisation_id
from chain.types import Height, Round
from tests.builders import (
    ACCEPTANCE_MS,
    Chain,
    digest_of,
    key_of,
    make_genesis,
    make_miner_set,
    make_model,
)

TAGS = (
    "securenet/address/v1",
    "securenet/organisation-id/v1",
    "securenet/device-id/v1",
    "securenet/genesis/v1",
    "securenet/transaction/v1",
    "securenet/transaction-id/v1",
    "securenet/transaction-digest/v1",
    "securenet/header/v1",
    "securenet/miner-set/v1",
    "securenet/vote/v1",
    "securenet/key-rotation/v1",
    "securenet/miner-acceptance/v1",
    "securenet/miner-key-replacement/v1",
    "securenet/registrar-rate/v1",
    "securenet/evidence/v1",
    "securenet/judged-flows/v1",
    "securenet/blob/v1",
    "securenet/file-id/v1",
    "securenet/file-chunk/v1",
    "securenet/file-key/v1",
    "securenet/file-name/v1",
    "securenet/round-draw/v1",
    "securenet/state-key/v1",
    "securenet/state-value/v1",
    "securenet/state-leaf/v1",
    "securenet/state-branch/v1",
)
"""Every tag of the chain; consensus has its own beside `securenet/vote/v1`."""


def digests() -> dict[str, Any]:
    """Return tags with their domains, and every id and digest that is not of a transaction."""
    genesis = make_genesis(model=make_model())
    miners = make_miner_set(4)
    device_key = key_of("device sensor")
    device = device_id(genesis.hash, organisation_id("acme"), device_key.public)
    new_key = key_of("new key of sensor", "p256")
    miner_key, node_key = key_of("miner 4"), key_of("node 4")
    valid_until_ms = genesis.time_ms + ACCEPTANCE_MS
    vote = {"height": 7, "round": 2, "digest": digest_of("a block")}
    message = vote_bytes(
        genesis_hash=genesis.hash,
        type=VoteType.COMMIT,
        height=Height(7),
        round=Round(2),
        digest=digest_of("a block"),
    )
    chain = Chain(genesis)
    crime = chain.equivocation(1, type="commit", round=2)
    replacement = chain.replacement(key="key 3b", node_key="node 3b").change
    assert isinstance(replacement, ReplaceKeys), "it was asked for"
    shown: dict[str, Any] = {"height": Height(0), "block_hash": chain.hash_of(0)}
    return {
        "tags": [{"tag": tag, "domain": domain(tag.encode()).hex()} for tag in TAGS],
        "miner_id": {"key": miner_key.public.hex(), "id": address_of(miner_key.public).hex()},
        "organisation_id": {"name": "acme", "id": organisation_id("acme").hex()},
        "device_id": {
            "genesis_hash": genesis.hash.hex(),
            "organisation": organisation_id("acme").hex(),
            "first_key": device_key.public.hex(),
            "id": device.hex(),
        },
        "genesis": {"document": render_genesis(genesis), "hash": genesis.hash.hex()},
        "miner_set": {
            "members": [{"id": member.id.hex(), "key": member.key.hex()} for member in miners],
            "hash": miners.hash.hex(),
        },
        "key_rotation": {
            "tag": ROTATION_TAG.decode(),
            "genesis_hash": genesis.hash.hex(),
            "device": device.hex(),
            "new_key": new_key.public.hex(),
            "message": codec.encode((genesis.hash, device, new_key.public)).hex(),
            "proof": sign_rotation(genesis.hash, device, new_key).hex(),
        },
        "miner_acceptance": {
            "tag": ACCEPTANCE_TAG.decode(),
            "genesis_hash": genesis.hash.hex(),
            "key": miner_key.public.hex(),
            "node_key": node_key.public.hex(),
            "height": shown["height"],
            "block_hash": shown["block_hash"].hex(),
            "valid_until_ms": valid_until_ms,
            "message": codec.encode(
                (
                    genesis.hash,
                    miner_key.public,
                    node_key.public,
                    shown["height"],
                    shown["block_hash"],
                    valid_until_ms,
                )
            ).hex(),
            "acceptance": sign_acceptance(
                genesis.hash,
                miner_key,
                node_key.public,
                **shown,
                valid_until_ms=valid_until_ms,
            ).hex(),
        },
        "miner_key_replacement": {
            "tag": REPLACEMENT_TAG.decode(),
            "genesis_hash": genesis.hash.hex(),
            "miner": replacement.miner.hex(),
            "key": replacement.key.hex(),
            "node_key": replacement.node_key.hex(),
            "valid_until_ms": replacement.valid_until_ms,
            "message": codec.encode(
                (
                    genesis.hash,
                    replacement.miner,
                    replacement.key,
                    replacement.node_key,
                    replacement.valid_until_ms,
                )
            ).hex(),
            "by_old": replacement.by_old.hex(),
            "by_new": replacement.by_new.hex(),
            "by_node": replacement.by_node.hex(),
        },
        "registrar_rate": {
            "organisation": organisation_id("acme").hex(),
            "subject": registrar_subjects(organisation_id("acme"))[0].hex(),
        },
        "commit_vote": {
            "tag": VOTE_TAG.decode(),
            "key": miner_key.public.hex(),
            "genesis_hash": genesis.hash.hex(),
            "height": vote["height"],
            "round": vote["round"],
            "digest": digest_of("a block").hex(),
            "message": message.hex(),
            "signature": miner_key.sign(VOTE_TAG, message).hex(),
        },
        "evidence": {
            "tag": EVIDENCE_TAG.decode(),
            "first": crime.first.hex(),
            "second": crime.second.hex(),
            "message": codec.encode((crime.first, crime.second)).hex(),
            "digest": evidence_digest(crime).hex(),
        },
    }
