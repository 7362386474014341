"""consensus.signer: a miner whose key is replaced signs with the one of the height, never twice."""

from typing import Any

import pytest

from chain.crypto import signing_key
from chain.miners import Miner, MinerSet
from chain.types import Height, Round
from consensus.draft import Draft
from consensus.durable import recover
from consensus.messages import Phase, Position, is_signed_by
from consensus.signer import Signer
from consensus.verifier import Verifier
from tests.interaction.cluster import GENESIS, make_config, miner_keys, miner_set
from tests.unit.consensus.plain import Floor, Prepare

FRESH_LOG = (Floor(height=0),)
KEYS = miner_keys(4)
OLD, NEW = KEYS[0], signing_key("ed25519", b"n" * 32)
BEFORE = miner_set(KEYS)
ME = BEFORE.members[0].id
AFTER = MinerSet((Miner(id=ME, key=NEW.public), *BEFORE.members[1:]))
PREPARE = Position(Height(1), Round(0), Phase.PREPARE)
COMMIT = Position(Height(1), Round(0), Phase.COMMIT)

pytestmark = pytest.mark.attack("E1")


def signer(key=OLD, next_key=None, records=FRESH_LOG) -> Any:
    made = Signer(key=key, next_key=next_key, miner_id=ME, durable=recover(records))
    made.is_latest = True
    return made


def prepare(name: bytes = b"a"):
    return Prepare(sender=ME, height=1, round=0, digest=name * 32)


@pytest.mark.parametrize(("miners", "key"), [(BEFORE, OLD), (AFTER, NEW)])
def test_the_key_that_the_set_has_signs(miners, key):
    signed = signer(next_key=NEW).sign(prepare(), make_config(miners), Draft(now=0))

    assert is_signed_by(signed, key.public, GENESIS, Verifier())


def test_a_miner_without_the_key_that_the_set_has_signs_nothing_and_says_why():
    assert signer().silence(make_config(BEFORE)) is None
    assert signer().silence(make_config(AFTER)) == "key-replaced"
    assert signer(key=NEW).silence(make_config(BEFORE)) == "key-replaced"
    assert not signer().may_sign(PREPARE, make_config(AFTER))


def test_two_keys_sign_no_more_than_one_also_over_a_restart():
    draft = Draft(now=0)
    signer(next_key=NEW).sign(prepare(), make_config(BEFORE), draft)
    again = signer(key=NEW, next_key=OLD, records=(*FRESH_LOG, *draft.writes))

    for miners in (BEFORE, AFTER):
        assert not again.may_sign(PREPARE, make_config(miners))
    assert again.may_sign(COMMIT, make_config(AFTER))
