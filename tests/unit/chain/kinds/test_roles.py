"""Whoever signs it, each kind asks for its role, and only an active one has it."""

import pytest

from chain.crypto import address_of
from chain.errors import Rejection
from chain.kinds import KINDS
from chain.kinds.base import Signer
from scripts.vectors.transactions import examples
from tests.builders import Chain, key_of

pytestmark = pytest.mark.attack("E5")


@pytest.fixture
def chain():
    return Chain()


@pytest.fixture
def senders(chain):
    """Return a sender and key of every role, and a stranger."""
    device = chain.register()
    miner, stranger = key_of("miner 0"), key_of("stranger")
    registrar = chain.by_registrar("policy.set", valid_body("policy.set")).payload.sender
    return {
        Signer.DEVICE: (device.id, device.key),
        Signer.REGISTRAR: (registrar, key_of("registrar of acme", "p256")),
        Signer.MINER: (address_of(miner.public), miner),
        None: (address_of(stranger.public), stranger),
    }


def valid_body(kind):
    for _, transaction, _ in examples(Chain()):
        if transaction.payload.kind == kind:
            return KINDS[kind].decode(transaction)
    raise AssertionError(f"there is an example of {kind}")


@pytest.mark.parametrize("name", KINDS)
def test_nobody_without_the_role_sends_a_kind(chain, senders, name):
    kind = KINDS[name]
    refusals = set()
    for role, (sender, key) in senders.items():
        if role is not kind.signer:
            transaction = chain.transaction(name, valid_body(name), key, sender)
            refusals.add(chain.rejection(transaction).code)

    assert refusals <= {"not_permitted", "unknown_device"}


@pytest.mark.parametrize("name", [n for n, kind in KINDS.items() if kind.signer is Signer.MINER])
def test_a_demoted_miner_sends_nothing(chain, name):
    miner = address_of(key_of("miner 3").public)
    chain.demote(miner)
    transaction = chain.by_miner(3, name, valid_body(name))

    with pytest.raises(Rejection, match="not_permitted"):
        chain.execution().apply(transaction)
