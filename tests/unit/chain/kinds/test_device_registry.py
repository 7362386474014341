"""device.register, device.update, device.release."""

from dataclasses import replace

import pytest

from chain.crypto import SigningKey
from chain.kinds.device_registry import (
    DeviceRegister,
    DeviceRelease,
    Resume,
    Revoke,
    RotateKey,
    SetLimits,
    SetRoles,
    Suspend,
    device_id,
    sign_rotation,
)
from chain.kinds.organisations import organisation_id
from chain.limits import parse_limits
from chain.records.devices import DEVICE_TABLE
from chain.records.organisations import ORGANISATION_TABLE
from chain.records.verdicts import TALLY_TABLE, TallyRecord
from chain.types import Address, PublicKey, Signature
from tests.builders import Chain, digest_of, forged, key_of, make_genesis, with_parameters


@pytest.fixture
def chain():
    return Chain(make_genesis(organisations=("acme", "globex")))


def registration(chain, **fields):
    body = {
        "name": "sensor",
        "key": key_of("device sensor").public,
        "roles": ("sensor",),
        "gateway": None,
        "limits": None,
    }
    return chain.by_registrar("device.register", DeviceRegister(**{**body, **fields}))


def test_a_registered_device_is_on_record(chain):
    device, transaction = chain.registration("sensor", limits="5:1")

    execution = chain.commit(transaction)

    record = chain.device(device)
    assert record.organisation == organisation_id("acme")
    assert (record.name, record.key, record.status) == ("sensor", device.key.public, "active")
    assert record.limits == parse_limits("5:1")
    assert (record.registered_height, record.key_height) == (1, 1)
    event = execution.receipts[0].events[0]
    assert (event.name, event.values[0]) == ("device_registered", device.id.hex())


def test_the_id_is_that_of_chain_organisation_and_first_key(chain):
    key = key_of("device sensor").public
    own = device_id(chain.genesis.hash, organisation_id("acme"), key)

    assert own == chain.register("sensor").id
    assert own != device_id(chain.genesis.hash, organisation_id("globex"), key)
    assert own != device_id(digest_of("another chain"), organisation_id("acme"), key)


def test_a_device_without_limits_of_its_own_has_those_of_the_chain():
    parameters = with_parameters(device_limits=parse_limits("7:60"))
    chain = Chain(make_genesis(parameters=parameters))

    assert chain.device(chain.register("a")).limits == parse_limits("7:60")
    assert chain.device(chain.register("b", limits="")).limits == ()


@pytest.mark.attack("D7")
def test_a_device_is_registered_once(chain):
    chain.register("sensor")

    assert chain.rejection(registration(chain)).code == "already_exists"
    assert chain.rejection(registration(chain, name="other")).code == "already_exists"


def test_one_key_may_serve_devices_of_two_organisations(chain):
    first = chain.register("sensor")
    second = chain.register("sensor", organisation="globex")

    assert first.id != second.id


def test_a_revoked_id_is_never_used_again(chain):
    device = chain.register("sensor")
    chain.commit(chain.update(device, Revoke()))

    assert chain.rejection(registration(chain)).code == "already_exists"


@pytest.mark.parametrize(
    "fields",
    [
        {"key": PublicKey(bytes(32))},
        {"key": PublicKey(b"\x02" + b"\xff" * 32)},
        {"roles": ("sensor", "sensor")},
        {"name": "a b"},
        {"name": ""},
        {"roles": ("owner",)},
    ],
)
def test_a_malformed_registration_is_refused(chain, fields):
    assert chain.rejection(registration(chain, **fields)).code == "malformed"


def test_an_organisation_registers_so_many_devices_and_no_more():
    chain = Chain(make_genesis(parameters=with_parameters(organisation_devices_max=2)))
    first = chain.register("a")
    chain.register("b")

    assert chain.rejection(chain.registration("c")[1]).code == "limit_reached"
    chain.commit(chain.update(first, Revoke()))
    assert chain.rejection(chain.registration("c")[1]).code == "limit_reached"


def test_a_gateway_is_an_own_device_with_that_role(chain):
    gateway = chain.register("gateway", roles=("gateway",))
    sensor = chain.register("sensor", gateway=gateway)
    foreign = chain.register("foreign", organisation="globex", roles=("gateway",))
    revoked = chain.register("revoked", roles=("gateway",))
    chain.commit(chain.update(revoked, Revoke()))
    stranger = replace(sensor, id=Address(digest_of("nobody")))

    assert chain.device(sensor).gateway == gateway.id
    for bad in (sensor, foreign, revoked, stranger):
        assert chain.rejection(chain.registration("x", gateway=bad)[1]).code == "not_found"


def test_no_gateway_stands_behind_another(chain):
    # Its devices would escape the outer one's limits.
    outer = chain.register("outer", roles=("gateway",))
    inner = chain.register("inner", roles=("gateway",), gateway=outer)

    assert chain.rejection(chain.registration("x", gateway=inner)[1]).code == "not_found"


def rotate(chain, device, new_key: SigningKey, *, proof=None):
    if proof is None:
        proof = sign_rotation(chain.genesis.hash, device.id, new_key)
    return chain.update(device, RotateKey(new_key=new_key.public, proof=proof))


def test_a_rotated_key_keeps_the_id(chain):
    device = chain.register("sensor")
    new_key = key_of("new", "p256")

    chain.commit(rotate(chain, device, new_key))

    record = chain.device(device)
    assert (record.key, record.key_height, record.registered_height) == (new_key.public, 2, 1)


@pytest.mark.attack("E7")
def test_a_new_key_proves_itself_for_this_device_and_chain(chain):
    device, other = chain.register("sensor"), chain.register("other")
    new_key = key_of("new")
    for proof in (
        sign_rotation(digest_of("another chain"), device.id, new_key),
        sign_rotation(chain.genesis.hash, other.id, new_key),
        sign_rotation(chain.genesis.hash, device.id, key_of("third")),
        bytes(64),
    ):
        assert chain.rejection(rotate(chain, device, new_key, proof=proof)).code == "bad_signature"


def test_a_key_is_not_rotated_to_itself(chain):
    device = chain.register("sensor")

    assert chain.rejection(rotate(chain, device, device.key)).code == "already_exists"


def test_an_unusable_key_is_not_taken(chain):
    device = chain.register("sensor")
    change = RotateKey(new_key=PublicKey(bytes(32)), proof=Signature(bytes(64)))

    assert chain.rejection(chain.update(device, change)).code == "malformed"


def test_limits_and_roles_are_changed(chain):
    device = chain.register("sensor")

    chain.commit(
        chain.update(device, SetLimits(limits=parse_limits("1:2"))),
        chain.update(device, SetRoles(roles=("participant", "sensor"))),
    )

    assert chain.device(device).limits == parse_limits("1:2")
    assert chain.device(device).roles == ("participant", "sensor")
    twice = SetRoles(roles=("sensor", "sensor"))
    assert chain.rejection(chain.update(device, twice)).code == "malformed"


def test_suspension_and_its_end_take_turns(chain):
    device = chain.register("sensor")

    assert chain.rejection(chain.update(device, Resume())).code == "invalid_state"
    chain.commit(chain.update(device, Suspend()))
    assert chain.rejection(chain.update(device, Suspend())).code == "invalid_state"
    chain.commit(chain.update(device, Resume()))
    assert chain.device(device).status == "active"


@pytest.mark.parametrize(
    "change", [Suspend(), Resume(), Revoke(), SetLimits(limits=()), SetRoles(roles=())]
)
def test_a_revoked_device_is_changed_no_more(chain, change):
    device = chain.register("sensor")
    chain.commit(chain.update(device, Revoke()))

    assert chain.rejection(chain.update(device, change)).code == "device_not_active"


@pytest.mark.attack("E5")
@pytest.mark.parametrize("change", [Suspend(), Revoke(), SetRoles(roles=())])
def test_devices_are_changed_by_their_own_registrar_alone(chain, change):
    device = chain.register("sensor")
    stranger = replace(device, id=Address(digest_of("nobody")))

    assert chain.rejection(chain.update(device, change, organisation="globex")).code == (
        "not_permitted"
    )
    assert chain.rejection(chain.update(stranger, change)).code == "unknown_device"


def release(chain, device, **fields):
    return chain.by_registrar("device.release", DeviceRelease(device=device.id), **fields)


def test_a_released_device_starts_afresh(chain):
    device = chain.register("sensor")
    record = replace(chain.device(device), status="quarantined", quarantined_until_ms=2**48)
    chain.put(DEVICE_TABLE, record, device.id)
    tally = TallyRecord(judged=9, anomalous=8, ring=b"\x00" * 31 + b"\xff")
    chain.put(TALLY_TABLE, tally, device.id)

    chain.commit(release(chain, device))

    assert chain.device(device).status == "active"
    assert chain.device(device).quarantined_until_ms == 0
    assert chain.state.get(TALLY_TABLE, device.id) == replace(tally, ring=bytes(32))


def test_only_a_quarantined_device_of_ones_own_is_released(chain):
    device = chain.register("sensor")

    assert chain.rejection(release(chain, device)).code == "invalid_state"
    assert chain.rejection(release(chain, device, organisation="globex")).code == "not_permitted"
    stranger = replace(device, id=Address(digest_of("nobody")))
    assert chain.rejection(release(chain, stranger)).code == "unknown_device"


def test_the_organisation_counts_its_devices(chain):
    chain.register("a")
    chain.register("b")

    record = chain.state.get(ORGANISATION_TABLE, organisation_id("acme"))
    assert record is not None
    assert record.device_count == 2


# --- the rate of a registrar ----------------------------------------------------------------------


def test_a_registrar_sends_so_much_and_no_more():
    limits = parse_limits("2:5")
    chain = Chain(
        make_genesis(
            organisations=("acme", "globex"),
            parameters=with_parameters(registrar_limits=limits, device_limits=parse_limits("9:1")),
        )
    )
    device, registered = chain.registration("one")
    chain.commit(registered, chain.update(device, Suspend()))
    refused = chain.update(device, Resume())

    refusal = chain.rejection(refused)

    assert (refusal.code, refusal.retry_after_ms) == ("rate_limited", 4_000)
    assert chain.rejection(forged(refused)).code == "rate_limited", "asked before the signature"
    chain.commit(chain.registration("two", organisation="globex")[1])
    chain.pass_time(5_000)
    chain.commit(chain.update(device, Resume()))


def test_what_a_registrar_sends_and_what_its_devices_send_are_counted_apart():
    chain = Chain(
        make_genesis(
            limits="2:600", parameters=with_parameters(registrar_limits=parse_limits("1:600"))
        )
    )
    device = chain.register()
    chain.commit(chain.by_device(device), chain.by_device(device))

    assert chain.rejection(chain.by_device(device)).code == "rate_limited"
    assert chain.rejection(chain.update(device, Suspend())).code == "rate_limited"


def test_forgeries_do_not_cost_a_registrar_anything():
    chain = Chain(make_genesis(parameters=with_parameters(registrar_limits=parse_limits("1:600"))))
    device, registered = chain.registration("one")
    for bad in (forged(registered), chain.update(device, Suspend())):
        assert chain.rejection(bad).code in ("bad_signature", "unknown_device")

    chain.commit(registered)
