"""A miner that runs twice with one key breaks no law; what does is found by the same scenarios."""

import pytest

from tests import planted_bugs as planted
from tests.interaction.cluster import miner_keys
from tests.twins.run import play, play_many, scenario_of, space_of
from tests.twins.scenarios import Space
from tests.twins.world import Move, Violation, World

ROUNDS = 6
SEED = 1

FOUND_BY = {
    planted.quorum_off_by_one: 29,
    planted.prepared_not_reported: 49,
    planted.highest_certificate_ignored: 49,
    planted.any_round_changes_justify: 449,
    planted.commits_added_up_over_rounds: 0,
    planted.second_vote_in_a_round: 0,
    planted.lock_as_a_veto: 280,
    planted.no_resend: 108,
}
"""The first scenario that finds each flaw; all within a few hundred.

`planted.justification_unchecked` needs a proposer that lies, which a twin never does.
"""

EVERYONE = (0b11111,) * 5


def test_no_scenario_of_a_sample_breaks_a_law():
    """ATTACKS B1; `make twins` plays many more."""
    tally, failed = play_many(range(60), ROUNDS, SEED)
    assert failed == []
    assert tally.played == 60
    assert tally.proofs > 0
    assert tally.highest_round >= 3


def test_real_signatures_make_no_difference():
    for number in range(3):
        play(*scenario_of(number, ROUNDS, SEED))


@pytest.mark.parametrize("flaw", FOUND_BY, ids=lambda flaw: flaw.__name__)
def test_a_planted_flaw_is_found(flaw, monkeypatch):
    number = FOUND_BY[flaw]
    assert play_many(range(number, number + 1), ROUNDS, SEED)[1] == []
    flaw(monkeypatch)
    assert [failed for failed, _ in play_many(range(number, number + 1), ROUNDS, SEED)[1]] == [
        number
    ]


def test_both_copies_propose_and_whoever_hears_both_proves_it():
    """ATTACKS B1: the proposer equivocates without knowing it."""
    space = space_of(4, ROUNDS)
    world = play(space, (Move(0, 0, EVERYONE),))
    assert (world.ids[0], "pre-prepare") in world.evidence
    assert {miner for miner, _ in world.evidence} == {world.ids[0]}


def test_two_halves_that_follow_one_copy_each_never_commit_two_blocks():
    """One honest miner on one side, two on the other: only one side has a quorum."""
    # m0 with m1, and its copy with m2 and m3, for as long as it lasts.
    split = (0b00011, 0b00011, 0b11100, 0b11100, 0b11100)
    world = play(space_of(4, ROUNDS), [Move(0, 0, split)] * ROUNDS)
    assert len(world.nodes[2].chain) > ROUNDS
    assert world.nodes[1].chain[0][0].digest == world.nodes[2].chain[0][0].digest


@pytest.mark.parametrize(
    ("round", "law"), [(0, "another block prepared"), (99, "two blocks committed")]
)
def test_a_second_block_is_noticed_where_another_is_said_to_be_committed(round, law):
    world = play(space_of(4, ROUNDS), (Move(1, 0, EVERYONE),))
    world.committed[world.nodes[1].height] = (b"another", round)
    with pytest.raises(Violation, match=law):
        world.heal(3)


def test_scenarios_that_differ_in_names_alone_are_counted_once():
    """Burnside's count of two rounds is the number of those that were enumerated."""
    space = space_of(4, ROUNDS)
    assert len(space.renamings()) == 12
    assert len(space.beginnings) == space.count(2) == 37_385
    assert len(set(space.beginnings)) == len(space.beginnings)


def test_every_beginning_is_played_once():
    space = Space(4, 1, 2)
    beginnings = len(space.beginnings)
    played = {space.scenario(number, SEED) for number in range(beginnings)}
    assert len(played) == beginnings


def test_the_copy_of_a_twin_is_another_node_with_the_same_key():
    space, moves = scenario_of(19, ROUNDS, SEED)
    assert (space.n, space.twins, space.nodes) == (7, 2, 9)
    world = World(miner_keys(7), 2, [move.proposer for move in moves])
    assert [node.member for node in world.nodes] == [0, 1, 2, 3, 4, 5, 6, 0, 1]
    assert len({node.id for node in world.nodes}) == 7
