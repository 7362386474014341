"""miner.propose: keys are replaced, and the miner with its past stays who it is."""

from dataclasses import replace

import pytest

from chain.crypto import address_of
from chain.key_registry import miner_of_key
from chain.kinds.device_registry import DeviceRegister, RotateKey, sign_rotation
from chain.kinds.miners import MinerPropose, RemoveMiner, RestoreMiner, accountable
from chain.kinds.organisations import OrganisationChange
from chain.parameters import EVIDENCE_WINDOW
from chain.records.miners import EVIDENCE_TABLE, FORMER_KEYS_MAX, MINER_TABLE, FormerKey
from chain.records.proposals import PROPOSAL_TABLE
from chain.types import Height, Signature
from tests.builders import Chain, key_of

MINER = 3
OLD, NEW = key_of("miner 3"), key_of("miner 3b")
ID = address_of(OLD.public)

pytestmark = pytest.mark.attack("E2")


@pytest.fixture
def chain():
    return Chain()


def record(chain):
    return chain.state.get(MINER_TABLE, ID)


def refusal(chain, body, number=0):
    return chain.rejection(chain.by_miner(number, "miner.propose", body)).code


def replaced(chain):
    """Let the miners agree on a new key, and return the height of the block that enacts it."""
    chain.decide("miner.propose", chain.replacement(key="miner 3b"))
    return chain.tip.header.height


def keys_of(miners):
    return {miner.id: miner.key for miner in miners}


def test_the_set_has_the_new_key_two_heights_later_under_the_same_id(chain):
    before = record(chain)
    height = replaced(chain)
    assert keys_of(chain.miners)[ID] == OLD.public

    chain.commit()

    assert keys_of(chain.miners)[ID] == NEW.public
    assert len(chain.miners) == 4
    former = (FormerKey(key=OLD.public, until_height=Height(height + 1)),)
    assert record(chain) == replace(before, key=NEW.public, former_keys=former)
    assert {key: miner_of_key(chain.state, key) for key in (OLD.public, NEW.public)} == {
        OLD.public: ID,
        NEW.public: ID,
    }


def test_transactions_are_signed_with_the_new_key_from_the_next_one_on(chain):
    proposal = chain.by_miner(0, "miner.propose", chain.replacement(key="miner 3b"))
    votes = [chain.vote(number, proposal) for number in (1, 2)]
    removal = MinerPropose(change=RemoveMiner(miner=address_of(key_of("miner 2").public)))

    old = chain.transaction("miner.propose", removal, OLD, ID)
    new = chain.transaction("miner.propose", removal, NEW, ID)

    assert chain.rejection(old, proposal, *votes).code == "bad_signature"
    chain.commit(proposal, *votes, new)


def test_a_node_key_is_replaced_at_once_and_waits_for_nothing(chain):
    chain.decide("miner.propose", chain.addition())
    sets = chain.miners

    chain.decide("miner.propose", chain.replacement(node_key="node 3b"))

    assert record(chain).node_key == key_of("node 3b").public
    assert (record(chain).key, record(chain).former_keys) == (OLD.public, ())
    chain.commit()
    assert len(chain.miners) == len(sets) + 1, "the addition was not disturbed"


def test_a_new_key_waits_while_another_change_of_the_set_is_pending(chain):
    chain.decide("miner.propose", chain.addition())
    body = chain.replacement(key="miner 3b")
    proposal = chain.decide("miner.propose", body, voters=(0, 1, 2, 3))
    assert chain.state.get(PROPOSAL_TABLE, proposal.id).status == "open"

    for _ in range(4):
        chain.commit()

    assert chain.state.get(PROPOSAL_TABLE, proposal.id).status == "enacted"
    assert keys_of(chain.miners)[ID] == NEW.public


def test_old_key_new_key_and_node_all_have_to_sign_this_replacement(chain):
    good = chain.replacement(key="miner 3b", node_key="node 3b").change
    forged = Signature(bytes(64))
    for name in ("by_old", "by_new", "by_node"):
        body = MinerPropose(change=replace(good, **{name: forged}))
        assert refusal(chain, body) == "bad_signature"
    for changes in (
        {"valid_until_ms": good.valid_until_ms + 1},
        {"miner": address_of(key_of("miner 2").public)},
    ):
        assert refusal(chain, MinerPropose(change=replace(good, **changes))) == "bad_signature"
    chain.commit(chain.by_miner(0, "miner.propose", MinerPropose(change=good)))


def test_signatures_end(chain):
    end = chain.next_time_ms

    late = chain.replacement(key="miner 3b", valid_until_ms=end)
    assert refusal(chain, late) == "acceptance_expired"
    in_time = chain.replacement(key="miner 3b", valid_until_ms=end + 1)
    chain.commit(chain.by_miner(0, "miner.propose", in_time))


@pytest.mark.parametrize(
    ("key", "node_key"),
    [
        ("miner 3", "node 3"),
        ("miner 2", "node 3"),
        ("node 2", "node 3"),
        ("miner 3b", "node 2"),
        ("miner 3b", "miner 2"),
        ("miner 3b", "miner 3b"),
        ("node 3", "miner 3"),
        ("miner 3b", "registrar of globex"),
    ],
)
def test_no_key_is_used_twice(chain, key, node_key):
    globex = OrganisationChange(
        name="globex",
        registrar_key=key_of("registrar of globex").public,
        limits=(),
        active=True,
    )
    chain.decide("organisation.change", globex)

    assert refusal(chain, chain.replacement(key=key, node_key=node_key)) == "already_exists"


def test_a_registrar_or_a_device_does_not_get_the_key_of_a_miner_or_a_node(chain):
    device = chain.register()
    for name in ("miner 1", "node 1"):
        key = key_of(name)
        taken = OrganisationChange(name="globex", registrar_key=key.public, limits=(), active=True)
        rotation = RotateKey(
            new_key=key.public, proof=sign_rotation(chain.genesis.hash, device.id, key)
        )
        registration = DeviceRegister(
            name="another", key=key.public, roles=(), gateway=None, limits=None
        )
        for transaction in (
            chain.by_miner(0, "organisation.change", taken),
            chain.update(device, rotation),
            chain.by_registrar("device.register", registration),
        ):
            assert chain.rejection(transaction).code == "already_exists"


def test_a_key_that_was_replaced_is_never_taken_again(chain):
    replaced(chain)
    chain.commit()

    back = chain.replacement(old="miner 3b", key="miner 3")
    assert refusal(chain, back) == "already_exists"
    assert refusal(chain, chain.addition(MINER)) == "already_exists"
    other = chain.replacement(2, key="miner 3")
    assert refusal(chain, other) == "already_exists"


def test_a_removed_miner_comes_back_under_its_id_with_the_key_it_had_last(chain):
    replaced(chain)
    chain.commit()
    chain.decide("miner.propose", MinerPropose(change=RemoveMiner(miner=ID)))
    chain.commit()
    assert refusal(chain, chain.addition(MINER)) == "already_exists", "not with its first key"
    assert refusal(chain, chain.replacement(old="miner 3b", key="miner 3c")) == "not_found"

    chain.decide(
        "miner.propose", chain.addition(MINER, name="back", signer="miner 3b"), voters=(0, 1)
    )
    chain.commit()

    assert keys_of(chain.miners)[ID] == NEW.public
    assert record(chain).former_keys[0].key == OLD.public


# --- nothing is escaped ---------------------------------------------------------------------------


def test_a_demoted_miner_stays_demoted_and_is_restored_by_vote_alone(chain):
    chain.demote(ID)
    replaced(chain)

    assert record(chain).status == "demoted"
    chain.decide("miner.propose", MinerPropose(change=RestoreMiner(miner=ID)))
    assert record(chain).status == "active"


def test_what_was_signed_with_the_old_key_convicts_whoever_has_the_new_one(chain):
    height = replaced(chain)
    chain.commit()
    chain.commit()

    chain.commit(
        chain.by_miner(0, "evidence", chain.equivocation(MINER, height=height + 1, key=OLD))
    )

    assert record(chain).status == "demoted"
    assert chain.state.get(EVIDENCE_TABLE, ID).height == height + 1


def test_each_key_is_accountable_for_its_own_heights_alone(chain):
    height = replaced(chain)
    for _ in range(3):
        chain.commit()
    stolen = chain.equivocation(MINER, height=height + 2, key=OLD)
    early = chain.equivocation(MINER, height=height + 1, key=NEW)
    proof = chain.equivocation(MINER, height=height + 2, key=NEW)

    for body in (stolen, early):
        assert chain.rejection(chain.by_miner(0, "evidence", body)).code == "not_proven"
    chain.commit(chain.by_miner(0, "evidence", proof))
    assert record(chain).status == "demoted"


def test_so_many_keys_are_replaced_within_the_time_of_evidence_and_no_more(chain):
    former = tuple(
        FormerKey(key=key_of(f"former {number}").public, until_height=Height(number))
        for number in range(1, FORMER_KEYS_MAX + 1)
    )
    chain.put(MINER_TABLE, replace(record(chain), former_keys=former), ID)

    assert refusal(chain, chain.replacement(key="miner 3b")) == "limit_reached"
    chain.decide("miner.propose", chain.replacement(node_key="node 3b"))
    assert record(chain).former_keys == former


def test_keys_of_which_no_evidence_is_taken_make_room_for_the_next(chain, monkeypatch):
    """Else a miner could not replace its key any more once it had done so eight times."""
    monkeypatch.setattr("chain.kinds.miners.EVIDENCE_WINDOW", 0)
    former = tuple(
        FormerKey(key=key_of(f"former {number}").public, until_height=Height(0))
        for number in range(FORMER_KEYS_MAX)
    )
    chain.put(MINER_TABLE, replace(record(chain), former_keys=former), ID)

    chain.decide("miner.propose", chain.replacement(key="miner 3b"))

    assert [known.key for known in record(chain).former_keys] == [OLD.public]


def test_the_time_of_evidence_ends_for_former_keys():
    former = tuple(FormerKey(key=OLD.public, until_height=Height(height)) for height in (5, 9))
    chain = Chain()
    known = chain.state.get(MINER_TABLE, ID)
    assert known is not None
    known = replace(known, former_keys=former)
    block = replace(chain.context(), height=Height(EVIDENCE_WINDOW + 6))

    assert accountable(known, block) == former[1:]
