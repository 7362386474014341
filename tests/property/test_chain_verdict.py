"""Verdicts: f liars among n miners neither frame a device nor shield one."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.crypto import address_of
from chain.kinds.policy import PolicySet
from chain.kinds.verdict import SCORE_MAX
from chain.records.policies import PolicyRecord
from chain.records.verdicts import DETECTOR_TABLE, JUDGEMENT_TABLE, TALLY_TABLE, TallyRecord
from chain.table import height_key
from chain.transactions import Transaction
from tests.builders import Chain, flow, key_of, make_genesis, make_model


def unverified(transaction: Transaction, key: bytes) -> bool:
    return True


def judged_chain(n):
    chain = Chain(make_genesis(miners=n, model=make_model()), verify=unverified)
    device = chain.register()
    return chain, device


@pytest.mark.attack("F7")
@settings(max_examples=80)
@given(st.data())
def test_f_liars_neither_frame_nor_shield(data):
    n = data.draw(st.integers(1, 7))
    chain, device = judged_chain(n)
    f, quorum = chain.miners.f, chain.miners.quorum
    truths = data.draw(st.lists(st.booleans(), min_size=1, max_size=4))
    liars = data.draw(st.sets(st.integers(0, n - 1), max_size=f))
    order = data.draw(st.permutations(range(n)))
    voters = order[: data.draw(st.integers(0, n))]
    chain.commit(*[chain.by_device(device, flow()) for _ in truths])
    height = chain.tip.header.height

    for voter in voters:
        said = (
            data.draw(st.lists(st.booleans(), min_size=len(truths), max_size=len(truths)))
            if voter in liars
            else truths
        )
        chain.commit(chain.verdict(voter, height, [SCORE_MAX * answer for answer in said]))

    tally = chain.state.get(TALLY_TABLE, device.id)
    if len(voters) < quorum:
        assert tally is None
        return
    assert tally is not None
    ring = int("".join(str(int(truth)) for truth in truths), 2)
    expected = TallyRecord(judged=len(truths), anomalous=sum(truths), ring=ring.to_bytes(32, "big"))
    assert replace(tally, accusers=()) == expected
    record = chain.state.get(JUDGEMENT_TABLE, height_key(height))
    assert record is not None
    assert record.outcome is not None
    for voter in set(voters) - liars:
        detector = chain.state.get(DETECTOR_TABLE, address_of(key_of(f"miner {voter}").public))
        assert detector is not None
        assert (detector.overruled, detector.missed) == (0, 0), "the honest are never overruled"
        assert (detector.judged, detector.anomalous) == (len(truths), sum(truths))


@settings(max_examples=40)
@given(
    outcomes=st.lists(st.booleans(), min_size=1, max_size=40),
    cuts=st.lists(st.integers(1, 8), min_size=1, max_size=8),
    window=st.integers(1, 12),
    share=st.integers(1, 12),
)
def test_a_device_is_quarantined_when_k_of_its_last_m_flows_are_anomalous_and_not_before(
    outcomes, cuts, window, share
):
    anomalous_min = min(share, window)
    chain = Chain(make_genesis(miners=1, model=make_model()), verify=unverified)
    device = chain.register()
    policy = PolicyRecord(anomalous_min=anomalous_min, window=window, duration_ms=10**9)
    chain.commit(chain.by_registrar("policy.set", PolicySet(policy=policy)))
    seen: list[bool] = []
    heights, start = [], 0
    for cut in cuts * 40:
        part = outcomes[start : start + cut]
        if not part:
            break
        start += cut
        chain.commit(*[chain.by_device(device, flow()) for _ in part])
        heights.append((chain.tip.header.height, part))
    for height, part in heights:
        chain.commit(chain.verdict(0, height, [SCORE_MAX * outcome for outcome in part]))
        seen += part
        crossed = any(
            sum(seen[max(0, end - window) : end]) >= anomalous_min
            for end in range(1, len(seen) + 1)
        )
        assert (chain.device(device).status == "quarantined") == crossed
        if crossed:
            return
