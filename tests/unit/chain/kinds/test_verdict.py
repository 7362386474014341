"""verdict: scores are data; quorums of them quarantine devices."""

from dataclasses import replace

import pytest

from chain.crypto import address_of
from chain.kinds.device_registry import Suspend
from chain.kinds.miners import MinerPropose, RemoveMiner
from chain.kinds.policy import PolicySet
from chain.kinds.verdict import (
    FLAGGED_EVENTS_MAX,
    SCORE_MAX,
    Opinion,
    Reason,
    Verdict,
    opinion_of,
    pack_opinions,
    unpack_reasons,
    unpack_scores,
)
from chain.parameters import VERDICT_WINDOW
from chain.records.policies import PolicyRecord
from chain.records.verdicts import JUDGEMENT_TABLE, TALLY_TABLE, Accuser, TallyRecord
from chain.table import height_key
from chain.types import Height
from tests.builders import (
    MODEL,
    THRESHOLD_PPM,
    Chain,
    digest_of,
    flow,
    key_of,
    make_genesis,
    make_model,
    opinions_of,
    reading,
)

BAD, GOOD = SCORE_MAX, 0


@pytest.fixture
def chain():
    return Chain(make_genesis(model=make_model()))


@pytest.fixture
def device(chain):
    return chain.register()


def set_policy(chain, **fields):
    chain.commit(chain.by_registrar("policy.set", PolicySet(policy=PolicyRecord(**fields))))


def send(chain, device, count=1):
    """Commit flows of a device and return the height of their block."""
    chain.commit(*[chain.by_device(device, flow()) for _ in range(count)])
    return chain.tip.header.height


def judge(chain, device, outcomes):
    """Let a quorum find flows anomalous or not; return the events of the deciding verdict."""
    height = send(chain, device, len(outcomes))
    scores = [BAD if outcome else GOOD for outcome in outcomes]
    execution = chain.commit(*[chain.verdict(voter, height, scores) for voter in (0, 1, 2)])
    return [(event.name, event.values) for event in execution.receipts[-1].events]


def verdict_of(chain, height, opinions):
    """Return the body of a verdict on a block."""
    judged = chain.tip.recent.judged(height) or digest_of("nothing")
    return Verdict(height=Height(height), model=MODEL, judged=judged, opinions=opinions)


def raw(pairs):
    """Return the bytes of scores and reasons, whatever they are."""
    return b"".join([(score << 4 | reason).to_bytes(3, "big") for score, reason in pairs])


def status(chain, device):
    return chain.device(device).status


def tally(chain, device):
    record = chain.state.get(TALLY_TABLE, device.id)
    assert record is not None
    return record


def judgement(chain, height):
    return chain.state.get(JUDGEMENT_TABLE, height_key(height))


# --- what is taken --------------------------------------------------------------------------------


def test_score_and_reason_are_three_bytes_for_each_flow():
    scores = [0, 1, 255, 65_536, SCORE_MAX]

    packed = pack_opinions([opinion_of(score, 255) for score in scores])

    assert len(packed) == 15
    assert unpack_scores(packed) == scores
    assert unpack_reasons(packed) == [0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("score", "threshold", "opinion"),
    [
        (4, 5, Opinion(score_ppm=4, reason=Reason.NORMAL)),
        (5, 5, Opinion(score_ppm=5, reason=Reason.MODEL)),
        (None, 5, Opinion(score_ppm=SCORE_MAX, reason=Reason.UNREADABLE)),
        # A model with such a threshold calls nothing anomalous.
        (None, SCORE_MAX + 1, Opinion(score_ppm=SCORE_MAX, reason=Reason.NORMAL)),
    ],
)
def test_the_reason_follows_from_score_and_threshold(score, threshold, opinion):
    assert opinion_of(score, threshold) == opinion


def test_a_verdict_judges_a_committed_block(chain, device):
    height = send(chain, device)

    assert chain.rejection(chain.verdict(0, height + 1, [BAD])).code == "too_early"
    assert chain.rejection(chain.verdict(0, height + 2, [BAD])).code == "too_early"
    chain.commit(chain.verdict(0, height, [BAD]))


def test_flows_of_the_same_block_are_not_judged_yet(chain, device):
    body = verdict_of(chain, chain.tip.next_height, opinions_of([BAD]))

    assert chain.rejection(chain.by_miner(0, "verdict", body)).code == "too_early"


def test_a_verdict_is_taken_within_the_window(chain, device):
    height = send(chain, device)
    for _ in range(VERDICT_WINDOW - 1):
        chain.commit()
    in_time = chain.verdict(0, height, [BAD])
    chain.commit(in_time)

    assert judgement(chain, height) is None, "forgotten with the last block that could use it"
    assert chain.rejection(chain.verdict(1, height, [BAD])).code == "too_late"


def test_only_flows_that_the_model_reads_are_judged(chain, device):
    other = flow(schema=digest_of("another schema"))
    chain.commit(
        chain.by_device(device, reading()),
        chain.by_device(device, other),
        chain.by_device(device, flow()),
    )

    height = chain.tip.header.height
    assert chain.tip.recent.flows(height) == (device.id,)
    assert chain.rejection(chain.verdict(0, height, [BAD, BAD, BAD])).code == "malformed"
    chain.commit(chain.verdict(0, height, [BAD]))


def test_a_block_without_flows_is_not_judged(chain, device):
    assert chain.rejection(chain.verdict(0, 1, [BAD])).code == "nothing_to_judge"


@pytest.mark.attack("D4")
@pytest.mark.parametrize(
    "opinions",
    [
        opinions_of([BAD]),
        opinions_of([BAD] * 3),
        opinions_of([BAD] * 2) + b"\x00",
        opinions_of([BAD, SCORE_MAX + 1]),
        b"",
        # A reason that is unknown, one without the score, a score without one.
        raw([(BAD, 1), (BAD, 3)]),
        raw([(GOOD, 1), (BAD, 1)]),
        raw([(GOOD, 0), (BAD, 0)]),
    ],
)
def test_opinions_of_another_shape_are_refused(chain, device, opinions):
    body = verdict_of(chain, send(chain, device, 2), opinions)

    assert chain.rejection(chain.by_miner(0, "verdict", body)).code == "malformed"


@pytest.mark.attack("F7")
def test_a_verdict_names_what_it_has_judged(chain, device):
    height, other = send(chain, device), send(chain, device)
    told = replace(
        verdict_of(chain, height, opinions_of([BAD])), judged=chain.tip.recent.judged(other)
    )

    assert chain.rejection(chain.by_miner(0, "verdict", told)).code == "wrong_input"
    chain.commit(chain.by_miner(0, "verdict", verdict_of(chain, height, told.opinions)))


def test_a_verdict_is_bound_to_the_model_of_that_height(chain, device):
    height = send(chain, device)
    wrong = chain.verdict(0, height, [BAD], model=digest_of("another model"))

    assert chain.rejection(wrong).code == "wrong_model"


def test_a_miner_judges_a_block_once(chain, device):
    height = send(chain, device)
    chain.commit(chain.verdict(0, height, [GOOD]))

    assert chain.rejection(chain.verdict(0, height, [BAD])).code == "duplicate_verdict"
    # Before its scores are looked at, for a pool may hold many of them.
    assert chain.rejection(chain.verdict(0, height, [BAD] * 2)).code == "duplicate_verdict"


def test_strangers_and_demoted_miners_judge_nothing(chain, device):
    height = send(chain, device)
    body = verdict_of(chain, height, opinions_of([BAD]))
    by_device = chain.transaction("verdict", body, device.key, device.id)
    chain.demote(address_of(key_of("miner 3").public))

    assert chain.rejection(by_device).code == "not_permitted"
    assert chain.rejection(chain.verdict(3, height, [BAD])).code == "not_permitted"


# --- what follows ---------------------------------------------------------------------------------


def test_a_quorum_of_verdicts_decides_a_block(chain, device):
    height = send(chain, device, 2)
    chain.commit(chain.verdict(0, height, [BAD, GOOD]), chain.verdict(1, height, [BAD, BAD]))
    assert chain.state.get(TALLY_TABLE, device.id) is None

    execution = chain.commit(chain.verdict(2, height, [GOOD, GOOD]))

    accused = {0: 1, 1: 1}
    ids = {address_of(key_of(f"miner {number}").public): n for number, n in accused.items()}
    assert tally(chain, device) == TallyRecord(
        judged=2,
        anomalous=1,
        ring=bytes(31) + b"\x02",
        accusers=tuple(Accuser(miner=id, flows=ids[id]) for id in sorted(ids)),
    )
    event = execution.receipts[0].events[0]
    assert (event.name, event.values) == ("block_judged", (str(height), "2", "1", "0"))


def test_a_late_verdict_is_on_record_and_changes_nothing(chain, device):
    height = send(chain, device)
    chain.judge(height, [GOOD])
    before = tally(chain, device)

    chain.commit(chain.verdict(3, height, [BAD]))

    assert tally(chain, device) == before
    assert len(judgement(chain, height).miners) == 4
    assert judgement(chain, height).votes == ()


@pytest.mark.parametrize("score", [THRESHOLD_PPM - 1, THRESHOLD_PPM])
def test_a_score_at_the_threshold_is_anomalous(chain, device, score):
    chain.judge(send(chain, device), [score])

    assert tally(chain, device).anomalous == (score == THRESHOLD_PPM)


def test_a_verdict_of_a_miner_demoted_meanwhile_does_not_count(chain, device):
    height = send(chain, device)
    chain.commit(chain.verdict(0, height, [BAD]), chain.verdict(1, height, [BAD]))
    chain.demote(address_of(key_of("miner 0").public))
    chain.commit(chain.verdict(2, height, [GOOD]))
    assert judgement(chain, height).outcome is None

    chain.commit(chain.verdict(3, height, [GOOD]))

    assert judgement(chain, height).outcome is not None
    assert tally(chain, device).anomalous == 0


def test_records_of_verdicts_hold_members_only(chain, device):
    # However often the set changes, the record stays within what can be read again.
    height = send(chain, device)
    chain.commit(chain.verdict(3, height, [BAD]))
    removed = address_of(key_of("miner 3").public)
    chain.decide("miner.propose", MinerPropose(change=RemoveMiner(miner=removed)))
    chain.commit()
    chain.commit(chain.verdict(0, height, [BAD]))

    assert judgement(chain, height).miners == (address_of(key_of("miner 0").public),)
    assert len(judgement(chain, height).votes) == 1


def test_a_new_member_judges_too(chain, device):
    height = send(chain, device)
    chain.decide("miner.propose", chain.addition())
    assert chain.rejection(chain.verdict(4, height, [BAD])).code == "not_permitted"
    chain.commit()

    chain.commit(chain.verdict(4, height, [BAD]))


# --- quarantine -----------------------------------------------------------------------------------


def test_a_device_is_quarantined_at_exactly_k_of_m(chain, device):
    set_policy(chain, anomalous_min=3, window=5, duration_ms=60_000)

    judge(chain, device, [1, 1, 0, 0, 0])
    judge(chain, device, [1])
    assert status(chain, device) == "active", "only two of the last five"
    judge(chain, device, [0, 1])
    assert status(chain, device) == "active"
    events = judge(chain, device, [1])

    assert status(chain, device) == "quarantined"
    until = chain.tip.header.time_ms + 60_000
    assert chain.device(device).quarantined_until_ms == until
    assert ("device_quarantined", (device.id.hex(), str(until))) in events


def test_the_default_policy_stands_at_30_of_100(chain, device):
    judge(chain, device, [1] * 29)
    assert status(chain, device) == "active"

    judge(chain, device, [1])
    assert status(chain, device) == "quarantined"


def test_algorithm_1_obeys_from_the_next_transaction_on(chain, device):
    set_policy(chain, anomalous_min=1, window=1)
    height = send(chain, device)
    verdicts = [chain.verdict(voter, height, [BAD]) for voter in (0, 1, 2)]

    assert chain.rejection(chain.by_device(device), *verdicts).code == "device_not_active"


def test_a_quarantine_ends_at_its_time(chain, device):
    set_policy(chain, anomalous_min=1, window=1, duration_ms=90_000)
    judge(chain, device, [1])
    until = chain.device(device).quarantined_until_ms

    late = chain.by_device(device, time_ms=until)
    assert chain.rejection(late, time_ms=until - 1).code == "device_not_active"
    chain.commit(late, time_ms=until)


def test_the_ring_is_cleared_when_a_quarantine_begins(chain, device):
    set_policy(chain, anomalous_min=2, window=10, duration_ms=1_000)
    judge(chain, device, [1, 1])
    assert tally(chain, device).ring == bytes(32)
    chain.pass_time(1_000)

    judge(chain, device, [1])
    assert status(chain, device) == "quarantined"
    assert chain.device(device).is_active(chain.tip.header.time_ms), "the old one, and over"
    assert tally(chain, device).judged == 3


def test_flows_judged_during_a_quarantine_count_but_neither_prolong_it_nor_begin_another(
    chain, device
):
    set_policy(chain, anomalous_min=2, window=10, duration_ms=60_000)
    first, second = send(chain, device, 3), send(chain, device, 2)
    chain.judge(first, [BAD] * 3)
    until = chain.device(device).quarantined_until_ms
    chain.judge(second, [BAD] * 2)
    assert chain.device(device).quarantined_until_ms == until
    assert tally(chain, device) == TallyRecord(judged=5, anomalous=5, ring=bytes(32))

    chain.pass_time(60_000)
    judge(chain, device, [0, 1])

    assert chain.device(device).is_active(chain.tip.header.time_ms)
    assert chain.device(device).quarantined_until_ms == until


def test_a_suspended_device_is_not_quarantined(chain, device):
    set_policy(chain, anomalous_min=1, window=1)
    height = send(chain, device)
    chain.commit(chain.update(device, Suspend()))
    chain.judge(height, [BAD])

    assert status(chain, device) == "suspended"


def test_an_observing_policy_flags_and_lets_go_on(chain, device):
    set_policy(chain, action="observe", anomalous_min=2, window=2)

    events = judge(chain, device, [1, 1])

    assert status(chain, device) == "active"
    assert ("device_flagged", (device.id.hex(),)) in events
    assert events[0][1][3] == "1"
    chain.commit(chain.by_device(device))


def test_a_receipt_names_so_many_flagged_devices_and_no_more(chain):
    # Otherwise a policy that observes single flows could fill receipts beyond what is read again.
    set_policy(chain, action="observe", anomalous_min=1, window=1)
    count = FLAGGED_EVENTS_MAX + 5
    pairs = [chain.registration(f"device-{number}") for number in range(count)]
    chain.commit(*[transaction for _, transaction in pairs])
    chain.commit(*[chain.by_device(device, flow()) for device, _ in pairs])
    height = chain.tip.header.height

    execution = chain.commit(*[chain.verdict(voter, height, [BAD] * count) for voter in (0, 1, 2)])

    events = execution.receipts[-1].events
    assert events[0].values == (str(height), str(count), str(count), str(count))
    assert len(events) == 1 + FLAGGED_EVENTS_MAX
