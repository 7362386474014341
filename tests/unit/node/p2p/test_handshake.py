"""The hello: one exact message makes a session, everything else is refused by name."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.types import Digest
from node.p2p.errors import (
    GOODBYE_CODES,
    HandshakeError,
    MalformedHello,
    Reason,
    RefusedByPeer,
    WrongGenesis,
    WrongPeer,
    WrongVersion,
)
from node.p2p.handshake import (
    GOODBYE,
    HANDSHAKE_LIMITS,
    HELLO,
    HELLO_SIZE,
    HELLO_TAG,
    OWN_KINDS_END,
    Handshake,
    Role,
    goodbye,
)
from tests.p2p import GENESIS, node_keys

ALICE, BOB, MALLORY = (key.node_id for key in node_keys(3))
VERSION_AT = len(HELLO_TAG)


def alice(**changes: Any) -> Handshake:
    arguments: dict[str, Any] = {
        "role": Role.DIALLER,
        "genesis_hash": GENESIS,
        "local": ALICE,
        "peer": BOB,
    }
    return Handshake(**(arguments | changes))


def bob(**changes: Any) -> Handshake:
    arguments: dict[str, Any] = {
        "role": Role.LISTENER,
        "genesis_hash": GENESIS,
        "local": BOB,
        "peer": ALICE,
    }
    return Handshake(**(arguments | changes))


def test_both_ends_are_done_after_one_hello_each():
    dialler, listener = alice(), bob()

    listener.receive(HELLO, dialler.hello())
    dialler.receive(HELLO, listener.hello())

    assert dialler.done
    assert listener.done


def test_a_hello_has_the_size_that_is_allowed_before_a_session():
    assert len(alice().hello()) == HELLO_SIZE == HANDSHAKE_LIMITS[HELLO]
    assert all(kind < OWN_KINDS_END for kind in HANDSHAKE_LIMITS)


@given(st.integers(0, HELLO_SIZE * 8 - 1))
def test_every_hello_with_one_bit_changed_is_refused(bit):
    listener = bob()
    hello = bytearray(alice().hello())
    hello[bit // 8] ^= 1 << bit % 8

    with pytest.raises(HandshakeError):
        listener.receive(HELLO, bytes(hello))
    assert not listener.done


@given(st.binary(max_size=2 * HELLO_SIZE), st.integers(0, 255))
def test_every_other_message_is_refused(payload, kind):
    listener = bob()

    with pytest.raises(HandshakeError):
        listener.receive(kind, payload)
    assert not listener.done


@given(st.integers(0, HELLO_SIZE), st.binary(max_size=8), st.integers(0, 8))
def test_every_hello_with_a_part_replaced_is_refused_unless_it_is_the_same(at, piece, dropped):
    genuine = alice().hello()
    mutated = genuine[:at] + piece + genuine[at + dropped :]
    listener = bob()

    if mutated == genuine:
        listener.receive(HELLO, mutated)
    else:
        with pytest.raises(HandshakeError):
            listener.receive(HELLO, mutated)
    assert listener.done == (mutated == genuine)


@pytest.mark.parametrize(
    ("sender", "error"),
    [
        (alice(genesis_hash=Digest(bytes(32))), WrongGenesis),
        (alice(local=MALLORY), WrongPeer),
        (alice(peer=MALLORY), WrongPeer),
        (alice(role=Role.LISTENER), WrongPeer),
    ],
)
def test_a_hello_of_another_session_is_refused_by_name(sender, error):
    with pytest.raises(error):
        bob().receive(HELLO, sender.hello())


def test_an_own_hello_sent_back_is_refused():
    dialler = alice()

    with pytest.raises(WrongPeer):
        dialler.receive(HELLO, dialler.hello())


def test_another_version_is_refused_by_name():
    hello = bytearray(alice().hello())
    hello[VERSION_AT + 1] += 1

    with pytest.raises(WrongVersion):
        bob().receive(HELLO, bytes(hello))


def test_a_hello_comes_once():
    listener = bob()
    hello = alice().hello()
    listener.receive(HELLO, hello)

    with pytest.raises(MalformedHello):
        listener.receive(HELLO, hello)


@pytest.mark.parametrize("reason", GOODBYE_CODES)
def test_a_goodbye_tells_the_reason(reason):
    with pytest.raises(RefusedByPeer) as caught:
        alice().receive(GOODBYE, goodbye(reason))

    assert caught.value.told is reason


def test_a_goodbye_of_a_later_version_is_understood_as_closed():
    with pytest.raises(RefusedByPeer) as caught:
        alice().receive(GOODBYE, b"\xff")

    assert caught.value.told is Reason.CLOSED


def test_a_peer_is_not_told_what_is_none_of_its_business():
    assert goodbye(Reason.STALLED) == goodbye(Reason.CLOSED)
