"""Rounds go from phase to phase: at once where nothing is missing, else at their deadlines."""

import pytest

from chain.federated.draw import draw_groups
from chain.federated.records import (
    CLOSED_ROUNDS,
    CLOSED_ROUNDS_MAX,
    OPEN_ROUNDS,
    REVEAL_TABLE,
    ROUND_HEARTBEAT_MS,
    ROUND_TABLE,
    SHARES_TABLE,
)
from chain.parameters import Parameters
from chain.state import heartbeat_ms_of
from tests.builders import Chain, digest_of, make_genesis
from tests.federation import Federation, make_terms


def statuses(federation):
    return [member.status for member in federation.record.members]


def events(execution):
    return [(event.name, *event.values[1:]) for event in execution.block_receipt.events]


def test_a_round_in_which_nobody_is_missing_needs_no_deadline():
    federation = Federation()

    federation.play_to("finished")

    record = federation.record
    assert statuses(federation) == ["included"] * 4
    assert record.aggregate == record.terms.blob_of(digest_of("root of the aggregate"))
    assert record.phase_height < record.terms.deadlines.attest


def test_a_finished_round_is_kept_without_shares():
    federation = Federation()
    federation.play_to("finished")

    state = federation.chain.state
    assert list(state.scan(SHARES_TABLE)) == []
    assert list(state.scan(REVEAL_TABLE)) == []
    open_rounds, closed = state.get(OPEN_ROUNDS), state.get(CLOSED_ROUNDS)
    assert open_rounds is not None
    assert closed is not None
    assert (open_rounds.ids, closed.ids) == ((), (federation.id,))


def test_whoever_does_not_join_in_time_is_left_out():
    federation = Federation(count=5)

    federation.play_to("commit", without=federation.devices[:1])

    assert statuses(federation) == ["invited", *["shared"] * 4]
    assert federation.member_of(federation.devices[0]).group is None


def test_too_few_that_join_end_the_round():
    federation = Federation()
    federation.play_to("join")

    federation.wait()

    assert (federation.record.phase, federation.record.reason) == ("failed", "too_few_joined")


def test_the_groups_are_drawn_from_the_block_that_closed_joining():
    federation = Federation(count=8)
    federation.play_to("draw")
    closing = federation.chain.tip.header.hash

    federation.chain.commit()

    assert federation.chain.tip.header.parent_hash == closing
    drawn = {member.device: member.group for member in federation.record.members}
    assert drawn == draw_groups(list(drawn), group_size=4, round_id=federation.id, seed=closing)
    assert [len(federation.record.members_of(group)) for group in (0, 1)] == [4, 4]


@pytest.mark.parametrize("phase", ["share", "commit"])
def test_a_group_below_the_threshold_is_void_and_the_round_goes_on(phase):
    federation = Federation(count=8)
    federation.play_to(phase)
    dead = [device for device in federation.devices if federation.member_of(device).group == 1]

    federation.play_to("finished", without=dead[:2])

    assert federation.record.void == (1,)
    assert federation.record.phase == "finished"
    assert statuses(federation).count("included") == 4


def test_with_too_few_groups_left_the_round_fails():
    federation = Federation(count=8, groups_min=2)
    federation.play_to("share")
    dead = [device for device in federation.devices if federation.member_of(device).group == 1]

    federation.play_to("finished", without=dead[:2])

    assert (federation.record.phase, federation.record.reason) == ("failed", "too_few_groups")


@pytest.mark.attack("F3")
def test_an_update_whose_blob_is_withheld_is_not_in_the_sum():
    federation = Federation()
    federation.play_to("attest")
    held = federation.devices[1:]
    # One liar alone makes nobody believe in a blob that only it has seen.
    federation.chain.commit(
        federation.attest(0), *[federation.attest(miner, held) for miner in (1, 2, 3)]
    )
    assert federation.record.phase == "attest"

    federation.wait()

    assert statuses(federation) == ["withheld", *["included"] * 3]
    federation.play_to("finished")
    assert federation.record.phase == "finished"


@pytest.mark.attack("F3")
def test_silent_miners_keep_no_update_out():
    federation = Federation()
    federation.play_to("attest")

    federation.chain.commit(federation.attest(0), federation.attest(3))

    assert federation.record.phase == "reveal"


def test_what_a_miner_attests_before_it_is_demoted_does_not_count():
    federation = Federation()
    federation.play_to("attest")
    federation.chain.commit(federation.attest(0))
    federation.chain.demote(federation.record.attestations[0].miner)

    federation.chain.commit(federation.attest(1))

    assert federation.record.phase == "attest"


def test_a_group_whose_masks_stay_hidden_is_void():
    federation = Federation(count=8)
    federation.play_to("reveal")
    of = {group: federation.record.members_of(group) for group in (0, 1)}
    revealing = [*of[0], *of[1][:2]]
    for member in revealing[:3] + revealing[4:]:
        federation.chain.commit(federation.reveal(federation.device_of(member)))
    assert federation.record.revealed == (0,)

    federation.wait()

    assert federation.record.phase == "aggregate"
    assert federation.record.groups == (0,)


@pytest.mark.attack("F6")
def test_an_aggregate_stands_by_a_quorum_and_a_liar_is_named():
    federation = Federation()
    federation.play_to("aggregate")
    lie = federation.aggregate(3, root=digest_of("a lie"))
    federation.chain.commit(lie, federation.aggregate(0), federation.aggregate(1))
    assert federation.record.phase == "aggregate"

    execution = federation.chain.commit(federation.aggregate(2))

    digest = federation.record.terms.blob_of(digest_of("root of the aggregate"))
    assert federation.record.aggregate == digest
    assert events(execution) == [
        ("round_finished", digest.hex()),
        ("aggregate_overruled", lie.payload.sender.hex()),
    ]


def test_what_a_miner_has_computed_before_it_is_demoted_does_not_count():
    federation = Federation()
    federation.play_to("aggregate")
    federation.chain.commit(federation.aggregate(0), federation.aggregate(1))
    federation.chain.demote(federation.record.votes[0].miner)

    federation.chain.commit(federation.aggregate(2))
    assert federation.record.phase == "aggregate"

    federation.chain.commit(federation.aggregate(3))
    assert federation.record.phase == "finished"


@pytest.mark.attack("F6")
def test_without_a_quorum_nothing_stands():
    federation = Federation()
    federation.play_to("aggregate")
    federation.chain.commit(
        *[federation.aggregate(miner) for miner in (0, 1)],
        *[federation.aggregate(miner, root=digest_of("a lie")) for miner in (2, 3)],
    )

    federation.wait()

    assert (federation.record.phase, federation.record.reason) == ("failed", "no_aggregate")
    assert federation.record.aggregate is None


def test_in_the_audit_mode_nothing_is_shared_or_revealed():
    federation = Federation(count=5, group_size=1, groups_min=5, rule="multi_krum", tolerated=1)

    federation.play_to("commit")
    assert statuses(federation) == ["joined"] * 5
    federation.play_to("finished")

    assert federation.record.phase == "finished"
    assert statuses(federation) == ["included"] * 5


def test_every_phase_is_told():
    federation = Federation()
    federation.play_to("join")

    execution = federation.chain.commit(*[federation.join(device) for device in federation.devices])

    assert events(execution) == [("round_phase", "draw")]


def test_an_idle_chain_goes_on_while_a_round_is_open():
    chain = Chain(make_genesis(parameters=Parameters(heartbeat_ms=3_600_000)))
    federation = Federation(chain)
    assert heartbeat_ms_of(chain.state) == 3_600_000
    federation.open()

    assert heartbeat_ms_of(chain.state) == ROUND_HEARTBEAT_MS
    chain.commit(time_ms=chain.tip.header.time_ms + ROUND_HEARTBEAT_MS)

    chain.commit(federation.abort())
    assert heartbeat_ms_of(chain.state) == 3_600_000


def test_the_state_keeps_so_many_closed_rounds_and_no_more():
    federation = Federation()
    for _ in range(CLOSED_ROUNDS_MAX + 2):
        federation.terms = make_terms(federation.chain.tip.next_height)
        federation.open()
        federation.chain.commit(federation.abort())

    kept = federation.chain.state.get(CLOSED_ROUNDS)
    assert kept is not None
    assert len(kept.ids) == CLOSED_ROUNDS_MAX
    assert sorted(kept.ids) == [id for id, _ in federation.chain.state.scan(ROUND_TABLE)]
