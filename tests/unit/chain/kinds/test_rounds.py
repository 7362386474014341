"""round.open, round.abort, round.attest, round.aggregate: what coordinators and miners may do."""

from dataclasses import replace

import pytest

from chain.federated.records import ROUND_HEIGHTS_MAX, ROUND_PARAMETERS_MAX, groups_needed
from tests.builders import Chain, digest_of, make_genesis
from tests.federation import Federation, invite, make_deadlines

ORGANISATIONS = ("acme", "globex", "initech", "umbrella", "hooli")


@pytest.fixture
def federation():
    return Federation()


# --- round.open -----------------------------------------------------------------------------------


def test_an_opened_round_waits_for_its_participants(federation):
    execution = federation.chain.commit(opening := federation.opening())

    federation.id = opening.id
    record = federation.record
    assert (record.phase, record.terms) == ("join", federation.terms)
    assert [member.status for member in record.members] == ["invited"] * 4
    assert execution.receipts[0].events[0].name == "round_opened"


def deadlines(height, **fields):
    return {"deadlines": replace(make_deadlines(height), **fields)}


@pytest.mark.parametrize(
    "fields",
    [
        {"group_size": 2, "groups_min": 2},
        {"group_size": 4, "groups_min": 2},
        {"rule": "multi_krum"},
        {"tolerated": 1},
        {"rule": "median", "tolerated": 1},
        {"rule": "multi_krum", "group_size": 1, "groups_min": 4, "tolerated": 1},
        deadlines(2, join=2),
        deadlines(2, share=5),
        deadlines(2, share=6),
        deadlines(2, commit=99),
        deadlines(2, aggregate=2 + ROUND_HEIGHTS_MAX + 1),
    ],
)
def test_terms_that_no_round_can_keep_are_malformed(federation, fields):
    terms = replace(federation.terms, **fields)

    assert federation.chain.rejection(federation.opening(terms=terms)).code == "malformed"


def test_participants_are_named_once_and_in_order(federation):
    invitations = [invite(device) for device in federation.devices]
    doubled = (invitations[0], *invitations)

    for participants in (invitations[::-1], doubled):
        opening = federation.opening(participants=tuple(participants))
        assert federation.chain.rejection(opening).code == "malformed"


@pytest.mark.attack("F9")
def test_a_sum_that_could_overflow_is_refused(federation):
    # Four weights of ten.
    largest = (2**63 - 1) // 40
    fits, overflows = (replace(federation.terms, clip=clip) for clip in (largest, largest + 1))

    assert federation.chain.rejection(federation.opening(terms=overflows)).code == "overflow"
    federation.chain.commit(federation.opening(terms=fits))


def test_the_updates_of_a_round_are_bounded_together():
    federation = Federation(count=33, parameter_count=ROUND_PARAMETERS_MAX // 32)

    assert federation.chain.rejection(federation.opening()).code == "limit_reached"


def test_one_organisation_leaves_room_to_others_and_all_together_have_a_bound():
    chain = Chain(make_genesis(organisations=ORGANISATIONS))
    federation = Federation(chain)
    federation.terms = replace(federation.terms, deadlines=make_deadlines(50))
    for organisation in ORGANISATIONS[:4]:
        for _ in range(2):
            chain.commit(federation.opening(organisation=organisation))
        assert chain.rejection(federation.opening(organisation=organisation)).code == (
            "limit_reached"
        )

    assert chain.rejection(federation.opening(organisation="hooli")).code == "limit_reached"


@pytest.mark.parametrize(
    ("rule", "tolerated", "groups"),
    [("mean", 0, 1), ("median", 2, 5), ("trimmed_mean", 2, 5), ("multi_krum", 2, 7)],
)
def test_a_rule_withstands_so_many_among_so_many(rule, tolerated, groups):
    assert groups_needed(rule, tolerated) == groups


# --- round.abort ----------------------------------------------------------------------------------


def test_the_coordinator_ends_its_round(federation):
    federation.open()

    execution = federation.chain.commit(federation.abort())

    assert federation.record.phase == "aborted"
    assert execution.receipts[0].events[0].name == "round_aborted"
    assert federation.chain.rejection(federation.abort()).code == "round_closed"
    assert federation.chain.rejection(federation.join(federation.devices[0])).code == (
        "round_closed"
    )


def test_nobody_else_ends_it():
    federation = Federation(Chain(make_genesis(organisations=ORGANISATIONS)))
    federation.open()

    refused = federation.chain.rejection(federation.abort(organisation="globex"))

    assert refused.code == "not_permitted"


def test_what_was_never_opened_is_not_found(federation):
    assert federation.chain.rejection(federation.abort()).code == "not_found"
    assert federation.chain.rejection(federation.aggregate(0)).code == "not_found"


# --- round.attest ---------------------------------------------------------------------------------


def test_a_miner_adds_to_what_it_attests_and_takes_nothing_back(federation):
    federation.play_to("attest")
    few, more = federation.devices[:2], federation.devices[:3]
    federation.chain.commit(federation.attest(0, few))
    chain = federation.chain

    assert chain.rejection(federation.attest(0, few)).code == "already_done"
    assert chain.rejection(federation.attest(0, few[:1])).code == "already_done"
    assert chain.rejection(federation.attest(0, federation.devices[1:])).code == "already_done"
    chain.commit(federation.attest(0, more))
    assert len(federation.record.attestations) == 1


def test_only_what_was_committed_is_attested():
    federation = Federation(count=5)
    federation.play_to("attest", without=federation.devices[:1])
    chain = federation.chain

    assert chain.rejection(federation.attest(0, federation.devices[:1])).code == "malformed"
    for held in (b"\x80", b"\x00\x1e"):
        assert chain.rejection(federation.attest(0, held=held)).code == "malformed"


def test_strangers_neither_attest_nor_aggregate(federation):
    federation.play_to("attest")
    assert federation.chain.rejection(federation.attest(5)).code == "not_permitted"

    federation.play_to("aggregate")
    assert federation.chain.rejection(federation.aggregate(5)).code == "not_permitted"


def test_a_demoted_miner_neither_attests_nor_aggregates(federation):
    federation.play_to("attest")
    demoted = federation.attest(2)
    federation.chain.demote(demoted.payload.sender)

    assert federation.chain.rejection(demoted).code == "not_permitted"


# --- round.aggregate ------------------------------------------------------------------------------


def test_a_miner_says_once_what_it_has_computed(federation):
    federation.play_to("aggregate")
    federation.chain.commit(federation.aggregate(1))

    for root in ("root of the aggregate", "another"):
        again = federation.aggregate(1, root=digest_of(root))
        assert federation.chain.rejection(again).code == "already_done"


def test_each_step_has_its_phase(federation):
    federation.play_to("join")
    chain = federation.chain
    assert chain.rejection(federation.attest(0, ())).code == "too_early"
    assert chain.rejection(federation.aggregate(0)).code == "too_early"

    federation.play_to("attest")
    late = federation.attest(0)
    federation.play_to("aggregate")
    assert chain.rejection(late).code in ("too_late", "expired")
    assert chain.rejection(federation.attest(0)).code == "too_late"


def test_a_body_of_the_largest_round_fits():
    federation = Federation(count=256, parameter_count=1)
    federation.open()

    assert len(federation.record.members) == 256
