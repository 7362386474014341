"""Evidence: whatever is sent as one, nobody is convicted who did not sign both statements."""

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chain import codec
from chain.certificate import STATEMENT_TYPES, VOTE_TAG
from chain.errors import Rejection
from chain.kinds import KINDS
from chain.kinds.evidence import STATEMENT_SIZE_MAX
from chain.records.miners import EVIDENCE_TABLE, MINER_TABLE
from chain.transactions import sign_transaction
from tests.builders import Chain, digest_of, key_of
from tests.strategies import from_schema, items, mutated

KIND = KINDS["evidence"]
ACCUSED = 3
HEIGHT = 5

CHAIN = Chain()
while CHAIN.tip.next_height < HEIGHT:
    CHAIN.commit()
PROOF = CHAIN.equivocation(ACCUSED)
"""All are tried on one chain, which none of them changes."""


def outcome(body):
    """Return how a body is refused, or None; anything but a `Rejection` fails the test."""
    transaction = CHAIN.by_miner(0, "evidence", PROOF)
    payload = replace(transaction.payload, body=body)
    execution = CHAIN.execution()
    try:
        execution.apply(sign_transaction(payload, key_of("miner 0")))
    except Rejection as error:
        return error.code
    assert execution.finish().delta[EVIDENCE_TABLE.key(PROOF.miner)] is not None
    return None


def test_the_proof_itself_convicts():
    assert outcome(KIND.body.encode(PROOF)) is None


@pytest.mark.attack("E8")
@settings(max_examples=400)
@given(mutated(KIND.body.encode(PROOF)))
def test_a_mutated_proof_never_convicts_and_never_raises(data):
    if data and data != KIND.body.encode(PROOF):
        assert outcome(data) in {"malformed", "wrong_chain", "not_found", "not_proven"}


@pytest.mark.attack("E8")
@settings(max_examples=400)
@given(st.data())
def test_mutated_statements_with_mutated_signatures_never_convict(data):
    name = data.draw(st.sampled_from(["first", "second", "first_signature", "second_signature"]))
    changed = data.draw(mutated(getattr(PROOF, name)))
    if changed != getattr(PROOF, name) and len(changed) in range(1, STATEMENT_SIZE_MAX + 1):
        body = replace(PROOF, **{name: changed})
        assert outcome(KIND.body.encode(body)) in {"malformed", "wrong_chain", "not_proven"}


@pytest.mark.attack("E8")
@settings(max_examples=300)
@given(from_schema(KIND.body), st.binary(max_size=160))
def test_bodies_out_of_the_blue_are_refused_and_never_raise(body, noise):
    assert outcome(KIND.body.encode(body)) is not None
    if noise:
        assert outcome(noise) == "malformed"


@settings(max_examples=300)
@given(items(), items())
@example([CHAIN.genesis.hash, "prepare", HEIGHT, 0], [CHAIN.genesis.hash, "prepare", HEIGHT, 0])
@example([CHAIN.genesis.hash, ["prepare"], HEIGHT, 0, 1], [CHAIN.genesis.hash, [], HEIGHT, 0, 2])
def test_what_the_accused_really_signed_is_refused_unless_it_is_a_contradiction(one, other):
    key = key_of(f"miner {ACCUSED}")
    first, second = sorted(codec.encode(value) for value in (one, other))
    if max(len(first), len(second)) > STATEMENT_SIZE_MAX:
        return
    body = replace(
        PROOF,
        first=first,
        first_signature=key.sign(VOTE_TAG, first),
        second=second,
        second_signature=key.sign(VOTE_TAG, second),
    )

    assert outcome(KIND.body.encode(body)) == "malformed"


places = st.tuples(
    st.sampled_from(STATEMENT_TYPES), st.integers(1, 8), st.integers(0, 3), st.sampled_from("ab")
)


@pytest.mark.attack("B9", "E8")
@settings(max_examples=300)
@given(one=places, other=places)
def test_two_signed_statements_convict_exactly_if_they_differ_about_one_thing(one, other):
    key = key_of(f"miner {ACCUSED}")
    first, second = sorted(
        codec.encode((CHAIN.genesis.hash, *place[:3], digest_of(place[3])))
        for place in (one, other)
    )
    body = replace(
        PROOF,
        first=first,
        first_signature=key.sign(VOTE_TAG, first),
        second=second,
        second_signature=key.sign(VOTE_TAG, second),
    )

    code = outcome(KIND.body.encode(body))

    if one[:3] != other[:3] or one == other:
        assert code == "malformed"
    else:
        assert code == (None if one[1] <= HEIGHT else "too_early")


def test_the_chain_that_all_were_tried_on_is_as_it_was():
    record = CHAIN.state.get(MINER_TABLE, PROOF.miner)
    assert record is not None
    assert record.status == "active"
    assert CHAIN.tip.next_height == HEIGHT
