"""A light client believes no changed header, certificate or proof."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.blocks import HEADER, Header
from chain.certificate import CERTIFICATE, SignedVote, decode_certificate
from chain.errors import DecodeError, InvalidCertificate, UntrustedHeader
from chain.light_client import LightClient
from chain.miners import MinerSet
from tests.builders import Chain, make_miner_set
from tests.strategies import from_schema, mutated


class Scene:
    """A trusted header, and the next block with its certificate and miners."""

    def __init__(self):
        chain = Chain()
        self.trusted = chain.tip.header
        self.miners = chain.miners
        chain.register()
        self.header = chain.tip.header
        self.certificate = chain.certificate(self.header, self.miners)

    def believes(self, header, certificate, miners):
        light = LightClient(self.trusted)
        try:
            light.advance(header, certificate, miners, now_ms=self.header.time_ms)
        except (UntrustedHeader, InvalidCertificate):
            assert light.trusted == self.trusted
            return False
        return True


@pytest.fixture(scope="module")
def scene():
    return Scene()


def test_the_scene_itself_is_believed(scene):
    assert scene.believes(scene.header, scene.certificate, scene.miners)


@pytest.mark.attack("B14")
@settings(max_examples=150)
@given(data=st.data())
def test_no_changed_header_is_believed(data, scene):
    name = data.draw(st.sampled_from([name for name in HEADER.fields if name != "version"]))
    header: Header = replace(scene.header, **{name: data.draw(from_schema(HEADER.fields[name]))})

    believed = scene.believes(header, scene.certificate, scene.miners)
    assert believed == (header == scene.header)


@pytest.mark.attack("C1")
@settings(max_examples=150)
@given(data=st.data())
def test_no_changed_certificate_is_believed(data, scene):
    encoded = data.draw(mutated(CERTIFICATE.encode(scene.certificate)))
    try:
        certificate = decode_certificate(encoded)
    except DecodeError:
        return

    believed = scene.believes(scene.header, certificate, scene.miners)
    assert believed == (certificate == scene.certificate)


@pytest.mark.attack("C1")
@settings(max_examples=60)
@given(data=st.data())
def test_no_rearranged_votes_are_believed_unless_they_are_a_quorum(data, scene):
    votes = scene.certificate.votes
    drawn = data.draw(
        st.lists(
            st.builds(
                SignedVote,
                index=st.integers(-1, 5),
                signature=st.sampled_from([vote.signature for vote in votes]),
            ),
            max_size=6,
        )
    )
    certificate = replace(scene.certificate, votes=tuple(drawn))

    believed = scene.believes(scene.header, certificate, scene.miners)
    assert believed == (certificate == scene.certificate)


@pytest.mark.attack("E3")
@settings(max_examples=60)
@given(members=st.lists(st.sampled_from(make_miner_set(6).members), max_size=6))
def test_no_other_set_is_believed(members, scene):
    try:
        miners = MinerSet(tuple(members))
    except DecodeError:
        return

    believed = scene.believes(scene.header, scene.certificate, miners)
    assert believed == (miners == scene.miners)
