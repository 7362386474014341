"""Stand-in signatures hold what real ones hold, for the span of a world and no longer."""

import pytest

from chain import crypto
from chain.crypto import SEED_SIZE, Algorithm, check_public_key, signing_key, verify
from chain.types import Signature
from tests.simulation.stand_in import StandIns

ALGORITHMS: tuple[Algorithm, ...] = ("ed25519", "p256")
SEED = bytes(range(SEED_SIZE))
TAG = b"test/v1"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_stand_in_verifies_for_its_key_tag_and_message_alone(algorithm: Algorithm):
    stand_ins = StandIns()
    key = stand_ins.signing_key(algorithm, SEED)
    other = stand_ins.signing_key(algorithm, SEED[::-1])
    signature = key.sign(TAG, b"message")

    with stand_ins.verifying():
        assert verify(key.public, TAG, b"message", signature)
        assert not verify(key.public, TAG, b"another", signature)
        assert not verify(key.public, b"other/v1", b"message", signature)
        assert not verify(other.public, TAG, b"message", signature)
        assert not verify(key.public, TAG, b"message", Signature(bytes(64)))
        assert not verify(key.public, TAG, b"message", Signature(signature[:63]))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_stand_in_has_the_public_key_of_a_real_one(algorithm: Algorithm):
    key = StandIns().signing_key(algorithm, SEED)

    assert key.public == signing_key(algorithm, SEED).public == check_public_key(key.public)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_real_keys_verify_beside_stand_ins(algorithm: Algorithm):
    real = signing_key(algorithm, SEED)

    with StandIns().verifying():
        assert verify(real.public, TAG, b"message", real.sign(TAG, b"message"))
        assert not verify(real.public, TAG, b"another", real.sign(TAG, b"message"))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nothing_of_a_world_verifies_outside_it(algorithm: Algorithm):
    stand_ins = StandIns()
    key = stand_ins.signing_key(algorithm, SEED)
    ends = crypto._verify_ed25519, crypto._verify_p256

    with pytest.raises(RuntimeError, match="the end of a world"), stand_ins.verifying():
        raise RuntimeError("the end of a world")

    assert (crypto._verify_ed25519, crypto._verify_p256) == ends
    assert not verify(key.public, TAG, b"message", key.sign(TAG, b"message"))
