"""evidence: who signs two things where it may sign one is demoted, once, until it is restored."""

from dataclasses import replace

import pytest

from chain import codec
from chain.certificate import STATEMENT_TYPES, VOTE_TAG
from chain.crypto import address_of
from chain.kinds import evidence
from chain.kinds.evidence import STATEMENT_SIZE_MAX, evidence_digest
from chain.kinds.miners import MinerPropose, RemoveMiner, RestoreMiner
from chain.kinds.organisations import OrganisationChange
from chain.light_client import verify_state
from chain.records.miners import EVIDENCE_TABLE, MINER_TABLE, EvidenceRecord
from chain.types import Height, Round
from consensus.codec import MESSAGE
from tests.builders import Chain, digest_of, flow, key_of, make_genesis, make_model

ACCUSED = 3
BLOCK, OTHER = digest_of("a block"), digest_of("another")


@pytest.fixture
def chain():
    return Chain()


def id_of(number):
    return address_of(key_of(f"miner {number}").public)


def reported(chain, number=0, accused=ACCUSED, **fields):
    return chain.by_miner(number, "evidence", chain.equivocation(accused, **fields))


def status_of(chain, number=ACCUSED):
    return chain.state.get(MINER_TABLE, id_of(number)).status


def refusal(chain, body, *before, number=0):
    return chain.rejection(chain.by_miner(number, "evidence", body), *before).code


def restore(chain, number=ACCUSED, voters=(0, 1, 2)):
    body = MinerPropose(change=RestoreMiner(miner=id_of(number)))
    return chain.decide("miner.propose", body, voters=voters)


# --- what it does ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "says"),
    [
        ("pre-prepare", ((BLOCK,), (OTHER,))),
        ("prepare", ((BLOCK,), (OTHER,))),
        ("commit", ((BLOCK,), (OTHER,))),
        ("round-change", ((None, None), (2, BLOCK))),
        ("round-change", ((1, BLOCK), (2, BLOCK))),
    ],
)
def test_two_statements_of_any_type_demote_their_signer(chain, type, says):
    transaction = reported(chain, type=type, says=says, round=3)

    execution = chain.commit(transaction)

    assert status_of(chain) == "demoted"
    (event,) = execution.receipts[0].events
    assert (event.name, event.values) == ("miner_demoted", (id_of(ACCUSED).hex(), type, "1", "3"))


def test_the_types_are_those_of_consensus():
    assert set(STATEMENT_TYPES) == set(MESSAGE.records)


def test_the_reason_is_on_record_and_proven_by_the_state_root(chain):
    body = chain.equivocation(ACCUSED, type="commit", round=2)
    transaction = chain.by_miner(1, "evidence", body)

    execution = chain.commit(transaction)

    record = chain.state.get(EVIDENCE_TABLE, id_of(ACCUSED))
    assert record == EvidenceRecord(
        type="commit",
        height=Height(1),
        round=Round(2),
        digest=evidence_digest(body),
        transaction=transaction.id,
        reporter=id_of(1),
        accepted_height=Height(1),
        pardoned_height=None,
    )
    for number, value in ((ACCUSED, EVIDENCE_TABLE.encode(record)), (0, None)):
        verify_state(
            execution.header,
            EVIDENCE_TABLE.key(id_of(number)),
            value,
            chain.state.prove(EVIDENCE_TABLE, id_of(number)),
        )


def test_neither_the_set_nor_its_quorum_change(chain):
    before = chain.miners

    chain.commit(reported(chain))

    assert chain.miners == before
    assert chain.miners.quorum == 3
    assert chain.tip.header.next_miner_set_hash == before.hash


def test_the_demoted_proposes_judges_and_governs_no_more(chain):
    chain = Chain(make_genesis(model=make_model()))
    device = chain.register()
    chain.commit(chain.by_device(device, flow()))
    judged = chain.tip.header.height
    chain.commit(reported(chain))

    proposers = {chain.proposer(round) for round in range(8)}
    assert proposers == {id_of(0), id_of(1), id_of(2)}
    change = OrganisationChange(
        name="acme", registrar_key=key_of("r", "p256").public, limits=(), active=True
    )
    for transaction in (
        chain.by_miner(ACCUSED, "organisation.change", change),
        chain.verdict(ACCUSED, judged, [0]),
        reported(chain, ACCUSED, accused=0),
    ):
        assert chain.rejection(transaction).code == "not_permitted"


def test_the_proposer_of_the_block_that_demotes_it_finishes_it(chain):
    while chain.proposer() != id_of(ACCUSED):
        chain.commit()

    execution = chain.commit(reported(chain), chain.registration("device")[1])

    assert execution.header.proposer == id_of(ACCUSED)
    assert status_of(chain) == "demoted"


@pytest.mark.attack("E4")
def test_what_the_demoted_has_sent_is_refused_behind_the_evidence_in_one_block(chain):
    body = MinerPropose(change=RemoveMiner(miner=id_of(0)))
    proposal = chain.by_miner(ACCUSED, "miner.propose", body)

    assert chain.rejection(proposal, reported(chain)).code == "not_permitted"


def test_a_verdict_given_before_does_not_decide_a_block_any_more():
    chain = Chain(make_genesis(model=make_model()))
    device = chain.register()
    chain.commit(chain.by_device(device, flow()))
    judged = chain.tip.header.height
    chain.commit(*[chain.verdict(number, judged, [0]) for number in (0, ACCUSED)])

    chain.commit(reported(chain))
    undecided = chain.commit(chain.verdict(1, judged, [0]))
    decided = chain.commit(chain.verdict(2, judged, [0]))

    assert undecided.receipts[0].events == ()
    assert [event.name for event in decided.receipts[0].events] == ["block_judged"]


def test_a_proposal_that_the_demoted_approved_lacks_its_vote(chain):
    body = MinerPropose(change=RemoveMiner(miner=id_of(0)))
    proposal = chain.by_miner(ACCUSED, "miner.propose", body)
    chain.commit(proposal, chain.vote(1, proposal))

    execution = chain.commit(reported(chain), chain.vote(2, proposal))

    assert [event.name for receipt in execution.receipts for event in receipt.events] == [
        "miner_demoted"
    ]


def test_a_miner_may_accuse_itself(chain):
    chain.commit(reported(chain, ACCUSED))

    assert status_of(chain) == "demoted"


# --- what is no proof -----------------------------------------------------------------------------


def test_statements_out_of_order_or_equal_are_malformed(chain):
    body = chain.equivocation(ACCUSED)
    swapped = replace(
        body,
        first=body.second,
        first_signature=body.second_signature,
        second=body.first,
        second_signature=body.first_signature,
    )
    equal = replace(body, second=body.first, second_signature=body.first_signature)

    assert refusal(chain, swapped) == "malformed"
    assert refusal(chain, equal) == "malformed"


@pytest.mark.parametrize("item", [1, 2, 3])
def test_statements_about_different_types_heights_or_rounds_contradict_nothing(chain, item):
    key = key_of(f"miner {ACCUSED}")
    about = [chain.genesis.hash, "commit", 1, 0, BLOCK]
    other = [chain.genesis.hash, "prepare", 2, 1, OTHER]
    changed = [*about[:item], other[item], *about[item + 1 : 4], OTHER]
    first, second = sorted(codec.encode(statement) for statement in (about, changed))
    body = replace(
        chain.equivocation(ACCUSED),
        first=first,
        first_signature=key.sign(VOTE_TAG, first),
        second=second,
        second_signature=key.sign(VOTE_TAG, second),
    )

    assert refusal(chain, body) == "malformed"


@pytest.mark.attack("E8")
@pytest.mark.parametrize(
    "statement",
    [
        b"\xc0",
        b"\x90",
        b"\x91\x80",
        codec.encode((digest_of("genesis"), "prepare", 1)),
        codec.encode((digest_of("genesis"), "prepare", -1, 0, BLOCK)),
        codec.encode((digest_of("genesis"), "prepare", 2**48 + 1, 0, BLOCK)),
        codec.encode((digest_of("genesis"), "prepare", True, 0, BLOCK)),
        codec.encode((digest_of("genesis"), "prepare", 1, 2**32, BLOCK)),
        codec.encode((digest_of("genesis"), "promise", 1, 0, BLOCK)),
        codec.encode((digest_of("genesis"), b"prepare", 1, 0, BLOCK)),
        codec.encode((b"short", "prepare", 1, 0, BLOCK)),
        codec.encode((digest_of("genesis"), "prepare", 1, 0, *range(5))),
        codec.encode((digest_of("genesis"), "prepare", 1, 0, BLOCK)) + b"\x00",
        b"\x95\xc4\x20" + digest_of("genesis") + b"\xa7prepare\xcc\x01\x00\xc0",
    ],
)
def test_what_is_no_statement_is_malformed(chain, statement):
    # With a sound statement on either side, so that both places are read.
    sound = chain.equivocation(ACCUSED).first
    first, second = sorted((statement, sound))
    body = replace(chain.equivocation(ACCUSED), first=first, second=second)

    assert refusal(chain, body) == "malformed"


def test_a_body_with_larger_statements_is_malformed_before_it_is_read(chain):
    body = replace(chain.equivocation(ACCUSED), second=b"\xff" * (STATEMENT_SIZE_MAX + 1))

    assert refusal(chain, body) == "malformed"


def test_statements_of_another_chain_prove_nothing_here(chain):
    elsewhere = Chain(make_genesis(organisations=("globex",)))

    assert refusal(chain, elsewhere.equivocation(ACCUSED)) == "wrong_chain"


@pytest.mark.attack("B9", "E8")
def test_both_signatures_have_to_be_the_miners(chain):
    body = chain.equivocation(ACCUSED)
    forged = chain.equivocation(ACCUSED, key=key_of("miner 2"))

    for name in ("first_signature", "second_signature"):
        half = replace(body, **{name: getattr(forged, name)})
        assert refusal(chain, half) == "not_proven"
    assert refusal(chain, replace(body, miner=id_of(2))) == "not_proven"
    assert status_of(chain) == "active"


@pytest.mark.attack("B16")
def test_a_signature_under_another_tag_proves_nothing(chain):
    body = chain.equivocation(ACCUSED)
    signature = key_of(f"miner {ACCUSED}").sign(b"securenet/transaction/v1", body.first)

    assert refusal(chain, replace(body, first_signature=signature)) == "not_proven"


@pytest.mark.attack("E8")
def test_nothing_is_verified_for_what_is_refused_anyway(chain, monkeypatch):
    chain.commit(reported(chain))
    monkeypatch.setattr(evidence, "verify", None)

    assert refusal(chain, chain.equivocation(ACCUSED, round=1)) == "already_convicted"


# --- who and when ---------------------------------------------------------------------------------


def test_only_miners_of_the_height_report(chain):
    chain.decide("miner.propose", chain.addition())

    assert refusal(chain, chain.equivocation(ACCUSED), number=4) == "not_permitted"
    assert refusal(chain, chain.equivocation(ACCUSED), number=9) == "not_permitted"


def test_whoever_was_never_a_miner_is_not_found(chain):
    assert refusal(chain, chain.equivocation(9)) == "not_found"


def test_a_height_that_has_not_begun_is_too_early(chain):
    height = chain.tip.next_height

    assert refusal(chain, chain.equivocation(ACCUSED, height=height + 1)) == "too_early"
    chain.commit(reported(chain, height=height))


def test_evidence_is_taken_for_a_window_of_heights(chain, monkeypatch):
    monkeypatch.setattr(evidence, "EVIDENCE_WINDOW", 3)
    while chain.tip.next_height < 6:
        chain.commit()

    assert refusal(chain, chain.equivocation(ACCUSED, height=2)) == "too_late"
    chain.commit(reported(chain, height=3))


# --- once -----------------------------------------------------------------------------------------


@pytest.mark.attack("D7")
def test_a_second_report_is_refused_whoever_sends_it_and_whatever_it_is_about(chain):
    first = reported(chain, 0)

    assert chain.rejection(reported(chain, 1), first).code == "already_convicted"
    chain.commit(first)
    assert chain.rejection(reported(chain, 1, round=1)).code == "already_convicted"
    assert chain.rejection(reported(chain, 1, height=1, type="commit")).code == "already_convicted"


def test_a_restored_miner_is_pardoned_for_what_it_signed_until_then(chain):
    crime = chain.equivocation(ACCUSED)
    chain.commit(chain.by_miner(0, "evidence", crime))
    chain.commit()
    restore(chain)
    restored = chain.tip.header.height

    assert status_of(chain) == "active"
    assert chain.state.get(EVIDENCE_TABLE, id_of(ACCUSED)).pardoned_height == restored
    assert refusal(chain, crime) == "pardoned"
    assert refusal(chain, chain.equivocation(ACCUSED, height=restored)) == "pardoned"
    assert refusal(chain, chain.equivocation(ACCUSED, height=restored - 1)) == "pardoned"


def test_a_restored_miner_that_lies_again_is_demoted_again(chain):
    chain.commit(reported(chain))
    restore(chain)

    chain.commit(reported(chain, 2, type="commit"))

    assert status_of(chain) == "demoted"
    record = chain.state.get(EVIDENCE_TABLE, id_of(ACCUSED))
    assert (record.type, record.height, record.pardoned_height) == ("commit", 3, None)


# --- so that the chain can go on ------------------------------------------------------------------


@pytest.mark.parametrize(("miners", "demotable"), [(1, 0), (2, 0), (3, 1), (4, 1), (6, 2), (7, 2)])
def test_a_quorum_always_stays_active_so_that_votes_can_restore(miners, demotable):
    chain = Chain(make_genesis(miners=miners))
    for accused in range(demotable):
        chain.commit(reported(chain, miners - 1, accused=accused))

    assert refusal(chain, chain.equivocation(demotable), number=miners - 1) == "limit_reached"
    if demotable:
        voters = range(demotable, demotable + chain.miners.quorum)
        restore(chain, 0, tuple(voters))
        assert status_of(chain, 0) == "active"


# --- removed miners -------------------------------------------------------------------------------


def test_a_replaced_key_still_convicts_the_miner_that_was_removed_with_it(chain):
    crime = chain.equivocation(ACCUSED)
    chain.decide("miner.propose", MinerPropose(change=RemoveMiner(miner=id_of(ACCUSED))))
    chain.commit()
    chain.commit()

    execution = chain.commit(chain.by_miner(0, "evidence", crime))

    assert execution.receipts[0].events == ()
    assert status_of(chain) == "removed"
    assert chain.state.get(EVIDENCE_TABLE, id_of(ACCUSED)).height == crime_height(crime)
    assert refusal(chain, crime) == "already_convicted"


def test_whoever_is_added_again_is_pardoned_by_that_vote(chain):
    crime = chain.equivocation(ACCUSED)
    chain.decide("miner.propose", MinerPropose(change=RemoveMiner(miner=id_of(ACCUSED))))
    chain.commit(chain.by_miner(0, "evidence", crime))
    chain.commit()
    chain.decide("miner.propose", chain.addition(ACCUSED), voters=(0, 1))
    added = chain.tip.header.height

    assert status_of(chain) == "active"
    assert chain.state.get(EVIDENCE_TABLE, id_of(ACCUSED)).pardoned_height == added
    assert refusal(chain, crime) == "pardoned"


def crime_height(crime):
    return evidence.read_head(crime.first).height
