"""DESIGN rule 10 over arbitrary histories of failed rounds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.eligibility import (
    PASS_HEIGHTS_BASE,
    PASS_HEIGHTS_MAX,
    eligible_miners,
    proposer_of,
    record_proposers,
)
from chain.miners import faulty_max
from chain.state import Overlay, passed_over_of
from chain.types import Height, Round
from tests.builders import Chain, make_genesis

histories = st.lists(st.integers(0, 4), min_size=1, max_size=60)


@pytest.mark.attack("B9")
@settings(max_examples=60)
@given(n=st.integers(1, 10), rounds=histories, demoted=st.sets(st.integers(0, 9), max_size=4))
def test_rule_10_holds_in_every_history(n, rounds, demoted):
    chain = Chain(make_genesis(miners=n))
    miners = chain.miners
    for index in sorted(demoted):
        if index < n:
            chain.demote(miners.members[index].id)
    away = {miners.members[index].id for index in demoted if index < n}
    view = Overlay(chain.state)
    twin = Overlay(chain.state)
    f = faulty_max(n)

    for number, round in enumerate(rounds):
        height = Height(number + 1)
        eligible = eligible_miners(view, miners, height)
        before = {entry.miner: entry for entry in passed_over_of(view).entries}
        out = [member.id for member in miners if member.id not in eligible]

        assert eligible, "somebody may propose"
        assert list(eligible) == sorted(eligible)
        if len(away) < n:
            assert away <= set(out), "who is demoted does not propose"
            assert len(out) <= max(f, len(away)), "no more than f are kept out"
        skipped = [id for id in before if id in out and id not in away]
        waiting = [
            id for id, entry in before.items() if entry.until_height > height and id not in away
        ]
        assert skipped == waiting[len(waiting) - len(skipped) :], "the oldest returns first"

        proposer = proposer_of(eligible, height, Round(round))
        for state in (view, twin):
            record_proposers(
                state,
                height=height,
                proposer=proposer,
                proposal_round=Round(round),
                eligible=eligible,
                miners=miners,
            )
        after = {entry.miner: entry for entry in passed_over_of(view).entries}
        assert proposer not in after, "who proposes is cleared"
        blamed = {proposer_of(eligible, height, Round(r)) for r in range(round)} - {proposer}
        if round > f:
            assert after == {id: e for id, e in before.items() if id != proposer}, "an outage"
            continue
        for id, entry in after.items():
            if id not in blamed:
                assert entry == before[id]
                continue
            failures = 1 + (before[id].failures if id in before else 0)
            length = min(PASS_HEIGHTS_BASE * 2 ** (failures - 1), PASS_HEIGHTS_MAX)
            assert entry.failures == min(failures, 64)
            assert entry.until_height == height + 1 + length
        assert blamed <= set(after)
    assert view.delta() == twin.delta(), "a function of what is committed"


@given(n=st.integers(1, 10), height=st.integers(0, 1_000), round=st.integers(0, 30))
def test_any_n_rounds_in_a_row_have_n_proposers(n, height, round):
    chain_ids = tuple(member.id for member in Chain(make_genesis(miners=n)).miners)
    proposers = {
        proposer_of(chain_ids, Height(height), Round(round + offset)) for offset in range(n)
    }

    assert proposers == set(chain_ids)
