"""`device.register`, `device.update`, `device.release`: the registry of approved devices (M2)."""

from dataclasses import dataclass, replace
from typing import Final

from chain import codec
from chain.blocks import Event
from chain.crypto import SigningKey, tagged_hash, verify
from chain.errors import Rejection
from chain.fields import ADDRESS, ANY_KEY, NAME
from chain.key_registry import require_free, require_usable
from chain.kinds.base import BlockContext, Kind, Lane, Signer, require
from chain.limits import Limits, RateLimits
from chain.measures import refuse_appeal, release
from chain.records.devices import DEVICE_TABLE, ROLE_LIST, DeviceRecord
from chain.records.organisations import ORGANISATION_TABLE
from chain.schema import Blob, Optional, Record, Tagged
from chain.transactions import Transaction
from chain.types import SIGNATURE_SIZE, Address, Digest, PublicKey, Signature

ROTATION_TAG: Final = b"securenet/key-rotation/v1"
_DEVICE_TAG: Final = b"securenet/device-id/v1"


def device_id(genesis_hash: Digest, organisation: Address, first_key: PublicKey) -> Address:
    """Return the permanent id of a device; it stays when the key is rotated."""
    return Address(tagged_hash(_DEVICE_TAG, codec.encode((genesis_hash, organisation, first_key))))


def sign_rotation(genesis_hash: Digest, device: Address, new_key: SigningKey) -> Signature:
    """Return the proof by which a new key takes over a device."""
    return new_key.sign(ROTATION_TAG, codec.encode((genesis_hash, device, new_key.public)))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRegister:
    """Registers a device of the sender's organisation."""

    name: str
    key: PublicKey
    roles: tuple[str, ...]
    gateway: Address | None
    limits: RateLimits | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateKey:
    """Replaces the device's key; `proof` is made by `sign_rotation` with the new one."""

    new_key: PublicKey
    proof: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspend:
    """Stops a device until it is resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Ends a suspension."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoke:
    """Ends a device for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLimits:
    """Sets the device's rate limits."""

    limits: RateLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRoles:
    """Sets the device's roles."""

    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseAppeal:
    """Refuses the device's appeal; the measure stays."""


Change = RotateKey | Suspend | Resume | Revoke | SetLimits | SetRoles | RefuseAppeal

CHANGE: Final = Tagged(
    {
        "rotate": Record(RotateKey, new_key=ANY_KEY, proof=Blob(SIGNATURE_SIZE)),
        "suspend": Record(Suspend),
        "resume": Record(Resume),
        "revoke": Record(Revoke),
        "limits": Record(SetLimits, limits=Limits()),
        "roles": Record(SetRoles, roles=ROLE_LIST),
        "refuse": Record(RefuseAppeal),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUpdate:
    """Changes a device of the sender's organisation."""

    device: Address
    change: Change


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRelease:
    """Takes back what verdicts brought upon a device, as if they had been false alarms."""

    device: Address


def _register(
    body: DeviceRegister, transaction: Transaction, block: BlockContext
) -> tuple[Event, ...]:
    organisation_id = transaction.payload.sender
    organisation = block.state.get(ORGANISATION_TABLE, organisation_id)
    assert organisation is not None, "the registrar's key was found there"
    _require_new(body.key, block)
    _require_distinct(body.roles)
    require(
        organisation.device_count < block.parameters.organisation_devices_max,
        "limit_reached",
        f"the organisation has {organisation.device_count} devices",
    )
    if body.gateway is not None:
        gateway = block.state.get(DEVICE_TABLE, body.gateway)
        require(
            gateway is not None
            and gateway.organisation == organisation_id
            and gateway.status != "revoked"
            and gateway.gateway is None
            and "gateway" in gateway.roles,
            "not_found",
            "the gateway is no device of the organisation with that role, or behind a gateway",
        )
    new_id = device_id(block.genesis_hash, organisation_id, body.key)
    require(
        block.state.get(DEVICE_TABLE, new_id) is None,
        "already_exists",
        f"device {new_id.hex()} is registered; an id is never used again",
    )
    limits = block.parameters.device_limits if body.limits is None else body.limits
    record = DeviceRecord(
        organisation=organisation_id,
        name=body.name,
        key=body.key,
        roles=body.roles,
        gateway=body.gateway,
        limits=limits,
        status="active",
        quarantined_until_ms=0,
        limited_until_ms=0,
        registered_height=block.height,
        key_height=block.height,
    )
    block.state.put(DEVICE_TABLE, record, new_id)
    block.state.put(
        ORGANISATION_TABLE,
        replace(organisation, device_count=organisation.device_count + 1),
        organisation_id,
    )
    return (Event(name="device_registered", values=(new_id.hex(), organisation_id.hex())),)


def _update(body: DeviceUpdate, transaction: Transaction, block: BlockContext) -> tuple[Event, ...]:
    device = _own_device(body.device, transaction, block)
    require(device.status != "revoked", "device_not_active", "the device is revoked for good")
    block.state.put(DEVICE_TABLE, _changed(body.device, device, body.change, block), body.device)
    name = f"device_{CHANGE.word_of(body.change)}"
    return (Event(name=name, values=(body.device.hex(),)),)


def _changed(
    id: Address, device: DeviceRecord, change: Change, block: BlockContext
) -> DeviceRecord:
    match change:
        case RotateKey():
            _require_new(change.new_key, block)
            require(change.new_key != device.key, "already_exists", "the device has this key")
            message = codec.encode((block.genesis_hash, id, change.new_key))
            require(
                verify(change.new_key, ROTATION_TAG, message, change.proof),
                "bad_signature",
                "the new key does not prove itself",
            )
            return replace(device, key=change.new_key, key_height=block.height)
        case Suspend():
            require(
                device.status != "suspended", "invalid_state", "the device is suspended already"
            )
            return replace(device, status="suspended", quarantined_until_ms=0, limited_until_ms=0)
        case Resume():
            require(device.status == "suspended", "invalid_state", "the device is not suspended")
            return replace(device, status="active")
        case Revoke():
            return replace(device, status="revoked", quarantined_until_ms=0, limited_until_ms=0)
        case RefuseAppeal():
            refuse_appeal(id, block)
            return device
        case SetLimits():
            return replace(device, limits=change.limits)
        case SetRoles():
            _require_distinct(change.roles)
            return replace(device, roles=change.roles)


def _release(
    body: DeviceRelease, transaction: Transaction, block: BlockContext
) -> tuple[Event, ...]:
    device = _own_device(body.device, transaction, block)
    require(
        device.status == "quarantined"
        or (device.status == "active" and device.limited_until_ms > 0),
        "invalid_state",
        "the device is neither quarantined nor limited",
    )
    released = replace(device, status="active", quarantined_until_ms=0, limited_until_ms=0)
    block.state.put(DEVICE_TABLE, released, body.device)
    release(body.device, block)
    return (Event(name="device_released", values=(body.device.hex(),)),)


def _own_device(id: Address, transaction: Transaction, block: BlockContext) -> DeviceRecord:
    device = block.state.get(DEVICE_TABLE, id)
    if device is None:
        raise Rejection("unknown_device", f"device {id.hex()} is not registered")
    require(
        device.organisation == transaction.payload.sender,
        "not_permitted",
        "the device belongs to another organisation",
    )
    return device


def _require_new(key: PublicKey, block: BlockContext) -> None:
    require_usable(key)
    require_free(block.state, key, None)


def _require_distinct(roles: tuple[str, ...]) -> None:
    require(len(set(roles)) == len(roles), "malformed", "a role is given twice")


REGISTER: Final = Kind(
    name="device.register",
    signer=Signer.REGISTRAR,
    lane=Lane.REGISTRY,
    body=Record(
        DeviceRegister,
        name=NAME,
        key=ANY_KEY,
        roles=ROLE_LIST,
        gateway=Optional(ADDRESS),
        limits=Optional(Limits()),
    ),
    apply=_register,
)
UPDATE: Final = Kind(
    name="device.update",
    signer=Signer.REGISTRAR,
    lane=Lane.REGISTRY,
    body=Record(DeviceUpdate, device=ADDRESS, change=CHANGE),
    apply=_update,
)
RELEASE: Final = Kind(
    name="device.release",
    signer=Signer.REGISTRAR,
    lane=Lane.REGISTRY,
    body=Record(DeviceRelease, device=ADDRESS),
    apply=_release,
)
