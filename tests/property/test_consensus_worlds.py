"""Agreement always, progress after healing; and worlds that would find it if it were not so."""

import pytest

from tests import planted_bugs as planted
from tests.interaction.worlds import run_world

SEEDS = range(8)
"""A few for every run; `python -m tests.interaction.worlds FIRST COUNT` runs many."""

FOUND_BY = {
    planted.quorum_off_by_one: 1,
    planted.justification_unchecked: 41,
    planted.certificate_lost_at_restart: 4,
    planted.votes_lost_at_restart: 0,
    planted.prepared_not_reported: 10,
    planted.highest_certificate_ignored: 10,
    planted.no_resend: 14,
}
"""A seed of a world in which each planted bug shows."""


@pytest.mark.attack("A6", "A7", "B1", "B5")
@pytest.mark.parametrize("remote", [False, True], ids=["own key", "remote signer"])
@pytest.mark.parametrize("seed", SEEDS)
def test_miners_agree_in_every_world_and_go_on_once_it_heals(seed, remote):
    result = run_world(seed, remote=remote)
    assert result["accused"] <= result["liar_ids"], "an honest miner was framed"


def test_one_seed_is_one_world():
    assert run_world(3) == run_world(3)


@pytest.mark.attack("B1", "B2")
@pytest.mark.parametrize("bug", FOUND_BY, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(bug, monkeypatch):
    bug(monkeypatch)
    with pytest.raises(AssertionError):
        run_world(FOUND_BY[bug])
