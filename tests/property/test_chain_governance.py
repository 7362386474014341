"""Laws of governance, whatever the order in which proposals and votes come."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.crypto import address_of
from chain.kinds.miners import MinerPropose, RemoveMiner
from chain.records import OPEN_PROPOSALS, PROPOSAL_TABLE
from tests.builders import Chain, code_of, key_of

MINERS = range(4)
CANDIDATES = (4, 5, 6)


def id_of(number):
    return address_of(key_of(f"miner {number}").public)


def open_ids(chain):
    found = chain.state.get(OPEN_PROPOSALS)
    return () if found is None else found.ids


def record(chain, proposal):
    return chain.state.get(PROPOSAL_TABLE, proposal.id)


def commit_what_passes(chain, transactions):
    execution = chain.execution()
    passing = [each for each in transactions if code_of(execution, each) is None]
    if passing:
        chain.commit(*passing)
    else:
        chain.commit()


@st.composite
def blocks_of_votes(draw):
    """Return blocks of votes (change, voter) on four changes of the set."""
    votes = draw(st.permutations([(change, voter) for change in range(4) for voter in MINERS]))
    sizes = draw(st.lists(st.integers(0, 6), min_size=1, max_size=8))
    blocks = []
    for size in sizes:
        blocks.append(votes[:size])
        votes = votes[size:]
    return blocks


@pytest.mark.attack("E1", "E2", "E6")
@settings(max_examples=25)
@given(blocks_of_votes())
def test_changes_of_the_set_are_made_one_by_one_and_none_that_is_agreed_on_is_lost(blocks):
    chain = Chain()
    removal = MinerPropose(change=RemoveMiner(miner=id_of(3)))
    changes = [*(chain.addition(number) for number in CANDIDATES), removal]
    proposals = [
        chain.by_miner(number, "miner.propose", change) for number, change in enumerate(changes)
    ]
    chain.commit(*proposals)
    for block in blocks:
        commit_what_passes(chain, [chain.vote(voter, proposals[change]) for change, voter in block])
    # In the end all members have voted, those too that came in the meantime.
    while open_ids(chain):
        members = [number for number in (*MINERS, *CANDIDATES) if id_of(number) in chain.miners]
        votes = [chain.vote(number, each) for each in proposals for number in members]
        commit_what_passes(chain, votes)
        assert chain.tip.header.height < 30, "each change waits for two blocks at most"
    chain.commit()
    chain.commit()

    records = [record(chain, proposal) for proposal in proposals]
    assert {closed.status for closed in records} == {"enacted"}
    heights = sorted(closed.closed_height for closed in records)
    assert all(later - earlier >= 2 for earlier, later in pairwise(heights))
    assert {miner.id for miner in chain.miners} == {id_of(n) for n in (0, 1, 2, *CANDIDATES)}
    sets = {block.header.height: block.header.miner_set_hash for block in chain.blocks}
    changed = [later for earlier, later in pairwise(sets) if sets[later] != sets[earlier]]
    assert changed == [height + 2 for height in heights]
