"""Laws of governance, whatever the order in which proposals and votes come."""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.crypto import address_of
from chain.kinds.miners import MinerPropose, RemoveMiner, RestoreMiner
from chain.kinds.vote import MinerVote
from chain.miners import quorum
from chain.records.miners import EVIDENCE_TABLE, MINER_TABLE
from chain.records.proposals import OPEN_PROPOSALS, PROPOSAL_TABLE
from tests.builders import Chain, code_of, key_of, make_genesis, with_parameters

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


# --- a model of the tally, against which the chain is compared ------------------------------------


@dataclass
class Ballot:
    """A proposal as the page on the state describes it, by plain sets and nothing else."""

    change: tuple[str, int]
    deadline_ms: int
    approve: set[int] = field(default_factory=set)
    refuse: set[int] = field(default_factory=set)
    status: str = "open"


class Model:
    """Who is a member, who is demoted, and what is to be decided."""

    def __init__(self):
        self.members = set(MINERS)
        self.next = set(MINERS)
        self.after = None
        self.demoted = set()
        self.removed = set()
        self.ballots = {}

    def decided(self):
        return self.after if self.after is not None else self.next

    def active(self, numbers):
        return {number for number in numbers if number not in self.demoted | self.removed}

    def is_possible(self, change):
        what, number = change
        members = self.decided()
        if what == "add":
            return number not in members
        if what == "remove":
            rest = members - {number}
            return number in members and bool(rest) and len(self.active(rest)) >= quorum(len(rest))
        return number in members and number in self.demoted

    def count(self, ballot):
        voters = self.active(self.members)
        needed = quorum(len(self.members))
        if len(ballot.approve & voters) >= needed:
            what, number = ballot.change
            is_pending = self.after is not None or self.members != self.next
            if is_pending and what != "restore":
                return
            if not self.is_possible(ballot.change):
                ballot.status = "void"
                return
            ballot.status = "enacted"
            if what == "add":
                self.after = self.decided() | {number}
                self.removed.discard(number)
                self.demoted.discard(number)
            elif what == "remove":
                self.after = self.decided() - {number}
                self.removed.add(number)
                self.demoted.discard(number)
            else:
                self.demoted.discard(number)
        elif len(ballot.refuse & voters) > len(self.members) - needed:
            ballot.status = "rejected"

    def vote(self, ballot, number, approve):
        """Return whether the vote is taken."""
        if number not in self.active(self.members) or ballot.status != "open":
            return False
        if number in ballot.approve | ballot.refuse:
            return False
        ballot.approve &= self.members
        ballot.refuse &= self.members
        (ballot.approve if approve else ballot.refuse).add(number)
        self.count(ballot)
        return True

    def end_block(self, time_ms):
        for ballot in self.ballots.values():
            if ballot.status == "open":
                if ballot.deadline_ms <= time_ms:
                    ballot.status = "expired"
                else:
                    self.count(ballot)
        self.members, self.next, self.after = self.next, self.decided(), None


EVERYBODY = (*MINERS, *CANDIDATES)
acts = st.one_of(
    st.tuples(st.just("open"), st.sampled_from(EVERYBODY), st.sampled_from(EVERYBODY)),
    st.tuples(st.just("vote"), st.sampled_from(EVERYBODY), st.integers(0, 7), st.booleans()),
    st.tuples(st.just("vote"), st.sampled_from(EVERYBODY), st.integers(0, 7), st.just(True)),
    st.tuples(st.just("vote"), st.sampled_from(EVERYBODY), st.integers(0, 7), st.just(True)),
    st.tuples(st.just("lie"), st.sampled_from(EVERYBODY)),
)
histories = st.lists(st.lists(acts, max_size=8), min_size=1, max_size=8)


@pytest.mark.attack("E1", "E2", "E6")
@settings(max_examples=60)
@given(histories)
def test_the_tally_is_what_the_page_says_whatever_happens(history):
    chain = Chain(make_genesis(parameters=with_parameters(proposal_lifetime_ms=60_000)))
    model = Model()
    for block in history:
        play_block(chain, model, block)
        assert {number for number in EVERYBODY if id_of(number) in chain.miners} == model.members
        for id, ballot in model.ballots.items():
            found = chain.state.get(PROPOSAL_TABLE, id)
            assert found is not None
            assert found.status == ballot.status
        statuses = {
            number: miner.status
            for number in EVERYBODY
            if (miner := chain.state.get(MINER_TABLE, id_of(number))) is not None
        }
        assert {n for n, status in statuses.items() if status == "demoted"} == model.demoted
        assert {n for n, status in statuses.items() if status == "removed"} == model.removed
        # What all of it is for: those who are left can always decide.
        assert len(model.active(model.decided())) >= quorum(len(model.decided()))


def play_block(chain, model, acts):
    execution = chain.execution()
    taken = []
    time_ms = chain.next_time_ms
    for act in acts:
        transaction, expected = transaction_of(chain, model, act, time_ms)
        if transaction is not None:
            assert (code_of(execution, transaction) is None) == expected, act
            if expected:
                taken.append(transaction)
    if not taken:
        time_ms = chain.tip.header.time_ms + chain.context().parameters.heartbeat_ms
    chain.commit(*taken)
    model.end_block(time_ms)


def transaction_of(chain, model, act, time_ms):
    """Return the transaction of an act, and whether the model takes it."""
    match act:
        case ("open", sender, number):
            members = model.decided()
            change = ("add" if number not in members else "remove", number)
            if number in model.demoted and number in members:
                change = ("restore", number)
            body = {
                "add": chain.addition(number),
                "remove": MinerPropose(change=RemoveMiner(miner=id_of(number))),
                "restore": MinerPropose(change=RestoreMiner(miner=id_of(number))),
            }[change[0]]
            transaction = chain.by_miner(sender, "miner.propose", body)
            expected = sender in model.active(model.members) and model.is_possible(change)
            if expected:
                ballot = Ballot(change, time_ms + 60_000, approve={sender})
                model.ballots[transaction.id] = ballot
                model.count(ballot)
            return transaction, expected
        case ("vote", voter, index, approve):
            if index >= len(model.ballots):
                return None, False
            id, ballot = list(model.ballots.items())[index]
            body = MinerVote(proposal=id, approve=approve)
            expected = model.vote(ballot, voter, approve)
            return chain.by_miner(voter, "miner.vote", body), expected
        case ("lie", number):
            members = model.decided()
            proof = chain.equivocation(number)
            reporter = min(model.active(model.members))
            expected = (
                chain.state.get(MINER_TABLE, id_of(number)) is not None
                and number not in model.removed | model.demoted
                and len(model.active(members - {number})) >= quorum(len(members))
                and not was_convicted(chain, number)
            )
            if not expected:
                return None, False
            model.demoted.add(number)
            return chain.by_miner(reporter, "evidence", proof), True


def was_convicted(chain, number):
    """Tell whether there is evidence on record: then time and pardon decide, tested elsewhere."""
    return chain.state.get(EVIDENCE_TABLE, id_of(number)) is not None
