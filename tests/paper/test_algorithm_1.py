"""Algorithm 1 of the paper, "Enhanced Verification for Secure IoT Blockchain Transactions".

One test for each of its steps, in its order, and for what section IV says of them. DESIGN keeps the
order and corrects one effect: the rate is checked in step 4 and charged in step 7.
"""

from dataclasses import replace
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from chain.admission import algorithm_1
from chain.crypto import domain, normalise_p256
from chain.errors import InvalidBlock, Rejection
from chain.kinds.device_registry import (
    DeviceUpdate,
    Resume,
    Revoke,
    RotateKey,
    Suspend,
    sign_rotation,
)
from chain.kinds.miners import MinerPropose, RemoveMiner
from chain.kinds.organisations import OrganisationChange
from chain.parameters import FUTURE_DRIFT_MS, Parameters
from chain.records.devices import DEVICE_TABLE
from chain.transactions import SIGNATURE_TAG, Transaction, attach_signature
from chain.transition import check_admission, check_block
from chain.types import Address, Signature
from tests.builders import Chain, Device, digest_of, forged, key_of, make_genesis, reading

LIFETIME_MS = Parameters().transaction_lifetime_ms


def code(chain, transaction, *, proposer=None, time_ms=None):
    """Return the code with which steps 1 to 6 refuse `transaction`, or None."""
    context = chain.context(proposer=proposer, time_ms=time_ms)
    try:
        algorithm_1(transaction, context, Transaction.is_signed_by)
    except Rejection as error:
        return error.code
    return None


@pytest.fixture
def chain():
    return Chain()


@pytest.fixture
def device(chain):
    return chain.register()


def test_a_transaction_that_passes_every_step_is_appended(chain, device):
    transaction = chain.by_device(device)

    execution = chain.commit(transaction)

    assert [receipt.transaction_id for receipt in execution.receipts] == [transaction.id]


# --- step 1: VERIFYMINER(M) -----------------------------------------------------------------------


def test_every_miner_is_approved_through_verifyminer(chain, device):
    transaction = chain.by_device(device)

    assert [code(chain, transaction, proposer=member.id) for member in chain.miners] == [None] * 4


def test_an_unapproved_miner_appends_nothing(chain, device):
    stranger = Address(digest_of("nobody"))

    assert code(chain, chain.by_device(device), proposer=stranger) == "unauthorised_miner"


def test_a_demoted_miner_appends_nothing(chain, device):
    demoted = chain.miners.members[2].id
    chain.demote(demoted)

    assert code(chain, chain.by_device(device), proposer=demoted) == "unauthorised_miner"


def test_a_miner_removed_by_its_own_block_finishes_it(chain, device):
    proposer = chain.keys[chain.proposer()].public
    voters = [number for number in range(4) if key_of(f"miner {number}").public != proposer]
    removal = chain.by_miner(
        voters[0], "miner.propose", MinerPropose(change=RemoveMiner(miner=chain.proposer()))
    )
    votes = [chain.vote(voter, removal) for voter in voters[1:]]

    execution = chain.commit(removal, *votes, chain.by_device(device))

    assert len(execution.receipts) == 4


# --- step 2: T.DID against the registry of approved devices ---------------------------------------


def test_only_registered_devices_contribute_data(chain):
    stranger = Device(id=Address(digest_of("stranger")), key=key_of("stranger"))

    assert code(chain, chain.by_device(stranger)) == "unknown_device"


@pytest.mark.parametrize("change", [Suspend(), Revoke()])
def test_a_device_that_is_not_active_contributes_nothing(chain, device, change):
    chain.commit(chain.update(device, change))

    assert code(chain, chain.by_device(device)) == "device_not_active"


def test_a_resumed_device_contributes_again(chain, device):
    chain.commit(chain.update(device, Suspend()))
    chain.commit(chain.update(device, Resume()))

    assert code(chain, chain.by_device(device)) is None


def test_devices_of_a_closed_organisation_contribute_nothing(chain, device):
    closed = OrganisationChange(
        name="acme",
        registrar_key=key_of("registrar of acme", "p256").public,
        limits=(),
        active=False,
    )
    chain.decide("organisation.change", closed)

    assert code(chain, chain.by_device(device)) == "device_not_active"


def test_a_quarantine_ends_by_block_time(chain, device):
    until = chain.next_time_ms + 10_000
    quarantined = replace(chain.device(device), status="quarantined", quarantined_until_ms=until)
    chain.put(DEVICE_TABLE, quarantined, device.id)
    transaction = chain.by_device(device, time_ms=until)

    assert code(chain, transaction, time_ms=until - 1) == "device_not_active"
    assert code(chain, transaction, time_ms=until) is None


@pytest.mark.attack("E4")
def test_a_revocation_holds_from_the_next_transaction_on(chain, device):
    revocation = chain.update(device, Revoke())

    assert chain.rejection(chain.by_device(device), revocation).code == "device_not_active"


# --- step 3: timely -------------------------------------------------------------------------------


@pytest.mark.attack("C4")
@pytest.mark.parametrize(
    ("offset_ms", "expected"),
    [
        (-LIFETIME_MS - 1, "expired"),
        (-LIFETIME_MS, "expired"),
        (-LIFETIME_MS + 1, None),
        (0, None),
        (FUTURE_DRIFT_MS, None),
        (FUTURE_DRIFT_MS + 1, "expired"),
    ],
)
def test_a_transaction_is_timely_after_b_minus_l_and_up_to_b_plus_d(
    chain, device, offset_ms, expected
):
    # CVE-2024-45244: the time of a proposal was not checked.
    block_time = chain.next_time_ms
    transaction = chain.by_device(device, time_ms=block_time + offset_ms)

    assert code(chain, transaction, time_ms=block_time) == expected


def test_an_expired_transaction_is_answered_with_the_chains_time(chain, device):
    rejection = chain.rejection(chain.by_device(device, time_ms=1))

    assert str(chain.next_time_ms) in rejection.detail


# --- step 4: EXCEEDSRATELIMIT(T) ------------------------------------------------------------------


def test_a_single_device_cannot_flood(chain):
    device = chain.register(limits="3:10")
    reports = [chain.by_device(device) for _ in range(4)]

    assert chain.rejection(reports[3], *reports[:3]).code == "rate_limited"


def test_the_count_is_over_the_blocks_of_the_last_seconds(chain):
    device = chain.register(limits="1:10")
    chain.commit(chain.by_device(device))
    sent = chain.tip.header.time_ms

    def at(time_ms):
        return code(chain, chain.by_device(device, time_ms=time_ms), time_ms=time_ms)

    assert at(sent + 1) == "rate_limited"
    assert at(sent + 9_999) == "rate_limited"
    assert at(sent + 10_000) is None


def test_every_window_holds_at_once(chain):
    device = chain.register(limits="2:1,3:60")
    start = chain.next_time_ms
    chain.commit(chain.by_device(device), chain.by_device(device), time_ms=start)

    assert code(chain, chain.by_device(device), time_ms=start + 999) == "rate_limited"
    chain.commit(chain.by_device(device), time_ms=start + 1_000)
    later = start + 5_000
    assert code(chain, chain.by_device(device, time_ms=later), time_ms=later) == "rate_limited"
    chain.pass_time(60_000)
    assert code(chain, chain.by_device(device)) is None


@pytest.mark.attack("D15")
def test_all_devices_of_an_organisation_share_its_limits():
    chain = Chain(make_genesis(limits="3:10"))
    devices = [chain.register(f"device-{number}") for number in range(3)]
    reports = [chain.by_device(device) for device in (*devices, devices[0])]

    assert chain.rejection(reports[3], *reports[:3]).code == "rate_limited"


@pytest.mark.attack("D15")
def test_all_devices_behind_a_gateway_share_its_limits(chain):
    # A flood of devices through one authorised gateway (Sybil).
    gateway = chain.register("gateway", roles=("gateway",), limits="3:10")
    devices = [chain.register(f"device-{number}", gateway=gateway) for number in range(3)]
    reports = [chain.by_device(device) for device in (*devices, gateway)]

    assert chain.rejection(reports[3], *reports[:3]).code == "rate_limited"


def test_a_refusal_tells_when_to_try_again(chain):
    device = chain.register(limits="2:10")
    start = chain.next_time_ms
    chain.commit(chain.by_device(device), time_ms=start)
    chain.commit(chain.by_device(device), time_ms=start + 1_000)
    refused = chain.rejection(chain.by_device(device), time_ms=start + 4_000)

    assert refused.retry_after_ms == 6_000
    free = start + 4_000 + refused.retry_after_ms
    assert code(chain, chain.by_device(device, time_ms=free), time_ms=free - 1) == "rate_limited"
    assert code(chain, chain.by_device(device, time_ms=free), time_ms=free) is None


def test_what_fills_the_window_in_the_open_block_counts_for_the_time_to_try_again(chain):
    device = chain.register(limits="2:10")
    earlier = chain.by_device(device), chain.by_device(device)

    assert chain.rejection(chain.by_device(device), *earlier).retry_after_ms == 10_000


# --- step 5: VERIFYSIG(T) -------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["ed25519", "p256"])
def test_the_signature_is_affirmed_under_the_registered_key(chain, algorithm):
    device = chain.register(algorithm=algorithm)
    impostor = Device(id=device.id, key=key_of("impostor", algorithm))

    assert code(chain, chain.by_device(device)) is None
    assert code(chain, chain.by_device(impostor)) == "bad_signature"
    assert code(chain, forged(chain.by_device(device))) == "bad_signature"


def rotation(chain, device, new_key):
    proof = sign_rotation(chain.genesis.hash, device.id, new_key)
    return chain.update(device, RotateKey(new_key=new_key.public, proof=proof))


@pytest.mark.attack("E7")
def test_a_rotated_key_is_dead_at_once_even_for_transactions_dated_ahead(chain, device):
    # The old key's transactions of the future were replayed after a rotation elsewhere.
    ahead = chain.by_device(device, time_ms=chain.next_time_ms + FUTURE_DRIFT_MS)
    new_key = key_of("new key")
    renewed = Device(id=device.id, key=new_key)
    change = rotation(chain, device, new_key)

    assert chain.rejection(ahead, change).code == "bad_signature"
    chain.commit(change, chain.by_device(renewed))
    assert code(chain, ahead) == "bad_signature"
    assert code(chain, chain.by_device(renewed)) is None


@pytest.mark.attack("B16")
def test_a_transaction_is_for_one_chain(chain, device):
    other = Chain(make_genesis(miners=5))
    twin = Device(id=device.id, key=device.key)

    assert code(chain, other.by_device(twin)) == "wrong_chain"


# --- step 6: ISDUP(T) -----------------------------------------------------------------------------


def test_a_transaction_is_unique_within_its_block(chain, device):
    transaction = chain.by_device(device)

    assert chain.rejection(transaction, transaction).code == "duplicate"


@pytest.mark.attack("D7", "D13")
def test_a_transaction_is_unique_as_long_as_it_is_timely(chain, device):
    transaction = chain.by_device(device, time_ms=chain.next_time_ms + FUTURE_DRIFT_MS)
    chain.commit(transaction)
    sent = transaction.payload.time_ms

    assert code(chain, transaction) == "duplicate"
    assert code(chain, transaction, time_ms=sent + LIFETIME_MS - 1) == "duplicate"
    assert code(chain, transaction, time_ms=sent + LIFETIME_MS) == "expired"


def test_equal_contents_under_another_nonce_are_another_transaction(chain, device):
    chain.commit(chain.by_device(device, reading(1)))

    assert code(chain, chain.by_device(device, reading(1))) is None


@pytest.mark.attack("B12")
def test_another_valid_signature_does_not_make_another_transaction(chain):
    device = chain.register(algorithm="p256")
    first = chain.by_device(device)
    chain.commit(first)
    private = ec.derive_private_key(
        int.from_bytes(sha256(b"key of device device").digest(), "big"),
        ec.SECP256R1(),
    )
    r, s = decode_dss_signature(
        private.sign(domain(SIGNATURE_TAG) + first.payload_bytes, ec.ECDSA(hashes.SHA256()))
    )
    other = normalise_p256(Signature(r.to_bytes(32, "big") + s.to_bytes(32, "big")))
    again = attach_signature(first.payload, other)

    assert again.is_signed_by(device.key.public)
    assert again.digest != first.digest
    assert code(chain, again) == "duplicate"


# --- the order of the steps -----------------------------------------------------------------------


def test_the_steps_are_taken_in_their_order():
    """A transaction that breaks every rule is refused for the first; mended, for the second; …"""
    chain = Chain()
    limited = chain.register("limited", limits="1:600")
    free = chain.register("free")
    first, unlimited = chain.by_device(limited), chain.by_device(free)
    chain.commit(first, unlimited)
    too_late = first.payload.time_ms + LIFETIME_MS
    stranger = Address(digest_of("nobody"))
    bad = forged(first)
    unknown = chain.by_device(Device(id=stranger, key=limited.key), time_ms=1)

    assert code(chain, forged(unknown), proposer=stranger) == "unauthorised_miner"
    assert code(chain, forged(unknown), time_ms=too_late) == "unknown_device"
    chain.commit(chain.update(limited, Suspend()))
    assert code(chain, bad, time_ms=too_late) == "device_not_active"
    chain.commit(chain.update(limited, Resume()))
    assert code(chain, bad, time_ms=too_late) == "expired"
    assert code(chain, bad) == "rate_limited"
    assert code(chain, forged(unlimited)) == "bad_signature"
    assert code(chain, unlimited) == "duplicate"


def test_what_is_of_no_chain_kind_or_form_is_refused_before_the_first_step(chain, device):
    stranger = Address(digest_of("nobody"))
    payload = chain.by_device(device).payload

    def refused(**fields):
        transaction = attach_signature(replace(payload, **fields), Signature(bytes(64)))
        return code(chain, transaction, proposer=stranger)

    assert refused(genesis_hash=stranger, kind="no.kind", body=b"\x00") == "wrong_chain"
    assert refused(kind="no.kind", body=b"\x00") == "unknown_kind"
    assert refused(body=b"\x00") == "malformed"
    assert refused() == "unauthorised_miner"


def test_other_kinds_take_steps_1_3_5_6_and_then_their_own_rules(chain, device):
    stranger = Address(digest_of("nobody"))
    late = chain.next_time_ms - LIFETIME_MS
    change = chain.update(device, Suspend())
    by_nobody = chain.transaction(
        "device.update",
        DeviceUpdate(device=device.id, change=Suspend()),
        key_of("nobody"),
        stranger,
    )

    assert code(chain, change, proposer=stranger) == "unauthorised_miner"
    assert code(chain, forged(change), time_ms=late + 2 * LIFETIME_MS) == "expired"
    assert code(chain, by_nobody) == "not_permitted"
    assert code(chain, forged(change)) == "bad_signature"
    chain.commit(change)
    assert code(chain, change) == "duplicate"
    assert chain.rejection(chain.update(device, Suspend())).code == "invalid_state"


@pytest.mark.attack("E5")
def test_nobody_acts_in_anothers_role(chain, device):
    body = DeviceUpdate(device=device.id, change=Suspend())
    miner = key_of("miner 0")
    for key, sender in (
        (device.key, device.id),
        (miner, chain.miners.members[0].id),
    ):
        transaction = chain.transaction("device.update", body, key, sender)
        assert code(chain, transaction) == "not_permitted"


# --- step 7: append, and only now is the rate charged ---------------------------------------------


@pytest.mark.attack("D14")
def test_forgeries_do_not_cost_their_victim_anything(chain):
    device = chain.register(limits="1:600")
    execution = chain.execution()
    for _ in range(20):
        with pytest.raises(Rejection, match="bad_signature"):
            execution.apply(forged(chain.by_device(device)))

    execution.apply(chain.by_device(device))
    with pytest.raises(Rejection, match="rate_limited"):
        execution.apply(chain.by_device(device))


@pytest.mark.attack("D14")
def test_replays_do_not_cost_their_victim_anything(chain):
    device = chain.register(limits="2:600")
    transaction = chain.by_device(device)
    chain.commit(transaction)
    execution = chain.execution()
    for _ in range(20):
        with pytest.raises(Rejection, match="duplicate"):
            execution.apply(transaction)

    execution.apply(chain.by_device(device))


def test_asking_costs_nothing(chain):
    device = chain.register(limits="1:600")
    context = chain.context()
    for _ in range(5):
        check_admission(chain.by_device(device), context, Transaction.is_signed_by)

    assert context.recent.summary(1).sent == {}
    assert context.state.delta() == {}


def test_one_bad_transaction_makes_the_block_invalid_and_names_the_step(chain, device):
    good = chain.block(chain.by_device(device))
    bad = replace(good, transactions=(*good.transactions, forged(chain.by_device(device))))

    with pytest.raises(InvalidBlock) as caught:
        check_block(chain.tip, bad, Transaction.is_signed_by)
    assert (caught.value.code, caught.value.index) == ("bad_signature", 1)
