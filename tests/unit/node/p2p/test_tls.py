"""The channel: both keys proven, unknown keys fail, in memory and without sockets."""

import ssl
import tempfile
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from chain.types import PublicKey
from node.p2p import tls
from node.p2p.errors import UnknownKey
from node.p2p.tls import ChannelContexts, peer_key
from node.random_source import SystemRandom
from tests.p2p import NodeKey, node_keys

ALICE, BOB, MALLORY = node_keys(3)


def contexts_of(key: NodeKey, *trusted: NodeKey) -> ChannelContexts:
    contexts = ChannelContexts(key.seed, SystemRandom())
    contexts.trust(peer.public_key for peer in trusted)
    return contexts


def connect(dialling: ssl.SSLContext, listening: ssl.SSLContext):
    """Shake hands in memory until both ends agree and one byte has passed each way."""
    upward, downward = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = dialling.wrap_bio(downward, upward)
    server = listening.wrap_bio(upward, downward, server_side=True)
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    client.write(b"?")
    assert server.read(1) == b"?"
    server.write(b"!")
    assert client.read(1) == b"!"
    return client, server


def with_certificate(
    trusting: ChannelContexts, certificate: x509.Certificate, private_key
) -> ssl.SSLContext:
    """Return a dialling context that shows another certificate."""
    key = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate.public_bytes(Encoding.PEM) + key)
        file.flush()
        trusting.dialling.load_cert_chain(file.name)
    return trusting.dialling


def test_both_ends_learn_the_key_that_the_other_has_proven():
    client, server = connect(contexts_of(ALICE, BOB).dialling, contexts_of(BOB, ALICE).listening)

    assert peer_key(client) == BOB.public_key
    assert peer_key(server) == ALICE.public_key


def test_the_channel_is_tls_1_3_without_resumption():
    client, _ = connect(contexts_of(ALICE, BOB).dialling, contexts_of(BOB, ALICE).listening)

    assert client.version() == "TLSv1.3"
    assert client.session is None or not client.session.has_ticket


def test_an_older_tls_is_refused():
    old = contexts_of(ALICE, BOB).dialling
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    with pytest.raises(ssl.SSLError):
        connect(old, contexts_of(BOB, ALICE).listening)


def test_a_dialler_that_the_listener_does_not_know_fails():
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        connect(contexts_of(MALLORY, BOB).dialling, contexts_of(BOB, ALICE).listening)


def test_a_listener_that_the_dialler_does_not_know_fails():
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        connect(contexts_of(ALICE, BOB).dialling, contexts_of(MALLORY, ALICE).listening)


def test_a_dialler_without_certificate_fails():
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anonymous.check_hostname = False
    anonymous.verify_mode = ssl.CERT_NONE

    with pytest.raises(ssl.SSLError):
        connect(anonymous, contexts_of(BOB, ALICE).listening)


def test_a_certificate_in_another_name_fails():
    mallory = contexts_of(MALLORY, BOB)
    claimed = ChannelContexts(MALLORY.seed, SystemRandom())
    claimed.public_key = ALICE.public_key
    forged = claimed._issue(tls._channel(ALICE.public_key), MALLORY.public_key, is_authority=False)
    private_key = Ed25519PrivateKey.from_private_bytes(MALLORY.seed)

    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        connect(with_certificate(mallory, forged, private_key), contexts_of(BOB, ALICE).listening)


def test_a_stolen_certificate_is_worth_nothing_without_its_key():
    mallory = contexts_of(MALLORY, BOB)
    alice = ChannelContexts(ALICE.seed, SystemRandom())
    stolen = alice._issue(tls._channel(ALICE.public_key), ALICE.public_key, is_authority=False)
    private_key = Ed25519PrivateKey.from_private_bytes(MALLORY.seed)

    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        with_certificate(mallory, stolen, private_key)


def test_a_node_vouching_for_another_key_is_seen_as_that_key():
    """What OpenSSL accepts beyond the directory's keys, the comparison of keys refuses."""
    delegate = Ed25519PrivateKey.generate()
    key = PublicKey(delegate.public_key().public_bytes_raw())
    alice = contexts_of(ALICE, BOB)
    vouched = alice._issue(tls._channel(key), key, is_authority=False)

    _, server = connect(
        with_certificate(alice, vouched, delegate), contexts_of(BOB, ALICE).listening
    )

    assert peer_key(server) == key != ALICE.public_key


def test_a_key_of_another_algorithm_is_no_node_key():
    private_key = generate_private_key(SECP256R1())
    alice = contexts_of(ALICE, BOB)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(tls._channel(ALICE.public_key))
        .issuer_name(tls._authority(ALICE.public_key))
        .public_key(private_key.public_key())
        .serial_number(1)
        .not_valid_before(tls._NOT_BEFORE)
        .not_valid_after(tls._NOT_AFTER)
        .sign(Ed25519PrivateKey.from_private_bytes(ALICE.seed), None)
    )
    _, server = connect(
        with_certificate(alice, certificate, private_key), contexts_of(BOB, ALICE).listening
    )

    with pytest.raises(UnknownKey):
        peer_key(server)


def test_a_key_can_be_trusted_later():
    bob = contexts_of(BOB)
    alice = contexts_of(ALICE, BOB)
    with pytest.raises(ssl.SSLError):
        connect(alice.dialling, bob.listening)

    bob.trust([ALICE.public_key])

    connect(alice.dialling, bob.listening)


def test_the_private_key_is_never_on_disk_in_the_clear_and_leaves_no_file(tmp_path, monkeypatch):
    written = []
    write_bytes = Path.write_bytes
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def spy(path, data):
        written.append(data)
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", spy)

    contexts_of(ALICE)

    assert b"BEGIN ENCRYPTED PRIVATE KEY" in written[0]
    assert list(tmp_path.iterdir()) == []
