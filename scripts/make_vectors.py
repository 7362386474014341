"""Write the golden vectors in tests/vectors/, from which a client in any language can be tested.

Run it from the project's folder, ``python -m scripts.make_vectors``, after a change to the bytes;
such a change belongs into docs/spec/encoding.md and the CHANGELOG too.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chain import codec
from chain.admission import registrar_subjects
from chain.blobs import CHUNK_SIZE, blob_digest, prove_chunk
from chain.blocks import (
    BLOCK_RECEIPT,
    BLOCK_VERSION,
    HEADER,
    RECEIPT,
    encode_block,
    render_header,
)
from chain.certificate import CERTIFICATE, VOTE_TAG, VoteType, vote_bytes
from chain.crypto import address_of, domain
from chain.federated.boxes import (
    Handover,
    ShareKind,
    close_box,
    element,
    pads_of,
    public_key_of,
    share_hash,
)
from chain.federated.draw import draw_groups
from chain.federated.records import BOX_SIZE, SHARE_SIZE, threshold
from chain.genesis import genesis_header, render_genesis
from chain.kinds import KINDS
from chain.kinds.appeal import DeviceAppeal
from chain.kinds.device_registry import (
    ROTATION_TAG,
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
from chain.kinds.evidence import EVIDENCE_TAG, evidence_digest
from chain.kinds.miners import (
    ACCEPTANCE_TAG,
    REPLACEMENT_TAG,
    MinerPropose,
    MoveMiner,
    RemoveMiner,
    ReplaceKeys,
    RestoreMiner,
    sign_acceptance,
)
from chain.kinds.models import ModelActivate
from chain.kinds.organisations import OrganisationChange, organisation_id
from chain.kinds.parameter_change import ParameterChange
from chain.kinds.participation import (
    RoundComplaint,
    RoundJoin,
    RoundShare,
    UpdateCommit,
    UpdateReveal,
)
from chain.kinds.policy import PolicySet
from chain.kinds.rounds import RoundAbort, RoundAggregate, RoundAttest
from chain.kinds.verdict import Verdict, opinion_of, pack_opinions
from chain.kinds.vote import MinerVote
from chain.limits import parse_limits
from chain.merkle import MerkleTree, inclusion_proof, leaf_hash, merkle_root
from chain.payloads import Chunked, Flow, Measurement, Reading
from chain.records.policies import PolicyRecord
from chain.records.tables import TABLES
from chain.state_tree import STATE_PROOF, StateTree
from chain.transactions import PAYLOAD, SIGNATURE_TAG, Transaction
from chain.types import Address, Height, Round
from scripts.aggregation_cases import aggregation
from scripts.file_cases import file_cases
from scripts.signature_cases import key_cases, signature_cases
from tests.builders import (
    ACCEPTANCE_MS,
    MODEL,
    SCHEMA,
    Chain,
    Device,
    digest_of,
    flow,
    key_of,
    make_genesis,
    make_miner_set,
    make_model,
    reading,
    with_parameters,
)
from tests.federation import BASE, Federation, participants

FOLDER = Path("tests/vectors")

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


def vectors() -> dict[str, Any]:
    """Return the documents by the names of their files."""
    return {
        "encoding.json": encoding(),
        "signatures.json": {"keys": key_cases(), "signatures": signature_cases()},
        "merkle.json": merkle(),
        "blobs.json": blobs(),
        "files.json": file_cases(),
        "state_tree.json": state_tree(),
        "digests.json": digests(),
        "transactions.json": transactions(),
        "chain.json": whole_chain(),
        "algorithm_1.json": algorithm_1(),
        "aggregation.json": aggregation(),
        "federated.json": federated(),
    }


def render(document: Any) -> str:
    """Return the text of a file."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the files."""
    for name, document in vectors().items():
        (FOLDER / name).write_text(render(document), encoding="utf-8")


# --- canonical bytes ------------------------------------------------------------------------------


def encoding() -> dict[str, Any]:
    """Return values with their bytes, and bytes that are refused; ``{"hex": …}`` is bytes."""
    values: list[list[Any]] = [
        [],
        [None, False, True],
        [0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**64 - 1],
        [-1, -32, -33, -128, -129, -32_768, -32_769, -(2**31), -(2**31) - 1, -(2**63)],
        [b"", b"\x00", bytes(255), bytes(256)],
        ["", "a", "grün", "x" * 31, "x" * 32, "x" * 255, "x" * 256],
        [[], [[]], [1, [2, [3]]]],
        [0] * 15,
        [0] * 16,
    ]
    refused = {
        "": "nothing at all",
        "c0": "not an array",
        "9000": "bytes behind the value",
        "9101ff": "bytes behind the value",
        "92c0": "an item is missing",
        "91cc7f": "an integer with a longer head than it needs",
        "91cd00ff": "an integer with a longer head than it needs",
        "91d07f": "a positive integer in a signed form",
        "91d0e0": "a negative integer with a longer head than it needs",
        "91c500016a": "a byte string with a longer head than it needs",
        "91d90161": "a string with a longer head than it needs",
        "dc0000": "an array with a longer head than it needs",
        "9180": "a map",
        "91ca00000000": "a float",
        "91d6ff00000000": "an extension",
        "91a1ff": "a string that is not UTF-8",
    }
    return {
        "accepted": [
            {"value": _typed(value), "bytes": codec.encode(value).hex()} for value in values
        ],
        "refused": [{"bytes": data, "reason": reason} for data, reason in refused.items()],
    }


def _typed(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    return [_typed(item) for item in value] if isinstance(value, list) else value


# --- trees ----------------------------------------------------------------------------------------


def merkle() -> list[dict[str, Any]]:
    """Return lists of leaves with their roots and the paths of all leaves."""
    cases = []
    for count in (0, 1, 2, 3, 4, 5, 7, 8, 9):
        leaves = [bytes([number]) * number for number in range(count)]
        cases.append(
            {
                "leaves": _hex(leaves),
                "root": merkle_root(leaves).hex(),
                "paths": [_hex(inclusion_proof(leaves, index)) for index in range(count)],
            }
        )
    return cases


def blobs() -> list[dict[str, Any]]:
    """Return blobs whose byte i is i mod 251, with their digests and the path of the last chunk."""
    cases = []
    for size in (1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 3 * CHUNK_SIZE + 5):
        data = bytes(number % 251 for number in range(size))
        parts = [data[start : start + CHUNK_SIZE] for start in range(0, size, CHUNK_SIZE)]
        hashes = [leaf_hash(part) for part in parts]
        last = prove_chunk(size, MerkleTree(hashes), len(parts) - 1, parts[-1])
        cases.append(
            {
                "size": size,
                "digest": blob_digest(data).hex(),
                "root": last.root.hex(),
                "last_chunk": {"index": last.index, "path": _hex(last.path)},
            }
        )
    return cases


def state_tree() -> list[dict[str, Any]]:
    """Return maps with their roots and proofs, of present and of absent keys."""
    cases = []
    for count in (0, 1, 2, 3, 8):
        entries: dict[bytes, bytes | None] = {
            b"key/%d" % number: b"value %d" % number for number in range(count)
        }
        tree = StateTree().updated(entries)
        keys = [*entries, b"absent/1", b"absent/2"]
        cases.append(
            {
                "entries": [
                    {"key": key.hex(), "value": (value or b"").hex()}
                    for key, value in entries.items()
                ],
                "root": tree.root.hex(),
                "proofs": [
                    {
                        "key": key.hex(),
                        "value": _hex_or_none(entries.get(key)),
                        "proof": STATE_PROOF.render(tree.prove(key)),
                    }
                    for key in keys
                ],
            }
        )
    return cases


# --- digests and ids ------------------------------------------------------------------------------


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


# --- transactions ---------------------------------------------------------------------------------


def transactions() -> list[dict[str, Any]]:
    """Return at least one transaction of every kind, in all its forms."""
    chain = Chain(make_genesis(model=make_model()))
    return [
        {"name": name, **_forms(transaction, key)} for name, transaction, key in examples(chain)
    ]


def examples(chain: Chain) -> Iterable[tuple[str, Transaction, bytes]]:
    """Yield a transaction of each kind and form, with its name and the key that verifies it."""
    sensor, registration = chain.registration("sensor")
    registrar = key_of("registrar of acme", "p256").public
    miner = key_of("miner 0").public
    tag_reader, _ = chain.registration("tag reader", algorithm="p256")
    measurements = (
        Measurement(name="temperature", value=-215, exponent=-1, unit="°C"),
        Measurement(name="count", value=2**63 - 1, exponent=0, unit=""),
    )
    nsl_kdd = Flow(schema=SCHEMA, integers=tuple(range(38)), categories=("tcp", "http", "SF"))
    report = reading()
    yield "a reading", chain.by_device(sensor, report), sensor.key.public
    yield (
        "a reading of two values, signed with P-256",
        chain.by_device(tag_reader, replace(report, payload=Reading(values=measurements))),
        tag_reader.key.public,
    )
    yield "a flow", chain.by_device(sensor, replace(report, payload=nsl_kdd)), sensor.key.public
    yield "a registration", registration, registrar
    gateway = DeviceRegister(
        name="gate.way_1",
        key=key_of("device gateway", "p256").public,
        roles=("gateway", "sensor"),
        gateway=sensor.id,
        limits=parse_limits("10:1,300:60"),
    )
    yield "a registration in full", chain.by_registrar("device.register", gateway), registrar
    new_key = key_of("new key of sensor")
    rotation = RotateKey(
        new_key=new_key.public, proof=sign_rotation(chain.genesis.hash, sensor.id, new_key)
    )
    for change in (
        rotation,
        Suspend(),
        Resume(),
        Revoke(),
        SetLimits(limits=()),
        SetRoles(roles=("participant",)),
        RefuseAppeal(),
    ):
        update = DeviceUpdate(device=sensor.id, change=change)
        name = f"an update: {type(change).__name__}"
        yield name, chain.by_registrar("device.update", update), registrar
    release = DeviceRelease(device=sensor.id)
    yield "a release", chain.by_registrar("device.release", release), registrar
    appeal = DeviceAppeal(text="a firmware update")
    yield (
        "an appeal",
        chain.transaction("device.appeal", appeal, sensor.key, sensor.id),
        sensor.key.public,
    )
    policy = PolicySet(policy=PolicyRecord())
    yield "a policy", chain.by_registrar("policy.set", policy), registrar
    model = make_model("boosted", model=digest_of("another model"))
    yield "a model", chain.by_registrar("model.register", model), registrar
    for name, kind, body in _governance(chain):
        yield name, chain.by_miner(0, kind, body), miner
    opinions = [opinion_of(score, 500_000) for score in (0, 499_999, 500_000, None)]
    verdict = Verdict(
        height=Height(1),
        model=MODEL,
        judged=digest_of("what was judged"),
        opinions=pack_opinions(opinions),
    )
    yield "a verdict", chain.by_miner(0, "verdict", verdict), miner
    crime = chain.equivocation(1, type="commit", round=2)
    yield "evidence", chain.by_miner(0, "evidence", crime), miner
    yield from _learning_kinds(chain, sensor, registrar, miner)
    file = Chunked(
        root=digest_of("chunks"), size_bytes=262_144 + 17, manifest=digest_of("a manifest")
    )
    yield "a file", chain.by_device(sensor, replace(report, payload=file)), sensor.key.public


def _learning_kinds(
    chain: Chain, sensor: Device, registrar: bytes, miner: bytes
) -> Iterable[tuple[str, Transaction, bytes]]:
    federation = Federation(chain, devices=[sensor])
    share = bytes(range(SHARE_SIZE))
    about: dict[str, Any] = {"round": digest_of("a round")}
    yield "a federated round", federation.opening(), registrar
    abort = RoundAbort(**about)
    yield "the end of a federated round", chain.by_registrar("round.abort", abort), registrar
    steps: list[tuple[str, str, Any]] = [
        (
            "a joining",
            "round.join",
            RoundJoin(
                **about,
                mask_key=public_key_of(bytes(range(32))),
                box_key=public_key_of(bytes(range(1, 33))),
            ),
        ),
        (
            "shares",
            "round.share",
            RoundShare(**about, hashes=bytes(128), boxes=bytes(BOX_SIZE)),
        ),
        (
            "an update",
            "update.commit",
            UpdateCommit(**about, base=BASE, size_bytes=800, root=digest_of("a root")),
        ),
        ("a revelation", "update.reveal", UpdateReveal(**about, shares=(share, None))),
        (
            "a complaint",
            "round.complaint",
            RoundComplaint(**about, accused=Address(digest_of("accused")), secret=bytes(range(32))),
        ),
    ]
    for name, kind, body in steps:
        yield name, federation.by(sensor, kind, body), sensor.key.public
    attest = RoundAttest(**about, held=b"\x05")
    yield "an attestation", chain.by_miner(0, "round.attest", attest), miner
    aggregate = RoundAggregate(**about, root=digest_of("a root"))
    yield "an aggregate", chain.by_miner(0, "round.aggregate", aggregate), miner


def _governance(chain: Chain) -> Iterable[tuple[str, str, Any]]:
    other = address_of(key_of("miner 1").public)
    for change in (
        chain.addition().change,
        RemoveMiner(miner=other),
        RestoreMiner(miner=other),
        MoveMiner(miner=other, host="10.0.0.1", port=1),
        chain.replacement(1, key="key 1b", node_key="node 1b").change,
    ):
        name = f"a change of membership: {type(change).__name__}"
        yield name, "miner.propose", MinerPropose(change=change)
    organisation = OrganisationChange(
        name="globex",
        registrar_key=key_of("registrar of globex", "p256").public,
        limits=parse_limits("1000:10"),
        active=True,
    )
    yield "an organisation", "organisation.change", organisation
    yield "a parameter", "param.change", ParameterChange(name="heartbeat_ms", value="30000")
    yield "an activation", "model.activate", ModelActivate(model=MODEL)
    yield "a vote", "miner.vote", MinerVote(proposal=digest_of("a proposal"), approve=True)


def _forms(transaction: Transaction, key: bytes) -> dict[str, Any]:
    payload = transaction.payload
    body = KINDS[payload.kind].body
    value = body.decode(payload.body, what="body", size_max=len(payload.body))
    return {
        "json": {
            **PAYLOAD.render(payload),
            "body": body.render(value),
            "signature": transaction.signature.hex(),
        },
        "body": payload.body.hex(),
        "payload": transaction.payload_bytes.hex(),
        "signed": (domain(SIGNATURE_TAG) + transaction.payload_bytes).hex(),
        "public_key": key.hex(),
        "wire": transaction.wire.hex(),
        "id": transaction.id.hex(),
        "digest": transaction.digest.hex(),
    }


# --- a chain --------------------------------------------------------------------------------------


def whole_chain() -> dict[str, Any]:
    """Return a genesis document and the blocks on it, to be replayed up to the last state."""
    parameters = with_parameters(proposal_lifetime_ms=60_000)
    chain = Chain(make_genesis(model=make_model(), parameters=parameters))
    first = genesis_header(chain.genesis, chain.state.root)
    blocks = []
    for transactions in _story(chain):
        miners = chain.miners
        execution = chain.commit(*transactions)
        header = execution.header
        certificate = chain.certificate(header, miners)
        blocks.append(
            {
                "header": render_header(header),
                "header_bytes": HEADER.encode(header).hex(),
                "block": encode_block(chain.blocks[-1]).hex(),
                "receipts": [
                    {"json": RECEIPT.render(receipt), "bytes": RECEIPT.encode(receipt).hex()}
                    for receipt in execution.receipts
                ],
                "block_receipt": {
                    "json": BLOCK_RECEIPT.render(execution.block_receipt),
                    "bytes": BLOCK_RECEIPT.encode(execution.block_receipt).hex(),
                },
                "certificate": CERTIFICATE.render(certificate),
                "certificate_bytes": CERTIFICATE.encode(certificate).hex(),
            }
        )
    return {
        "version": BLOCK_VERSION,
        "genesis": render_genesis(chain.genesis),
        "genesis_hash": chain.genesis.hash.hex(),
        "genesis_header": render_header(first),
        "blocks": blocks,
        "state": [
            {
                "table": table.prefix.decode(),
                "key": key.hex(),
                "record": table.record.render(record),
                "value": table.encode(record).hex(),
            }
            for table in TABLES
            for key, record in chain.state.scan(table)
        ],
        "state_root": chain.state.root.hex(),
    }


def _story(chain: Chain) -> Iterable[Sequence[Transaction]]:
    sensor, registration = chain.registration("sensor", limits="10:1,300:60")
    meter, other = chain.registration("meter", algorithm="p256")
    policy = PolicyRecord(action="quarantine", anomalous_min=1, window=1, duration_ms=60_000)
    yield registration, other, chain.by_registrar("policy.set", PolicySet(policy=policy))
    yield chain.by_device(sensor, flow()), chain.by_device(meter), chain.by_device(meter, flow())
    proposal = chain.by_miner(
        0, "param.change", ParameterChange(name="heartbeat_ms", value="90000")
    )
    votes = [chain.vote(number, proposal) for number in (1, 2)]
    verdicts = [chain.verdict(number, 2, [900_000, 100_000]) for number in (0, 1, 2)]
    # The first two wait for a quorum in the state of their block.
    yield proposal, *votes, *verdicts[:2]
    crime = chain.equivocation(3, type="round-change", round=1, says=((None, None), (0, MODEL)))
    evidence = chain.by_miner(2, "evidence", crime)
    yield evidence, chain.by_miner(1, "miner.propose", chain.addition()), verdicts[2]
    yield (chain.transaction("device.appeal", DeviceAppeal(text="why?"), sensor.key, sensor.id),)
    # By the time of this heartbeat the proposal has expired.
    yield ()
    yield from _learning(chain)


def _learning(chain: Chain) -> Iterable[Sequence[Transaction]]:
    """Yield a federated round up to its first revealed shares, and one that is aborted."""
    devices, registrations = participants(chain, 3)
    yield registrations
    round_ = Federation(chain, devices=devices, group_size=3)
    opening, other = round_.opening(), round_.opening()
    yield opening, other
    round_.id = other.id
    abort = round_.abort()
    round_.id = opening.id
    yield abort, *[round_.join(device) for device in round_.devices]
    # At the end of this heartbeat the group is drawn.
    yield ()
    yield [round_.share(device) for device in round_.devices]
    yield [round_.commit(device) for device in round_.devices]
    yield [round_.attest(miner) for miner in (0, 1)]
    yield (round_.reveal(round_.devices[0]),)


# --- federated rounds -----------------------------------------------------------------------------


def federated() -> dict[str, Any]:
    """Return a draw, thresholds, and a box with the hashes of the shares to which it leads."""
    round_id = digest_of("a round")
    devices = [Address(digest_of(f"device {number}")) for number in range(11)]
    seed = digest_of("the block that closed joining")
    groups = draw_groups(devices, group_size=3, round_id=round_id, seed=seed)
    owner_secret, receiver_secret = bytes(range(32)), bytes(range(32, 64))
    handover = Handover(round_id=round_id, owner=devices[0], receiver=devices[1])
    pads = pads_of(owner_secret, public_key_of(receiver_secret), handover)
    shares = (bytes(range(SHARE_SIZE)), element(-1))
    return {
        "draw": {
            "round": round_id.hex(),
            "seed": seed.hex(),
            "group_size": 3,
            "groups": {device.hex(): group for device, group in groups.items()},
        },
        "thresholds": [
            {"members": members, "threshold": threshold(members)} for members in (1, 3, 4, 10, 63)
        ],
        "box": {
            "round": round_id.hex(),
            "owner": handover.owner.hex(),
            "receiver": handover.receiver.hex(),
            "owner_secret": owner_secret.hex(),
            "owner_key": public_key_of(owner_secret).hex(),
            "receiver_secret": receiver_secret.hex(),
            "receiver_key": public_key_of(receiver_secret).hex(),
            "pads": _hex(pads),
            "shares": _hex(shares),
            "box": close_box(pads, shares).hex(),
            "hashes": [
                share_hash(share, kind, handover).hex()
                for share, kind in zip(shares, ShareKind, strict=True)
            ],
        },
    }


# --- Algorithm 1 ----------------------------------------------------------------------------------


def algorithm_1() -> dict[str, Any]:
    """Return what is timely, and what the rate limits let pass."""
    block, lifetime, drift = 1_000_000, 60_000, 5_000
    timely = [
        (block, lifetime, 0, block - lifetime, False),
        (block, lifetime, 0, block - lifetime + 1, True),
        (block, lifetime, 0, block, True),
        (block, lifetime, 0, block + drift, True),
        (block, lifetime, 0, block + drift + 1, False),
        (block, lifetime, block - 10, block - 10, False),
        (block, lifetime, block - 10, block - 9, True),
        (block, lifetime, block - lifetime - 5, block - lifetime, False),
    ]
    rates: list[tuple[str, list[tuple[int, int]], int, int, bool]] = [
        # limits, (time, count) of earlier blocks, count earlier in this block, block time, passes
        ("2:10", [], 0, 100_000, True),
        ("2:10", [], 1, 100_000, True),
        ("2:10", [], 2, 100_000, False),
        ("2:10", [(90_000, 2)], 0, 100_000, True),
        ("2:10", [(90_001, 2)], 0, 100_000, False),
        ("2:10", [(90_001, 1)], 1, 100_000, False),
        ("2:10", [(90_000, 5), (95_000, 1)], 0, 100_000, True),
        ("3:1,4:60", [(50_000, 4)], 0, 100_000, False),
        ("3:1,4:60", [(40_000, 4)], 0, 100_000, True),
        ("3:1,4:60", [(99_001, 3)], 0, 100_000, False),
        ("1:600", [(100_000, 1)], 0, 700_000, True),
        ("1:600", [(100_001, 1)], 0, 700_000, False),
        ("", [(99_999, 10_000)], 10_000, 100_000, True),
    ]
    return {
        "future_drift_ms": drift,
        "timely": [
            dict(
                zip(
                    ("block_time_ms", "lifetime_ms", "floor_ms", "time_ms", "timely"),
                    case,
                    strict=True,
                )
            )
            for case in timely
        ],
        "rates": [
            {
                "limits": limits,
                "earlier_blocks": [{"time_ms": time, "count": count} for time, count in earlier],
                "earlier_in_block": before,
                "block_time_ms": time_ms,
                "passes": passes,
            }
            for limits, earlier, before, time_ms, passes in rates
        ],
    }


def _hex(values: Iterable[bytes]) -> list[str]:
    return [value.hex() for value in values]


def _hex_or_none(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


if __name__ == "__main__":
    main()
