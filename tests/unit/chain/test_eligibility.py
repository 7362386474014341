"""chain.eligibility: who proposes, and who is passed over."""

from dataclasses import replace

import pytest

from chain.blocks import Event
from chain.eligibility import (
    PASS_HEIGHTS_BASE,
    PASS_HEIGHTS_MAX,
    eligible_miners,
    proposer_of,
)
from chain.kinds.miners import MinerPropose, RemoveMiner
from chain.records.miners import PASSED_OVER, PassedOver
from chain.state import passed_over_of
from chain.types import Height, Round
from tests.builders import Chain, make_genesis


def eligible(chain):
    return eligible_miners(chain.state, chain.miners, chain.tip.next_height)


def entries(chain):
    return {entry.miner: entry for entry in passed_over_of(chain.state).entries}


def test_proposers_rotate_with_height_and_round():
    members = eligible(Chain())

    def proposer(height, round):
        return proposer_of(members, Height(height), Round(round))

    assert [proposer(height, 0) for height in range(8)] == [*members, *members]
    assert [proposer(3, round) for round in range(4)] == [*members[3:], *members[:3]]


def test_everybody_is_eligible_at_first():
    chain = Chain()

    assert eligible(chain) == tuple(member.id for member in chain.miners)


def test_a_failed_round_passes_its_proposer_over():
    chain = Chain()
    blamed = chain.proposer(0)
    execution = chain.commit(round=1)

    assert entries(chain)[blamed].failures == 1
    until = str(entries(chain)[blamed].until_height)
    assert execution.block_receipt.events == (
        Event(name="miner_passed_over", values=(blamed.hex(), until)),
    )
    assert entries(chain)[blamed].until_height == 1 + 1 + PASS_HEIGHTS_BASE
    assert blamed not in eligible(chain)
    assert len(eligible(chain)) == 3


def test_the_passed_over_returns_after_its_heights_and_a_block_clears_it():
    chain = Chain()
    blamed = chain.proposer(0)
    chain.commit(round=1)
    for _ in range(PASS_HEIGHTS_BASE):
        assert blamed not in eligible(chain)
        chain.commit()
    assert blamed in eligible(chain)
    assert entries(chain)[blamed].failures == 1

    while chain.proposer() != blamed:
        chain.commit()
    chain.commit()

    assert blamed not in entries(chain)


def test_each_further_failure_doubles_the_time_up_to_a_cap():
    chain = Chain()
    victim = chain.miners.members[0].id
    lengths: list[int] = []
    while len(lengths) < 9:
        if chain.proposer(0) == victim:
            chain.commit(round=1)
            entry = entries(chain)[victim]
            lengths.append(entry.until_height - chain.tip.header.height - 1)
            # Skip the wait: what matters is how often it failed.
            chain.put(*_ended(chain))
        else:
            chain.commit()

    assert lengths == [8, 16, 32, 64, 128, 256, 512, PASS_HEIGHTS_MAX, PASS_HEIGHTS_MAX]


def _ended(chain):
    table = passed_over_of(chain.state)
    ended = [replace(entry, until_height=Height(0)) for entry in table.entries]
    return PASSED_OVER, PassedOver(entries=tuple(ended))


@pytest.mark.attack("B9")
@pytest.mark.parametrize(("miners", "round"), [(1, 1), (2, 1), (3, 2), (4, 2), (4, 9), (7, 3)])
def test_more_than_f_failed_rounds_are_an_outage_and_nobodys_fault(miners, round):
    chain = Chain(make_genesis(miners=miners))
    chain.commit(round=round)

    assert entries(chain) == {}


def test_all_earlier_proposers_of_a_height_are_blamed():
    chain = Chain(make_genesis(miners=7))
    blamed = {chain.proposer(0), chain.proposer(1)}
    chain.commit(round=2)

    assert set(entries(chain)) == blamed


@pytest.mark.attack("B9")
def test_no_more_than_f_are_passed_over_and_the_oldest_returns_first():
    chain = Chain()
    first = chain.proposer(0)
    chain.commit(round=1)
    second = chain.proposer(0)
    chain.commit(round=1)

    assert list(entries(chain)) == [first, second]
    assert first in eligible(chain)
    assert second not in eligible(chain)


def test_demoted_members_count_among_the_f():
    chain = Chain()
    blamed = chain.proposer(0)
    chain.commit(round=1)
    other = next(member.id for member in chain.miners if member.id != blamed)
    chain.demote(other)

    assert other not in eligible(chain)
    assert blamed in eligible(chain)
    assert len(eligible(chain)) == 3


def test_if_all_are_demoted_someone_still_has_to_propose():
    chain = Chain()
    for member in chain.miners:
        chain.demote(member.id)

    assert len(eligible(chain)) == 4


def test_who_leaves_the_set_leaves_the_table():
    chain = Chain(make_genesis(miners=5))
    blamed = chain.proposer(0)
    number = next(n for n in range(5) if chain.genesis.miners[n].key == chain.keys[blamed].public)
    chain.commit(round=1)
    voters = [n for n in range(5) if n != number]
    removal = MinerPropose(change=RemoveMiner(miner=blamed))
    chain.decide("miner.propose", removal, voters=voters[:4])
    assert blamed in entries(chain)
    chain.commit()
    chain.commit()

    assert entries(chain) == {}
