"""Measures: what verdicts bring upon devices, appeals, releases, and the record of detectors."""

import pytest

from chain.crypto import address_of
from chain.kinds.appeal import DeviceAppeal
from chain.kinds.device_registry import DeviceRelease, RefuseAppeal, Revoke, Suspend
from chain.kinds.policy import PolicySet
from chain.kinds.verdict import SCORE_MAX
from chain.limits import parse_limits
from chain.records.measures import APPEAL_TEXT_SIZE_MAX, MEASURE_TABLE
from chain.records.policies import PolicyRecord
from chain.records.verdicts import DETECTOR_TABLE, TALLY_TABLE, Accuser, DetectorRecord
from tests.builders import MODEL, Chain, flow, key_of, make_genesis, make_model

BAD, GOOD = SCORE_MAX, 0
MINERS = [address_of(key_of(f"miner {number}").public) for number in range(4)]
HONEST, LIAR = (0, 1, 2), 3


@pytest.fixture
def chain():
    return Chain(make_genesis(model=make_model(), organisations=("acme", "globex")))


@pytest.fixture
def device(chain):
    return chain.register()


def set_policy(chain, **fields):
    policy = PolicyRecord(**{"anomalous_min": 1, "window": 1, "duration_ms": 600_000, **fields})
    chain.commit(chain.by_registrar("policy.set", PolicySet(policy=policy)))


def judge(chain, device, scores, *, voters=HONEST):
    """Let flows of a device be found so; `scores` is a list for all, or one for each voter."""
    said = scores if isinstance(scores, dict) else dict.fromkeys(voters, scores)
    count = len(next(iter(said.values())))
    chain.commit(*[chain.by_device(device, flow()) for _ in range(count)])
    height = chain.tip.header.height
    execution = chain.commit(*[chain.verdict(voter, height, said[voter]) for voter in said])
    return [event.name for receipt in execution.receipts for event in receipt.events]


def appeal(chain, device, text="it was a firmware update"):
    return chain.transaction("device.appeal", DeviceAppeal(text=text), device.key, device.id)


def release(chain, device):
    return chain.by_registrar("device.release", DeviceRelease(device=device.id))


def refusal(chain, device, **fields):
    return chain.update(device, RefuseAppeal(), **fields)


def measure(chain, device):
    return chain.state.get(MEASURE_TABLE, device.id)


def detector(chain, number):
    return chain.state.get(DETECTOR_TABLE, MINERS[number]) or DetectorRecord()


# --- the four actions -----------------------------------------------------------------------------


def test_a_quarantine_leaves_on_record_why(chain, device):
    set_policy(chain, anomalous_min=2, window=3)
    judge(chain, device, [BAD])

    judge(chain, device, [GOOD, BAD])

    found = measure(chain, device)
    height = chain.tip.header.height
    assert (found.action, found.height, found.judged_height) == ("quarantine", height, height - 1)
    assert (found.model, found.judged) == (MODEL, chain.tip.recent.judged(height - 1))
    assert (found.anomalous, found.window) == (2, 3)
    assert found.until_ms == chain.device(device).quarantined_until_ms
    assert found.accusers == tuple(Accuser(miner=miner, flows=2) for miner in sorted(MINERS[:3]))
    assert (found.appeal, found.answer, found.answered_height) == (None, "none", None)


def test_a_limited_device_goes_on_under_the_limits_of_the_policy(chain, device):
    set_policy(chain, action="limit", limits=parse_limits("2:60"))

    assert judge(chain, device, [BAD]) == ["block_judged", "device_limited"]

    until = chain.device(device).limited_until_ms
    assert until == chain.tip.header.time_ms + 600_000
    assert chain.device(device).status == "active"
    # Its flow of the block before counts, as everything does that it sent within the window.
    first, second = chain.by_device(device), chain.by_device(device)
    assert chain.rejection(second, first).code == "rate_limited"
    chain.commit(first)


def test_a_limit_ends_at_its_time(chain, device):
    set_policy(chain, action="limit", limits=parse_limits("1:600"), duration_ms=120_000)
    judge(chain, device, [BAD])
    until = chain.device(device).limited_until_ms

    early = chain.by_device(device, time_ms=until - 1)
    late = [chain.by_device(device, time_ms=until) for _ in range(3)]

    assert chain.rejection(early, time_ms=until - 1).code == "rate_limited"
    chain.commit(*late, time_ms=until)


def test_a_limited_device_that_goes_on_stays_limited_by_the_same_measure(chain, device):
    set_policy(chain, action="limit", limits=parse_limits("9:60"))
    judge(chain, device, [BAD])
    chain.commit(appeal(chain, device))
    before = measure(chain, device)

    assert judge(chain, device, [BAD]) == ["block_judged"]

    after = measure(chain, device)
    assert after.until_ms == chain.device(device).limited_until_ms > before.until_ms
    assert (after.height, after.appeal) == (before.height, before.appeal)
    assert after.accusers[0].flows == 2
    assert chain.rejection(appeal(chain, device)).code == "already_appealed"


def test_a_revoking_policy_ends_a_device_for_good(chain, device):
    set_policy(chain, action="revoke")

    assert judge(chain, device, [BAD]) == ["block_judged", "device_revoked"]

    assert chain.device(device).status == "revoked"
    assert measure(chain, device).until_ms == 0
    assert chain.rejection(chain.by_device(device)).code == "device_not_active"
    assert chain.rejection(appeal(chain, device)).code == "not_permitted"
    assert chain.rejection(release(chain, device)).code == "invalid_state"


def test_an_observing_policy_takes_no_measure(chain, device):
    set_policy(chain, action="observe")

    assert judge(chain, device, [BAD]) == ["block_judged", "device_flagged"]

    assert measure(chain, device) is None
    assert chain.rejection(appeal(chain, device)).code == "invalid_state"


def test_a_policy_that_limits_names_limits(chain):
    policy = PolicyRecord(action="limit", limits=())
    transaction = chain.by_registrar("policy.set", PolicySet(policy=policy))

    assert chain.rejection(transaction).code == "malformed"


# --- appeals --------------------------------------------------------------------------------------


@pytest.fixture
def stopped(chain, device):
    """A device that is quarantined for one anomalous flow."""
    set_policy(chain)
    judge(chain, device, [BAD])
    return device


@pytest.mark.attack("F7")
def test_a_quarantined_device_appeals_once_against_each_measure(chain, stopped):
    sent = appeal(chain, stopped)
    execution = chain.commit(sent)

    found = measure(chain, stopped)
    assert [event.name for event in execution.receipts[0].events] == ["device_appealed"]
    assert (found.appeal.transaction, found.appeal.text) == (sent.id, "it was a firmware update")
    assert found.is_appealed
    assert chain.rejection(appeal(chain, stopped)).code == "already_appealed"

    chain.commit(refusal(chain, stopped))
    assert chain.rejection(appeal(chain, stopped)).code == "already_appealed"

    chain.pass_time(600_000)
    judge(chain, stopped, [BAD])
    chain.commit(appeal(chain, stopped))


def test_only_a_device_that_is_limited_or_quarantined_now_appeals(chain, stopped):
    other = chain.register("other")
    assert chain.rejection(appeal(chain, other)).code == "invalid_state"
    chain.pass_time(600_000)

    assert chain.rejection(appeal(chain, stopped)).code == "invalid_state"


def test_an_appeal_is_signed_by_the_device(chain, stopped):
    other = chain.register("other")
    body = DeviceAppeal(text="let it go")
    forged = chain.transaction("device.appeal", body, other.key, stopped.id)

    assert chain.rejection(forged).code == "bad_signature"
    assert chain.rejection(chain.by_registrar("device.appeal", body)).code == "not_permitted"


@pytest.mark.parametrize("change", [Suspend(), Revoke()])
def test_a_suspension_or_revocation_overtakes_the_measure(chain, stopped, change):
    chain.commit(chain.update(stopped, change))

    assert chain.rejection(appeal(chain, stopped)).code in ("invalid_state", "not_permitted")


@pytest.mark.parametrize(
    "text", ["", "x" * (APPEAL_TEXT_SIZE_MAX + 1), "two\nlines", "\x1b[2J", "\u202eabc"]
)
def test_the_text_of_an_appeal_is_one_plain_line(chain, stopped, text):
    assert chain.rejection(appeal(chain, stopped, text)).code == "malformed"


def test_a_refused_appeal_leaves_the_measure(chain, stopped):
    assert chain.rejection(refusal(chain, stopped)).code == "invalid_state"
    chain.commit(appeal(chain, stopped))
    assert chain.rejection(refusal(chain, stopped, organisation="globex")).code == "not_permitted"

    execution = chain.commit(refusal(chain, stopped))

    assert execution.receipts[0].events[0].name == "device_refuse"
    found = measure(chain, stopped)
    assert (found.answer, found.answered_height) == ("refused", chain.tip.header.height)
    assert chain.device(stopped).status == "quarantined"
    assert chain.rejection(refusal(chain, stopped)).code == "invalid_state"
    assert all(detector(chain, number).released == 0 for number in range(4))


def test_a_release_may_follow_a_refusal(chain, stopped):
    chain.commit(appeal(chain, stopped))
    chain.commit(refusal(chain, stopped))

    chain.commit(release(chain, stopped))

    assert measure(chain, stopped).answer == "released"
    assert chain.device(stopped).status == "active"


@pytest.mark.parametrize("action", ["limit", "quarantine"])
def test_a_release_ends_the_measure_and_resets_the_tally(chain, device, action):
    set_policy(chain, action=action, anomalous_min=2, window=4, limits=parse_limits("9:60"))
    judge(chain, device, [BAD, BAD])
    chain.commit(appeal(chain, device))

    chain.commit(release(chain, device))

    found = chain.device(device)
    assert (found.status, found.quarantined_until_ms, found.limited_until_ms) == ("active", 0, 0)
    tally = chain.state.get(TALLY_TABLE, device.id)
    assert (tally.ring, tally.accusers) == (bytes(32), ())
    assert not measure(chain, device).is_appealed
    judge(chain, device, [BAD])
    assert chain.device(device).status == "active"


# --- the record of detectors ----------------------------------------------------------------------


def test_a_verdict_is_counted_with_its_flows(chain, device):
    judge(chain, device, [BAD, GOOD, GOOD])

    assert detector(chain, 0) == DetectorRecord(verdicts=1, judged=3, anomalous=1)
    assert detector(chain, LIAR) == DetectorRecord()


def test_whoever_stands_alone_is_overruled_by_the_decision(chain, device):
    said = {0: [GOOD, BAD, GOOD], 1: [GOOD, BAD, GOOD], LIAR: [BAD, GOOD, BAD]}

    judge(chain, device, said)

    assert detector(chain, 0) == DetectorRecord(verdicts=1, judged=3, anomalous=1)
    assert detector(chain, LIAR) == DetectorRecord(
        verdicts=1, judged=3, anomalous=2, overruled=2, missed=1
    )


def test_a_late_verdict_is_counted_as_late_and_compared(chain, device):
    judge(chain, device, [BAD, GOOD])
    height = chain.tip.header.height - 1

    chain.commit(chain.verdict(LIAR, height, [GOOD, BAD]))

    assert detector(chain, LIAR) == DetectorRecord(
        verdicts=1, late=1, judged=2, anomalous=1, overruled=1, missed=1
    )


@pytest.mark.attack("F7")
def test_a_release_is_counted_against_those_who_accused_the_device_and_no_flow_twice(chain, device):
    set_policy(chain, anomalous_min=2, window=4)
    judge(chain, device, {0: [BAD, BAD, BAD], 1: [GOOD, BAD, BAD], 2: [GOOD, GOOD, BAD]})
    assert chain.device(device).status == "quarantined"

    chain.commit(release(chain, device))

    assert [detector(chain, number).released for number in range(4)] == [2, 2, 1, 0]
    assert [detector(chain, number).overruled for number in range(4)] == [1, 0, 0, 0]
    assert chain.rejection(release(chain, device)).code == "invalid_state"


@pytest.mark.attack("F7")
def test_a_single_liar_frames_nobody_and_is_found_out(chain, device):
    set_policy(chain, anomalous_min=1, window=1)

    for _ in range(5):
        judge(chain, device, {LIAR: [BAD] * 4, 0: [GOOD] * 4, 1: [GOOD] * 4})

    assert chain.device(device).status == "active"
    assert measure(chain, device) is None
    assert detector(chain, LIAR).overruled == 20


@pytest.mark.attack("F7")
def test_a_single_liar_shields_nobody_and_is_found_out(chain, device):
    set_policy(chain, anomalous_min=3, window=4)

    judge(chain, device, {LIAR: [GOOD] * 3, 0: [BAD] * 3, 1: [BAD] * 3})

    assert chain.device(device).status == "quarantined"
    assert detector(chain, LIAR).missed == 3
