"""Vectors of transactions, at least one of each kind."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from chain.crypto import address_of, domain
from chain.federated.boxes import (
    public_key_of,
)
from chain.federated.records import BOX_SIZE, SHARE_SIZE
from chain.kinds import KINDS
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
    sign_rotation,
)
from chain.kinds.miners import (
    MinerPropose,
    MoveMiner,
    RemoveMiner,
    RestoreMiner,
)
from chain.kinds.models import ModelActivate
from chain.kinds.organisations import OrganisationChange
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
from chain.payloads import Chunked, Flow, Measurement, Reading
from chain.records.policies import PolicyRecord
from chain.transactions import PAYLOAD, SIGNATURE_TAG, Transaction
from chain.types import Address, Height
from tests.builders import (
    MODEL,
    SCHEMA,
    Chain,
    Device,
    digest_of,
    key_of,
    make_genesis,
    make_model,
    reading,
)
from tests.federation import BASE, Federation


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
