"""What is verified again, and what never passes for verified."""

from dataclasses import replace

import pytest

from chain.certificate import VOTE_TAG, VoteType
from consensus.errors import BadSignature, InvalidMessage, Unjustified, UntimelyProposal
from consensus.signatures import is_signed
from consensus.verifier import SIGNATURES_KEPT_MAX, Verifier
from tests.interaction.cluster import EMPTY, WALL_START_MS, make_config
from tests.unit.consensus.bench import Bench
from tests.unit.consensus.plain import Commit


def other(signature):
    """Return the signature with one bit of its last byte turned."""
    return signature[:-1] + bytes([signature[-1] ^ 1])


def test_the_certificate_of_a_round_change_is_verified_once_whoever_shows_it(count):
    bench = Bench()
    prepared = bench.certificate(bench.proposal())
    bench.receive(bench.round_change(1, 1, prepared=prepared))
    assert count.since() == 1 + len(prepared.votes)
    bench.receive(bench.round_change(1, 1, prepared=prepared))
    assert count.since() == 0
    bench.receive(bench.round_change(1, 2, prepared=prepared))
    bench.receive(bench.round_change(3, 2, prepared=prepared))
    assert count.since() == 2


def test_votes_that_were_received_need_no_verification_in_a_certificate(count):
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(
        bench.prepare(1, proposal), bench.prepare(2, proposal), bench.prepare(3, proposal)
    )
    count.since()
    bench.receive(bench.round_change(3, 1, prepared=bench.certificate(proposal, by=(1, 2, 3))))
    assert count.since() == 1


def test_a_justification_costs_only_what_was_not_seen_before(count):
    bench = Bench()
    old = bench.proposal()
    prepared = bench.certificate(old)
    changes = [bench.round_change(by, 1, prepared=prepared) for by in (1, 2, 3)]
    bench.receive(*changes[:2])
    count.since()
    bench.receive(bench.pre_prepare(old, 1, bench.justification(*changes, certificate=prepared)))
    assert count.since() == len(["the proposal", "the ROUND-CHANGE of 3"])


def test_a_refused_proposal_shown_again_costs_no_verification(count):
    bench = Bench()
    changes = [bench.round_change(by, 1) for by in (1, 2, 3)]
    message = bench.pre_prepare(bench.proposal(round=1), 1, bench.justification(*changes))
    for verifications in (4, 0, 0):
        with pytest.raises(UntimelyProposal):
            bench.receive(message, wall_ms=WALL_START_MS - 10_000)
        assert count.since() == verifications


def test_a_far_message_of_a_next_height_is_verified_once(count):
    bench = Bench()
    bench.receive(bench.prepare(1, bench.proposal(), height=3))
    assert count.since() == 1


@pytest.mark.parametrize("part", ["digest", "round", "sender", "signature"])
def test_a_vote_with_the_signature_of_a_remembered_one_is_refused(part):
    bench = Bench()
    good, another = bench.commit(1, bench.proposal()), bench.commit(1, bench.proposal(), 1)
    bench.receive(good)
    # As if it had been shown in a certificate: what is in the log is not looked at again.
    assert is_signed(another, bench.replica._state)
    forged = {
        "digest": replace(good, digest=EMPTY),
        "round": replace(good, round=1),
        "sender": replace(good, sender=bench.ids[2]),
        "signature": replace(another, signature=other(another.signature)),
    }[part]
    for _ in range(2):
        with pytest.raises(BadSignature):
            bench.receive(forged)


def test_a_remembered_prepare_makes_no_commit():
    bench = Bench()
    good = bench.prepare(1, bench.proposal())
    bench.receive(good)
    forged = Commit(
        sender=good.sender, height=1, round=0, digest=good.digest, signature=good.signature
    )
    with pytest.raises(BadSignature):
        bench.receive(forged)


def forged_certificates():
    """Yield functions that forge a certificate, given the bench and a good one."""

    def another_signature(bench, good):
        first, *rest = good.votes
        return replace(good, votes=(replace(first, signature=other(first.signature)), *rest))

    def another_signer(bench, good):
        *rest, last = good.votes
        return replace(good, votes=(*rest, replace(last, index=3)))

    def another_digest(bench, good):
        return replace(good, digest=EMPTY)

    def another_round(bench, good):
        return replace(good, round=1)

    def commits(bench, good):
        # All of them remembered, as what they are.
        proposal = bench.proposal()
        bench.receive(*(bench.commit(by, proposal) for by in (1, 2)))
        return bench.certificate(proposal, by=(0, 1, 2), type=VoteType.COMMIT)

    return another_signature, another_signer, another_digest, another_round, commits


@pytest.mark.parametrize("forge", forged_certificates(), ids=lambda forge: forge.__name__)
def test_a_forged_certificate_is_refused_after_the_good_one_was_remembered(forge):
    bench = Bench()
    good = bench.certificate(bench.proposal())
    bench.receive(bench.round_change(1, 2, prepared=good))
    forged = forge(bench, good)
    for _ in range(2):
        with pytest.raises(Unjustified):
            bench.receive(bench.round_change(1, 3, prepared=forged))


@pytest.mark.parametrize("part", ["signature", "round", "prepared_round"])
def test_a_forged_round_change_in_a_justification_is_refused_after_the_good_one(part):
    bench = Bench()
    old = bench.proposal()
    prepared = bench.certificate(old)
    changes = [bench.round_change(by, 5, prepared=prepared) for by in (1, 2, 3)]
    bench.receive(changes[0])
    forged = {
        "signature": replace(changes[0], signature=other(changes[0].signature)),
        "round": replace(bench.round_change(1, 4, prepared=prepared), round=5),
        "prepared_round": replace(changes[0], prepared_round=None, prepared_digest=None),
    }[part]
    justification = bench.justification(forged, *changes[1:], certificate=prepared)
    with pytest.raises(Unjustified):
        bench.receive(bench.pre_prepare(old, 5, justification, by=2))


def test_nothing_is_remembered_across_heights():
    bench = Bench()
    first = bench.proposal()
    vote = bench.commit(1, first)
    bench.receive(vote)
    bench.start(make_config(bench.miners, first.header))
    assert len(bench.replica._state.verifier) == 0


def test_another_genesis_is_another_signature():
    bench = Bench()
    vote = bench.prepare(1, bench.proposal())
    bench.receive(vote)
    bench.replica._state.config = replace(bench.config, genesis_hash=EMPTY)
    assert not is_signed(vote, bench.replica._state)


def test_a_bad_signature_is_verified_each_time_and_never_remembered(count):
    bench = Bench()
    key, vote = bench.miners.members[1].key, bench.prepare(1, bench.proposal())
    statement = vote.statement(bench.config.genesis_hash)
    remembering = Verifier()
    for _ in range(3):
        assert not remembering(key, VOTE_TAG, statement, other(vote.signature))
    assert (count.since(), len(remembering)) == (3, 0)


def test_a_member_that_signs_much_makes_only_its_own_signatures_forgotten(count):
    loud, quiet = Bench().keys[1:3]
    remembering = Verifier()

    def shows(key, statement):
        return remembering(key.public, VOTE_TAG, statement, key.sign(VOTE_TAG, statement))

    assert shows(quiet, b"once")
    for number in range(3 * SIGNATURES_KEPT_MAX):
        assert shows(loud, b"%d" % number)
        assert shows(loud, b"always")
    assert len(remembering) == SIGNATURES_KEPT_MAX + 1
    assert count.since() == len(["once", "always"]) + 3 * SIGNATURES_KEPT_MAX
    assert shows(quiet, b"once")
    assert count.since() == 0
    assert shows(loud, b"0")
    assert count.since() == 1


def malformed():
    """Yield functions that make a message which is signed, and wrong by its form."""

    def round_change_with_an_index_out_of_range(bench):
        good = bench.certificate(bench.proposal())
        *rest, last = good.votes
        return bench.round_change(
            1, prepared=replace(good, votes=(*rest, replace(last, index=len(bench.ids))))
        )

    def round_change_with_one_vote_too_many(bench):
        return bench.round_change(
            1, prepared=bench.certificate(bench.proposal(), by=(0, 1, 2, 3, 3))
        )

    def round_change_of_its_own_round(bench):
        return bench.round_change(1, 1, prepared=bench.certificate(bench.proposal(), 1))

    def proposal_with_one_round_change_too_many(bench):
        changes = [bench.round_change(by) for by in (0, 1, 2, 3, 3)]
        return bench.pre_prepare(bench.proposal(round=1), 1, bench.justification(*changes))

    def proposal_with_a_stranger(bench):
        changes = [bench.round_change(by) for by in (1, 2, 3)]
        changes[0] = replace(changes[0], sender=EMPTY)
        return bench.pre_prepare(bench.proposal(round=1), 1, bench.justification(*changes))

    def proposal_with_a_certificate_below_a_quorum(bench):
        old = bench.proposal()
        prepared = bench.certificate(old, by=(1, 2))
        changes = [bench.round_change(by, prepared=prepared) for by in (1, 2, 3)]
        return bench.pre_prepare(old, 1, bench.justification(*changes, certificate=prepared))

    def proposal_of_another_parent(bench):
        good = bench.proposal()
        return bench.pre_prepare(replace(good, header=replace(good.header, parent_hash=EMPTY)))

    return (
        round_change_with_an_index_out_of_range,
        round_change_with_one_vote_too_many,
        round_change_of_its_own_round,
        proposal_with_one_round_change_too_many,
        proposal_with_a_stranger,
        proposal_with_a_certificate_below_a_quorum,
        proposal_of_another_parent,
    )


@pytest.mark.parametrize("make", malformed(), ids=lambda make: make.__name__)
def test_what_is_wrong_by_its_form_costs_no_verification(make, count):
    bench = Bench()
    with pytest.raises(InvalidMessage):
        bench.receive(make(bench))
    assert count.since() == 0


def test_the_digests_of_an_untimely_block_are_not_hashed(monkeypatch):
    """Nobody is blamed for an untimely block, so a proposer could have it done without end."""
    monkeypatch.delattr("consensus.ordering.transaction_root")
    bench = Bench()
    with pytest.raises(UntimelyProposal):
        bench.receive(bench.pre_prepare(bench.proposal()), wall_ms=WALL_START_MS - 10_000)
