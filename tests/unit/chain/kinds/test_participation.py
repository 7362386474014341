"""What participants of a federated round may send, and what the chain refuses them."""

from dataclasses import replace
from itertools import combinations

import pytest

from chain.federated.boxes import ShareKind
from chain.federated.records import (
    REVEAL_TABLE,
    ROUND_TABLE,
    SHARE_SIZE,
    SHARES_TABLE,
    SharesRecord,
)
from chain.kinds import KINDS
from chain.kinds.device_registry import SetRoles, Suspend
from chain.kinds.participation import UpdateCommit
from tests.builders import digest_of, key_of
from tests.federation import Federation, Forgery, make_terms

OTHER_KEY = bytes(31) + b"\x09"


@pytest.fixture
def federation():
    return Federation()


def body_of(transaction):
    return KINDS[transaction.payload.kind].decode(transaction)


def code(federation, transaction, *before):
    return federation.chain.rejection(transaction, *before).code


# --- who may take part ----------------------------------------------------------------------------


@pytest.mark.attack("F5")
def test_only_invited_registered_active_participants_take_part(federation):
    chain = federation.chain
    stranger = chain.register("stranger", roles=("participant",))
    federation.terms = make_terms(chain.tip.next_height)
    federation.open()
    unknown = replace(stranger, id=digest_of("nobody"))
    first, second, *_ = federation.devices
    chain.commit(chain.update(first, Suspend()), chain.update(second, SetRoles(roles=("sensor",))))

    assert code(federation, federation.join(stranger)) == "not_invited"
    assert code(federation, federation.join(unknown)) == "not_permitted"
    assert code(federation, federation.join(first)) == "device_not_active"
    assert code(federation, federation.join(second)) == "not_permitted"


@pytest.mark.attack("F5")
def test_nobody_takes_part_twice(federation):
    federation.open()
    first = federation.devices[0]

    joined = federation.join(first)

    assert code(federation, federation.join(first), joined) == "already_done"
    assert code(federation, federation.join(first, mask_key=OTHER_KEY), joined) == "already_done"


def test_a_key_with_which_there_are_no_secrets_is_refused(federation):
    federation.open()

    device = federation.devices[0]
    assert code(federation, federation.join(device, mask_key=bytes(32))) == "malformed"
    assert code(federation, federation.join(device, box_key=bytes(32))) == "malformed"


@pytest.mark.attack("F10")
def test_the_key_for_masks_which_may_become_known_is_not_that_for_boxes(federation):
    federation.open()
    joining = federation.join(federation.devices[0], mask_key=OTHER_KEY, box_key=OTHER_KEY)

    assert code(federation, joining) == "malformed"


def test_copied_keys_keep_nobody_out_and_open_nothing(federation):
    federation.open()
    honest, copier, *_ = federation.devices
    copied = body_of(federation.join(honest))

    federation.chain.commit(
        federation.join(copier, mask_key=copied.mask_key, box_key=copied.box_key)
    )

    federation.chain.commit(federation.join(honest))
    assert federation.member_of(honest).mask_key == federation.member_of(copier).mask_key


def test_another_key_does_not_sign_for_a_participant(federation):
    federation.open()
    body = body_of(federation.join(federation.devices[0]))
    forged = federation.chain.transaction(
        "round.join", body, key_of("a thief"), federation.devices[0].id
    )

    assert code(federation, forged) == "bad_signature"


# --- round.share ----------------------------------------------------------------------------------


def test_shares_are_for_the_whole_group_and_come_once(federation):
    federation.play_to("share")
    first = federation.devices[0]
    shared = federation.share(first)
    body = body_of(shared)

    assert code(federation, federation.share(first, boxes=body.boxes[64:])) == "malformed"
    assert code(federation, federation.share(first, hashes=body.hashes[32:])) == "malformed"
    assert code(federation, federation.share(first), shared) == "already_done"


def test_who_has_not_joined_has_no_group_to_share_with():
    federation = Federation(count=5)
    missing, other, *_ = federation.devices
    federation.play_to("share", without=[missing])
    body = body_of(federation.share(other))

    assert code(federation, federation.by(missing, "round.share", body)) == "invalid_state"


# --- update.commit --------------------------------------------------------------------------------


@pytest.mark.attack("F4")
def test_an_update_of_another_model_is_refused(federation):
    federation.play_to("commit")

    foreign = federation.commit(federation.devices[0], base=digest_of("last week's"))

    assert code(federation, foreign) == "wrong_base"


@pytest.mark.attack("F4")
def test_an_update_counts_in_its_own_round_and_once(federation):
    federation.play_to("commit")
    first = federation.devices[0]
    committed = federation.commit(first)
    assert code(federation, federation.commit(first), committed) == "already_done"
    federation.play_to("finished")

    assert code(federation, federation.commit(first)) == "round_closed"
    assert code(federation, federation.commit(first, round=digest_of("never"))) == "not_found"
    federation.terms = make_terms(federation.chain.tip.next_height)
    federation.open()
    assert code(federation, federation.commit(first)) == "too_early"


@pytest.mark.attack("F4")
def test_a_replayed_commit_is_a_duplicate(federation):
    federation.play_to("commit")
    committed = federation.commit(federation.devices[0])
    federation.chain.commit(committed)

    assert code(federation, committed) == "duplicate"


@pytest.mark.attack("F9")
@pytest.mark.parametrize("size", [1, 799, 801, 2**32])
def test_an_update_of_another_shape_is_refused(federation, size):
    federation.play_to("commit")

    assert code(federation, federation.commit(federation.devices[0], size_bytes=size)) == (
        "wrong_shape"
    )


@pytest.mark.attack("F9")
def test_the_digest_of_an_update_commits_to_its_shape(federation):
    federation.play_to("commit")
    first = federation.devices[0]

    federation.chain.commit(transaction := federation.commit(first))

    body = body_of(transaction)
    assert isinstance(body, UpdateCommit)
    longer = replace(federation.terms, parameter_count=federation.terms.parameter_count + 1)
    assert federation.member_of(first).update == federation.terms.blob_of(body.root)
    assert federation.member_of(first).update != longer.blob_of(body.root)


@pytest.mark.attack("F2")
def test_nobody_commits_anothers_update():
    federation = Federation(group_size=1, groups_min=4)
    federation.play_to("commit")
    honest, copier, *_ = federation.devices
    original = federation.commit(honest)

    copied = federation.commit(copier, root=body_of(original).root)

    assert code(federation, copied, original) == "duplicate_update"


@pytest.mark.attack("F2")
def test_a_copier_that_overtakes_is_left_with_an_update_that_nobody_shows():
    federation = Federation(group_size=1, groups_min=3)
    federation.play_to("commit")
    honest, copier, *others = federation.devices
    stolen = body_of(federation.commit(honest)).root
    federation.chain.commit(federation.commit(copier, root=stolen))
    assert code(federation, federation.commit(honest)) == "duplicate_update"
    again = federation.commit(honest, root=digest_of("one bit differs"))
    federation.chain.commit(again, *[federation.commit(other) for other in others])

    # What was stolen is never brought: its maker has committed to something else.
    federation.chain.commit(*[federation.attest(miner, [honest, *others]) for miner in range(4)])
    federation.wait()

    assert federation.member_of(copier).status == "withheld"
    assert federation.member_of(honest).status == "included"


def test_who_has_not_shared_commits_nothing():
    federation = Federation(count=5)
    federation.play_to("share")
    silent = federation.devices[0]
    federation.play_to("commit", without=[silent])

    assert code(federation, federation.commit(silent)) == "invalid_state"


def test_a_void_group_commits_nothing():
    federation = Federation(count=8)
    federation.play_to("share")
    lost = [device for device in federation.devices if federation.member_of(device).group == 0]
    federation.play_to("commit", without=lost[:2])

    assert code(federation, federation.commit(lost[3])) == "void_group"


@pytest.mark.parametrize("phase", ["join", "share", "commit", "reveal"])
def test_what_comes_in_another_phase_is_refused(phase):
    federation = Federation()
    steps = {
        "join": federation.join,
        "share": federation.share,
        "commit": federation.commit,
        "reveal": federation.reveal,
    }
    order = list(steps)
    federation.play_to(phase)
    device = federation.devices[0]

    for name, step in steps.items():
        if name == "reveal" and order.index(phase) < 3:
            body = {"shares": (bytes(SHARE_SIZE),)}
            assert code(federation, federation.reveal(device, **body)) == "too_early"
        elif order.index(name) < order.index(phase):
            assert code(federation, step(device)) == "too_late"
        elif order.index(name) > order.index(phase):
            assert code(federation, step(device)) == "too_early"


# --- update.reveal --------------------------------------------------------------------------------


def dropped_out():
    """Return a round at `reveal` in which one of five has committed nothing."""
    federation = Federation(count=5)
    federation.play_to("commit")
    federation.play_to("reveal", without=federation.devices[:1])
    return federation, federation.devices[0], federation.devices[1]


def test_the_self_mask_of_survivors_and_the_key_of_dropped_members_are_revealed():
    federation, dropped, survivor = dropped_out()

    federation.chain.commit(federation.reveal(survivor))

    record = federation.chain.state.get(REVEAL_TABLE, federation.id + survivor.id)
    assert record is not None
    assert record.shares[0] == federation.share_of(dropped, survivor, ShareKind.KEY)
    assert record.shares[1] == federation.share_of(survivor, survivor, ShareKind.SELF_MASK)


@pytest.mark.attack("F10")
def test_never_both_shares_of_one_member_are_revealed():
    federation, dropped, survivor = dropped_out()
    honest = body_of(federation.reveal(survivor)).shares

    wrong_of_dropped = (
        federation.share_of(dropped, survivor, ShareKind.SELF_MASK),
        *honest[1:],
    )
    wrong_of_survivor = (
        honest[0],
        federation.share_of(survivor, survivor, ShareKind.KEY),
        *honest[2:],
    )

    for shares in (wrong_of_dropped, wrong_of_survivor):
        assert code(federation, federation.reveal(survivor, shares=shares)) == "wrong_share"


@pytest.mark.attack("F10")
def test_nothing_is_revealed_of_a_void_group():
    federation = Federation(count=8)
    federation.play_to("attest")
    lost = [device for device in federation.devices if federation.member_of(device).group == 1]
    held = [device for device in federation.devices if device not in lost[:2]]
    federation.chain.commit(*[federation.attest(miner, held) for miner in range(4)])
    federation.wait()
    assert (federation.record.phase, federation.record.void) == ("reveal", (1,))
    assert federation.member_of(lost[2]).status == "included"

    assert code(federation, federation.reveal(lost[2])) == "void_group"


def test_a_false_share_is_refused_and_a_missing_one_is_not():
    federation, _, survivor = dropped_out()
    honest = body_of(federation.reveal(survivor)).shares

    false = (bytes(SHARE_SIZE), *honest[1:])
    assert code(federation, federation.reveal(survivor, shares=false)) == "wrong_share"
    swapped = (honest[0], honest[2], honest[1], *honest[3:])
    assert code(federation, federation.reveal(survivor, shares=swapped)) == "wrong_share"
    for shares in (honest[1:], (*honest, honest[0]), (None,) * len(honest)):
        assert code(federation, federation.reveal(survivor, shares=shares)) == "malformed"
    federation.chain.commit(federation.reveal(survivor, shares=(None, *honest[1:])))


def test_shares_are_revealed_once_and_no_more_than_are_needed():
    federation, dropped, survivor = dropped_out()
    chain = federation.chain
    revealed = federation.reveal(survivor)
    assert code(federation, federation.reveal(survivor), revealed) == "already_done"
    # Whoever has dropped out may help: it reveals nothing but what the others do.
    helpers = [dropped, *federation.devices[1:4]]
    first = [federation.reveal(device) for device in helpers]

    last = federation.reveal(federation.devices[4])

    assert code(federation, last, *first) == "not_needed"
    chain.commit(*first)
    assert federation.record.phase == "aggregate"


def test_any_threshold_of_a_group_is_enough_and_one_less_is_not():
    federation, *_ = dropped_out()
    for helpers in combinations(federation.devices, 4):
        assert revealed_by(federation, *helpers[:3]) is None
        assert revealed_by(federation, *helpers) == (0,)


def revealed_by(federation, *helpers):
    """Return which groups a block of these reveals makes known; None if it changes nothing."""
    block = federation.chain.execution()
    for device in helpers:
        block.apply(federation.reveal(device))
    value = block.finish().delta.get(ROUND_TABLE.key(federation.id))
    return None if value is None else ROUND_TABLE.decode(value).revealed


# --- round.complaint ------------------------------------------------------------------------------


def cheated(*, breaks_box):
    """Return a round at `commit` in which the first member has cheated the second."""
    federation = Federation(count=5)
    federation.play_to("share")
    liar, victim, *others = federation.devices
    forgery = Forgery(victim=victim, breaks_box=breaks_box)
    federation.chain.commit(
        federation.share(liar, forgery=forgery),
        *[federation.share(device) for device in (victim, *others)],
    )
    return federation, liar, victim


@pytest.mark.parametrize("breaks_box", [True, False])
def test_a_box_that_is_no_good_is_proven_and_names_the_liar(breaks_box):
    federation, liar, victim = cheated(breaks_box=breaks_box)

    execution = federation.chain.commit(federation.complaint(victim, liar))

    (event,) = execution.receipts[0].events
    assert event.name == "participant_expelled"
    assert event.values[1:] == (liar.id.hex(), victim.id.hex())
    assert federation.member_of(liar).status == "expelled"
    assert federation.member_of(victim).status == "complained"
    for device in (liar, victim):
        assert code(federation, federation.commit(device)) == "invalid_state"


def test_a_liar_that_has_committed_is_expelled_too():
    federation, liar, victim = cheated(breaks_box=True)
    federation.chain.commit(federation.commit(liar))

    federation.chain.commit(federation.complaint(victim, liar))

    assert federation.member_of(liar).status == "expelled"


def test_the_honest_cannot_be_accused():
    federation, liar, victim = cheated(breaks_box=True)
    honest = federation.devices[2]

    assert code(federation, federation.complaint(victim, honest)) == "not_proven"
    assert code(federation, federation.complaint(honest, liar)) == "not_proven"


def test_a_complaint_is_about_another_of_the_group_with_the_secret_that_joined():
    federation, liar, victim = cheated(breaks_box=True)

    assert code(federation, federation.complaint(victim, liar, secret=bytes(32))) == "wrong_key"
    assert code(federation, federation.complaint(victim, victim)) == "invalid_state"
    nobody = federation.complaint(victim, replace(liar, id=digest_of("nobody")))
    assert code(federation, nobody) == "not_found"
    complaint = federation.complaint(victim, liar)
    assert code(federation, federation.complaint(victim, liar), complaint) == "invalid_state"


@pytest.mark.attack("F10")
def test_who_has_committed_does_not_give_its_key_away():
    federation, liar, victim = cheated(breaks_box=True)

    complaint = federation.complaint(victim, liar)

    assert code(federation, complaint, federation.commit(victim)) == "invalid_state"


def test_members_of_other_groups_do_not_accuse_each_other():
    federation = Federation(count=8)
    federation.play_to("commit")
    of = {federation.member_of(device).group: device for device in federation.devices}

    assert code(federation, federation.complaint(of[0], of[1])) == "not_found"


def test_a_round_goes_on_without_a_liar_and_its_victim():
    federation = Federation(count=7)
    federation.play_to("share")
    liar, victim, *others = federation.devices
    forgery = Forgery(victim=victim)
    federation.chain.commit(
        federation.share(liar, forgery=forgery),
        *[federation.share(device) for device in (victim, *others)],
    )
    federation.chain.commit(federation.complaint(victim, liar))

    federation.play_to("finished", without=[liar, victim])

    assert federation.record.phase == "finished"
    statuses = [member.status for member in federation.record.members]
    assert statuses == ["expelled", "complained", *["included"] * 5]


def test_what_was_shared_stays_in_the_state_for_those_who_come_back(federation):
    federation.play_to("share")
    first = federation.devices[0]
    body = body_of(federation.share(first))
    federation.play_to("reveal")

    found = federation.chain.state.get(SHARES_TABLE, federation.id + first.id)

    assert found == SharesRecord(hashes=body.hashes, boxes=body.boxes)
