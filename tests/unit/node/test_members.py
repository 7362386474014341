"""Which node belongs to which miner."""

from chain.crypto import address_of
from chain.kinds.miners import MinerPropose, RemoveMiner
from node.members import Members
from tests.builders import Chain, key_of, make_genesis

MINERS = [address_of(key_of(f"miner {number}").public) for number in range(5)]
NODES = [address_of(key_of(f"node {number}").public) for number in range(5)]


def test_members_are_the_miners_of_the_registry_under_their_node_ids():
    members = Members(Chain().state, miner=MINERS[0])

    for miner, node in zip(MINERS[:4], NODES[:4], strict=True):
        assert members.nodes_of([miner]) == [node] * (miner != MINERS[0])
        assert members.miner_of(node) == miner
    assert members.nodes_of([MINERS[4]]) == []
    assert members.miner_of(NODES[4]) is None
    assert {record.host for record in members.records()} == {"127.0.0.1"}


def test_others_are_all_but_this_node_and_all_to_an_observer():
    state = Chain().state

    assert Members(state, miner=MINERS[0]).others() == sorted(NODES[1:4])
    assert Members(state, miner=MINERS[4]).others() == sorted(NODES[:4])


def test_nodes_come_in_the_order_in_which_their_miners_are_named():
    members = Members(Chain().state, miner=MINERS[0])

    named = [MINERS[3], MINERS[0], MINERS[4], MINERS[1]]

    assert members.nodes_of(named) == [NODES[3], NODES[1]]


def test_a_new_miner_is_a_member_one_height_before_it_votes():
    chain = Chain()
    members = Members(chain.state, miner=MINERS[0])
    assert not members.update(chain.state)
    heights = []
    chain.decide("miner.propose", chain.addition())
    for _ in range(3):
        members.update(chain.state)
        heights.append((members.miner_of(NODES[4]) is not None, len(chain.miners)))
        chain.commit()

    # Decided at h; known as a member of the next but one height; in force from then on.
    assert heights == [(True, 4), (True, 5), (True, 5)]


def test_a_removed_miner_is_a_member_until_it_votes_no_more():
    chain = Chain()
    members = Members(chain.state, miner=MINERS[0])
    chain.decide("miner.propose", MinerPropose(change=RemoveMiner(miner=MINERS[3])))
    seen = []
    for _ in range(2):
        members.update(chain.state)
        seen.append(members.miner_of(NODES[3]) is not None)
        chain.commit()

    assert seen == [True, False]
    assert members.others() == sorted(NODES[1:3])


def test_a_weak_quorum_is_that_of_the_set_in_force():
    chain = Chain(make_genesis(miners=6))
    members = Members(chain.state, miner=MINERS[0])
    assert members.weak_quorum == 2
    heights = []
    chain.decide("miner.propose", chain.addition(6), voters=range(4))
    for _ in range(2):
        members.update(chain.state)
        heights.append(members.weak_quorum)
        chain.commit()

    assert heights == [2, 3]


def test_only_a_miner_is_a_member():
    state = Chain().state

    assert Members(state, miner=MINERS[0]).is_member
    assert not Members(state, miner=MINERS[4]).is_member
