"""chain.certificate: a quorum of votes, and every way to fake one."""

from dataclasses import replace

import pytest

from chain.certificate import (
    CERTIFICATE,
    CERTIFICATE_SIZE_MAX,
    SignedVote,
    VoteCertificate,
    VoteType,
    decode_certificate,
)
from chain.errors import DecodeError, InvalidCertificate
from chain.miners import MINERS_MAX
from chain.types import Digest, Height, Round, Signature
from tests.builders import Chain, digest_of, make_certificate, make_genesis, make_miner_set


@pytest.fixture(scope="module")
def chain():
    return Chain(make_genesis(miners=7))


def certificate(chain, **fields):
    return make_certificate(chain.tip.header, chain.miners, chain.keys, **fields)


def verify(chain, certificate, *, type=VoteType.COMMIT, genesis_hash=None, miners=None):
    certificate.verify(
        type=type,
        genesis_hash=chain.genesis.hash if genesis_hash is None else genesis_hash,
        miners=chain.miners if miners is None else miners,
    )


@pytest.mark.parametrize("signers", [range(5), range(2, 7), range(7), (0, 2, 3, 5, 6)])
def test_any_quorum_proves_the_block(chain, signers):
    verify(chain, certificate(chain, signers=signers))


@pytest.mark.parametrize(
    "signers",
    [
        range(4),
        (),
        (0, 0, 1, 2, 3),
        (0, 1, 2, 3, 3),
        (4, 3, 2, 1, 0),
        (0, 1, 2, 4, 3),
    ],
)
def test_fewer_equal_or_disordered_signers_do_not(chain, signers):
    with pytest.raises(InvalidCertificate):
        verify(chain, certificate(chain, signers=signers))


@pytest.mark.attack("D5")
@pytest.mark.parametrize("index", [-1, 7, 99, 2**31])
def test_an_index_outside_the_set_is_refused(chain, index):
    # ASA-2024-011: an index out of range crashed the verifier.
    good = certificate(chain)
    vote = replace(good.votes[-1], index=index)
    votes = (vote, *good.votes[1:]) if index < 0 else (*good.votes[:-1], vote)

    with pytest.raises(InvalidCertificate):
        verify(chain, replace(good, votes=votes))


@pytest.mark.attack("D4")
def test_more_votes_than_miners_are_refused(chain):
    # ASA-2025-003: a bitmap that did not fit the set.
    good = certificate(chain, signers=range(7))

    with pytest.raises(InvalidCertificate):
        verify(chain, replace(good, votes=(*good.votes, good.votes[-1])))


@pytest.mark.attack("C1")
@pytest.mark.parametrize(
    "fields",
    [
        {"height": Height(1)},
        {"round": Round(1)},
        {"digest": Digest(bytes(32))},
        {"digest": Digest(b"")},
    ],
)
def test_every_field_is_signed(chain, fields):
    with pytest.raises(InvalidCertificate):
        verify(chain, replace(certificate(chain), **fields))


@pytest.mark.attack("B16")
def test_votes_are_of_one_type_and_chain(chain):
    # The same key signs PREPARE and COMMIT, on every chain it serves.
    with pytest.raises(InvalidCertificate):
        verify(chain, certificate(chain), type=VoteType.PREPARE)
    with pytest.raises(InvalidCertificate):
        verify(chain, certificate(chain, type=VoteType.PREPARE))
    with pytest.raises(InvalidCertificate):
        verify(chain, certificate(chain), genesis_hash=digest_of("another chain"))


@pytest.mark.attack("C1")
def test_a_signature_counts_for_its_own_index_alone(chain):
    # CSA-2026-001: signatures were looked up by index, times by address.
    votes = certificate(chain).votes
    swapped = (
        SignedVote(index=0, signature=votes[1].signature),
        SignedVote(index=1, signature=votes[0].signature),
        *votes[2:],
    )

    with pytest.raises(InvalidCertificate):
        verify(chain, replace(certificate(chain), votes=swapped))


def test_a_certificate_is_of_one_set(chain):
    with pytest.raises(InvalidCertificate):
        verify(chain, certificate(chain), miners=make_miner_set(8))


def test_the_largest_certificate_fits_its_bound():
    votes = tuple(
        SignedVote(index=index, signature=Signature(bytes(64))) for index in range(MINERS_MAX)
    )
    largest = VoteCertificate(
        height=Height(2**48), round=Round(2**32 - 1), digest=Digest(bytes(32)), votes=votes
    )
    data = CERTIFICATE.encode(largest)

    assert len(data) <= CERTIFICATE_SIZE_MAX
    assert decode_certificate(data) == largest


@pytest.mark.parametrize("data", [b"", b"\x90", b"\xdd\xff\xff\xff\xff", b"\x00" * 9_000])
def test_other_bytes_are_refused(data):
    with pytest.raises(DecodeError):
        decode_certificate(data)
