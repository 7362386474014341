"""chain.miners: sets, and how many of them must agree."""

import math

import pytest

from chain.errors import DecodeError
from chain.miners import MINERS_MAX, Miner, MinerSet, faulty_max, quorum, weak_quorum
from chain.types import Address
from tests.builders import digest_of, make_miner_set


@pytest.mark.parametrize("n", range(1, MINERS_MAX + 1))
def test_any_two_quorums_share_an_honest_miner(n):
    f, q = faulty_max(n), quorum(n)

    assert n >= 3 * f + 1 > n - 3
    assert q == math.ceil((n + f + 1) / 2)
    assert 2 * q - n >= f + 1, "two quorums overlap in more than the Byzantine"
    assert q <= n - f, "the honest alone are a quorum"
    assert q - f >= weak_quorum(n), "the honest of a quorum are a weak quorum"
    assert weak_quorum(n) == f + 1


def test_quorums_of_small_sets():
    assert [quorum(n) for n in range(1, 8)] == [1, 2, 2, 3, 4, 4, 5]


def test_members_are_found_by_id_and_by_index():
    miners = make_miner_set(4)

    for index, member in enumerate(miners):
        assert miners.index_of(member.id) == index
        assert miners.get(member.id) == member == miners.members[index]
        assert member.id in miners
    stranger = make_miner_set(5).members
    assert sum(member.id in miners for member in stranger) == 4


def test_strangers_are_nobody():
    miners = make_miner_set(4)
    stranger = Address(digest_of("nobody"))

    assert stranger not in miners
    assert miners.index_of(stranger) is None
    assert miners.get(stranger) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda members: (),
        lambda members: members[::-1],
        lambda members: (members[0], *members),
        lambda members: members + members,
        lambda members: (*members, members[0]),
    ],
)
def test_sets_that_are_none_are_refused(change):
    # They may come from a peer that wants to prove something.
    with pytest.raises(DecodeError):
        MinerSet(change(make_miner_set(4).members))


def test_a_set_has_at_most_so_many_members():
    assert len(make_miner_set(MINERS_MAX)) == MINERS_MAX
    with pytest.raises(DecodeError):
        make_miner_set(MINERS_MAX + 1)


@pytest.mark.attack("B14")
def test_the_hash_covers_ids_and_keys():
    miners = make_miner_set(4)
    first, second = miners.members[:2]
    hashes = {
        miners.hash,
        make_miner_set(3).hash,
        MinerSet((first,)).hash,
        MinerSet((Miner(id=first.id, key=second.key),)).hash,
        MinerSet((second,)).hash,
    }

    assert len(hashes) == 5
