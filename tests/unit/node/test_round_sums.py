"""The arithmetic of a round gives what the updates come to, from what the chain and blobs say."""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.federated.records import (
    SHARE_SIZE,
    FederatedRound,
    Member,
    RevealRecord,
    SharesRecord,
    threshold,
)
from chain.types import Address, Digest, Height
from ml_validator.errors import InvalidUpdate, TooFewContributions, VoidGroup
from node.errors import DamagedEntry, MissingBlob
from node.round_sums import RoundSums
from tests.builders import digest_of
from tests.federation import make_terms
from tests.learners import Learner, expected, root_of
from tests.unit.node.blobs.stored import blob_store, put

ROUND = digest_of("a round")


class Played:
    """A round at `aggregate`, played outside of any chain.

    Parameters
    ----------
    count, groups : int
        Participants, dealt to the groups in turn.
    silent, dropped : set of int
        Places of those that have never shared, and of those that shared and are not included.
    factors : mapping of int to int
        By which the updates at some places are too long.
    """

    def __init__(
        self,
        count: int = 4,
        *,
        groups: int = 1,
        silent: frozenset[int] = frozenset(),
        dropped: frozenset[int] = frozenset(),
        factors: Mapping[int, int] = MappingProxyType({}),
        **terms: Any,
    ) -> None:
        ids = sorted(Address(sha256(bytes((place,))).digest()) for place in range(count))
        self.learners = [Learner(id, factor=factors.get(place, 1)) for place, id in enumerate(ids)]
        fields = {"parameter_count": 5, "clip": 2**40, **terms}
        found = FederatedRound(
            coordinator=Address(digest_of("a coordinator")),
            terms=make_terms(**fields),
            opened_height=Height(1),
            phase="share",
            phase_height=Height(1),
            members=tuple([self._joined(place, groups) for place in range(count)]),
        )
        shares = {
            learner.id: self._shares(learner, found)
            for place, learner in enumerate(self.learners)
            if found.terms.is_masked and place not in silent
        }
        found = self._move(found, "commit", silent, "shared")
        self.store = blob_store()
        members = list(found.members)
        for place, learner in enumerate(self.learners):
            if place not in silent | dropped:
                data = learner.blob(ROUND, found)
                update = put(self.store, data)
                assert update == found.terms.blob_of(root_of(data))
                members[place] = replace(members[place], status="included", update=update)
        self.found = replace(found, phase="aggregate", members=tuple(members))
        self.revealed: dict[Address, RevealRecord] = {}
        for place, learner in enumerate(self.learners):
            if found.terms.is_masked and place not in silent | dropped:
                body = learner.reveal(ROUND, self.found, shares)
                self.revealed[learner.id] = RevealRecord(shares=body.shares)

    @property
    def sums(self) -> RoundSums:
        return RoundSums(id=ROUND, found=self.found, blobs=self.store)

    def aggregate(self) -> Digest:
        sums = self.sums
        contributions = [sums.contribution_of(group, self.revealed) for group in self.found.groups]
        return self.found.terms.blob_of(root_of(sums.join(contributions)))

    def _joined(self, place: int, groups: int) -> Member:
        join = self.learners[place].join(ROUND)
        return Member(
            device=self.learners[place].id,
            weight=place + 1,
            steps=1,
            status="joined",
            mask_key=join.mask_key,
            box_key=join.box_key,
            group=place % groups,
        )

    @staticmethod
    def _shares(learner: Learner, found: FederatedRound) -> SharesRecord:
        body = learner.share(ROUND, found)
        return SharesRecord(hashes=body.hashes, boxes=body.boxes)

    @staticmethod
    def _move(
        found: FederatedRound, phase: str, without: frozenset[int], status: str
    ) -> FederatedRound:
        members = [
            member if place in without else replace(member, status=status)
            for place, member in enumerate(found.members)
        ]
        return replace(found, phase=phase, members=tuple(members))


def audit(count: int = 5, **fields: Any) -> Played:
    return Played(count, groups=count, group_size=1, groups_min=1, **fields)


@st.composite
def losses(draw: Any) -> tuple[int, frozenset[int], frozenset[int]]:
    """Participants of one group, and who of them is silent or drops out, down to the threshold."""
    count = draw(st.integers(3, 8))
    lost = draw(st.sets(st.integers(0, count - 1), max_size=count - threshold(count)))
    silent = draw(st.sets(st.sampled_from(sorted(lost)))) if lost else set()
    return count, frozenset(silent), frozenset(lost - silent)


@settings(deadline=None, max_examples=40)
@given(losses())
def test_the_aggregate_is_exact_for_every_loss_down_to_the_threshold(pattern):
    count, silent, dropped = pattern

    played = Played(count, silent=silent, dropped=dropped)

    assert played.aggregate() == expected(played.found, played.learners)


@pytest.mark.parametrize("rule", ["mean", "median"])
def test_groups_are_joined_by_the_rule_of_the_terms(rule):
    played = Played(12, groups=3, dropped=frozenset({4}), rule=rule)

    assert played.aggregate() == expected(played.found, played.learners)


@pytest.mark.attack("F9")
def test_an_update_beyond_the_clip_spoils_its_masked_group_and_no_other():
    played = Played(8, groups=2, clip=10_000, factors={4: 1_000_000})

    with pytest.raises(VoidGroup, match="no permitted sum"):
        played.sums.contribution_of(0, played.revealed)
    other = played.sums.contribution_of(1, played.revealed)

    aggregate = played.found.terms.blob_of(root_of(played.sums.join([other])))
    assert aggregate == expected(played.found, played.learners, without=[0])


def test_of_more_shares_than_needed_the_first_count():
    played = Played(7)
    sound = played.aggregate()
    last = max(played.revealed)
    false = (bytes(SHARE_SIZE),) * 7
    played.revealed[last] = RevealRecord(shares=false)
    assert played.aggregate() == sound

    first = min(played.revealed)
    played.revealed[first] = RevealRecord(shares=false)
    with pytest.raises(VoidGroup):
        played.aggregate()


def test_a_group_of_which_too_little_is_revealed_is_void():
    played = Played(7)
    for device in sorted(played.revealed)[:3]:
        played.revealed[device] = RevealRecord(shares=(None,) * 7)

    with pytest.raises(VoidGroup, match="4, and 5 are needed"):
        played.aggregate()


@pytest.mark.attack("F2")
def test_in_the_audit_mode_a_copy_counts_once():
    played = audit(4)
    copied = replace(played.found.members[3], update=played.found.members[2].update, weight=3)
    played.found = replace(played.found, members=(*played.found.members[:3], copied))

    assert played.aggregate() == expected(played.found, played.learners, without=[3])


@pytest.mark.attack("F9")
def test_in_the_audit_mode_an_update_beyond_the_clip_is_not_sound():
    played = audit(clip=10_000, factors={4: 100})
    *others, long = played.found.members
    for member in others:
        played.sums.check(member)

    with pytest.raises(InvalidUpdate, match="norm"):
        played.sums.check(long)
    with pytest.raises(VoidGroup, match="norm"):
        played.sums.contribution_of(4, {})


def test_with_fewer_groups_than_the_terms_ask_for_nothing_comes_out():
    played = Played(8, groups=2, groups_min=2)
    one = played.sums.contribution_of(0, played.revealed)

    with pytest.raises(TooFewContributions) as refused:
        played.sums.join([one])

    assert (refused.value.count, refused.value.needed) == (1, 2)


def test_an_update_that_is_not_held_or_damaged_is_told():
    played = Played(4)
    update = played.found.members[1].update
    assert update is not None
    played.store._files.write(update.hex(), 0, b"\xff\xff")

    with pytest.raises(DamagedEntry):
        played.aggregate()
    with pytest.raises(MissingBlob) as missing:
        played.aggregate()

    assert missing.value.digest == update
