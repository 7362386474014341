"""Which updates count, on the chain's own rules."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from chain.crypto import signing_key
from cli.client import connect
from cli.errors import BadInput, Missed, Refused
from cli.federated.flower.anchoring import Offer, aggregated, judge
from cli.federated.flower.member import anchor_update
from cli.federated.opening import RoundPlan
from cli.signing import device_sender
from ml_validator.federated.fixed_point import to_floats
from tests.unit.cli.federated.flower.conftest import LETTERS

BASE = np.array([0.5, -1.0, 2.0, 0.0])
CHANGES = {
    "a": np.array([1.0, 2.0, 3.0, 0.0]),
    "b": np.array([3.0, -2.0, 0.0, 0.5]),
    "c": np.array([-1.0, 0.0, 0.0, 1.0]),
}


def take_part(node, round_id, letters=LETTERS, base=BASE, changes=CHANGES, trust=None):
    """Let devices take part at once; return what each would send, or the error it ends with."""

    async def one(client, letter):
        async def train():
            return changes[letter]

        key = signing_key("ed25519", letter.encode() * 32)
        sender = device_sender(node.chain.genesis, key, organisation="acme")
        return await anchor_update(client, sender, round_id, trust=trust, base=base, train=train)

    async def everybody():
        async with connect(node.url) as client:
            tasks = [one(client, letter) for letter in letters]
            return await asyncio.gather(*tasks, return_exceptions=True)

    return dict(zip(letters, asyncio.run(everybody()), strict=True))


def offers(updates):
    return [Offer(sender=letter, update=update) for letter, update in updates.items()]


@pytest.fixture
def finished(node, coordinator):
    """Play a round of all three; return its id, its record, and the updates."""
    round_id = coordinator.open_round(1, BASE)
    updates = take_part(node, round_id)
    return round_id, coordinator.outcome(round_id), updates


def test_updates_on_the_chain_are_accepted_and_their_aggregate_is_that_of_the_miners(finished):
    round_id, found, updates = finished

    judged = judge(found, offers(updates))

    assert (found.phase, found.terms.name, found.terms.rule) == ("finished", "fleet-1", "median")
    assert judged.refused == []
    assert list(judged.accepted) == ["a", "b", "c"]
    total = aggregated(round_id, found, judged.updates)
    assert to_floats(total, fraction_bits=32).tolist() == [1.0, 0.0, 0.0, 0.5]


def test_what_is_not_on_the_chain_is_refused_and_named(finished):
    _, found, updates = finished
    changed = bytes([updates["a"][0] ^ 1]) + updates["a"][1:]

    judged = judge(
        found,
        [
            Offer(sender="changed", update=changed),
            Offer(sender="short", update=updates["a"][:-8]),
            Offer(sender="long", update=updates["a"] + bytes(8)),
            Offer(sender="empty", update=b""),
            Offer(sender="none", update=None),
            Offer(sender="a", update=updates["a"]),
            Offer(sender="copycat", update=updates["a"]),
        ],
    )

    assert judged.accepted == ["a"]
    assert {refusal.sender: refusal.code for refusal in judged.refused} == {
        "changed": "not_on_chain",
        "short": "wrong_shape",
        "long": "wrong_shape",
        "empty": "wrong_shape",
        "none": "no_update",
        "copycat": "repeated",
    }


def test_an_update_of_another_round_is_refused(node, coordinator, finished):
    _, _, old = finished
    round_id = coordinator.open_round(2, BASE)
    changes = {letter: change + 1 for letter, change in CHANGES.items()}
    take_part(node, round_id, changes=changes)

    judged = judge(coordinator.outcome(round_id), offers(old))

    assert {refusal.code for refusal in judged.refused} == {"not_on_chain"}


def test_what_miners_have_left_out_is_refused(finished):
    _, found, updates = finished
    left_out = replace(found.members[0], status="withheld")
    record = replace(found, members=(left_out, *found.members[1:]))

    judged = judge(record, offers(updates))

    (refusal,) = judged.refused
    assert refusal.code == "not_included"
    assert left_out.device not in judged.updates


def test_an_aggregate_that_is_not_the_miners_is_no_aggregate(finished):
    round_id, found, updates = finished
    judged = judge(found, offers(updates))
    record = replace(found, aggregate=found.terms.base)

    with pytest.raises(Missed, match="another aggregate"):
        aggregated(round_id, record, judged.updates)


def test_updates_that_did_not_come_by_flower_are_fetched_from_the_node(coordinator, finished):
    round_id, found, updates = finished
    judged = judge(found, offers(updates)[:1])

    complete = coordinator.complete(found, judged.updates)

    assert sorted(complete.values()) == sorted(updates.values())
    aggregated(round_id, found, complete)


def test_a_participant_that_is_sent_another_model_sits_the_round_out(node, coordinator):
    round_id = coordinator.open_round(1, BASE)

    ended = take_part(node, round_id, base=BASE + 1)

    assert {type(error) for error in ended.values()} == {Missed}
    assert "different models" in str(ended["a"].advice)
    assert {member.status for member in node.record(round_id.hex()).members} == {"invited"}


@pytest.mark.parametrize("size", [3, 5])
def test_a_participant_with_a_model_of_another_size_is_told(node, coordinator, size):
    round_id = coordinator.open_round(1, BASE)

    (error,) = take_part(node, round_id, letters="a", base=np.zeros(size)).values()

    assert isinstance(error, BadInput)


def test_who_is_not_invited_and_who_comes_late_is_told(node, coordinator, finished):
    round_id, _, _ = finished
    only_a = replace(coordinator, plan=RoundPlan(name="one", participants=_device(node, "a")))
    second = only_a.open_round(1, BASE)

    (late,) = take_part(node, round_id, letters="a").values()
    (stranger,) = take_part(node, second, letters="b").values()

    assert isinstance(late, Refused)
    assert late.code == "round_closed"
    assert isinstance(stranger, Refused)
    assert stranger.code == "not_invited"


def test_who_trusts_a_hash_takes_no_round_without_a_proof(node, coordinator):
    named = replace(coordinator, plan=replace(coordinator.plan, name="round"))
    round_id = named.open_round(1, BASE)
    node.lies = True

    (error,) = take_part(node, round_id, letters="a", trust=node.chain.genesis.hash).values()

    assert isinstance(error, Missed)
    node.lies = False
    told = take_part(node, round_id, trust=node.chain.genesis.hash)
    assert judge(coordinator.outcome(round_id), offers(told)).refused == []


def _device(node, letter):
    key = signing_key("ed25519", letter.encode() * 32)
    return device_sender(node.chain.genesis, key, organisation="acme").address.hex()
