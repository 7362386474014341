"""Mutual TLS 1.3 between keys of a directory, without any certificate authority.

A node's certificate carries its node key and is issued under an authority name derived from that
key, signed by the same key. To trust a key of the directory, a node issues a certificate of its own
for that authority name and key, and gives it to OpenSSL as a trust anchor. So the standard library
demands and verifies certificates on both ends, and an unknown key already fails in TLS, on either
end. What decides in the end is simpler: the key in the peer's certificate, whose possession TLS has
proven, has to be one that the directory holds at that moment. docs/spec/p2p.md, "Channel".
"""

import ssl
import tempfile
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from chain.types import PublicKey
from node.p2p.errors import Reason, UnknownKey
from node.ports import Random

# The directory says how long a key is good; a certificate that expired, or was not yet valid on a
# machine with a wrong clock, would only be one more way to lose a session.
_NOT_BEFORE: Final = datetime(1970, 1, 1)
_NOT_AFTER: Final = datetime(9999, 12, 31, 23, 59, 59)

_PASSPHRASE_SIZE: Final = 32
_SERIAL_SIZE: Final = 16


class ChannelContexts:
    """The two TLS contexts of one node, for dialling and for listening.

    Parameters
    ----------
    seed : bytes of length 32
        The private node key (Ed25519).
    random : Random
        Serial numbers, and the passphrase that protects the key on its way into OpenSSL.

    Notes
    -----
    Anchors are only added, for OpenSSL cannot forget one. That admits nobody: a connection whose
    key has left the directory is closed by `peer_key`'s caller.
    """

    def __init__(self, seed: bytes, random: Random) -> None:
        self._random = random
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = PublicKey(self._key.public_key().public_bytes_raw())
        self._trusted: set[PublicKey] = set()
        self.dialling = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.listening = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # No resumption: every session proves both keys anew.
        self.listening.num_tickets = 0
        for context in (self.dialling, self.listening):
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.check_hostname = False
            context.verify_mode = ssl.CERT_REQUIRED
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        self._load_own_certificate()

    def trust(self, keys: Iterable[PublicKey]) -> None:
        """Let OpenSSL accept certificates of `keys` from now on."""
        for key in keys:
            if key not in self._trusted:
                self._trusted.add(key)
                anchor = self._issue(_authority(key), key, is_authority=True)
                for context in (self.dialling, self.listening):
                    context.load_verify_locations(cadata=anchor.public_bytes(Encoding.DER))

    def _issue(self, subject: x509.Name, key: PublicKey, *, is_authority: bool) -> x509.Certificate:
        serial = int.from_bytes(self._random.bytes(_SERIAL_SIZE), "big") | 1
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(_authority(self.public_key))
            .public_key(Ed25519PublicKey.from_public_bytes(key))
            .serial_number(serial)
            .not_valid_before(_NOT_BEFORE)
            .not_valid_after(_NOT_AFTER)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .sign(self._key, None)
        )

    def _load_own_certificate(self) -> None:
        """Give OpenSSL certificate and key.

        The standard library takes them from files only. The key is written encrypted under a
        passphrase that lives in this call, to a directory that nobody else may enter.
        """
        certificate = self._issue(_channel(self.public_key), self.public_key, is_authority=False)
        passphrase = self._random.bytes(_PASSPHRASE_SIZE).hex().encode()
        key = self._key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase)
        )
        with tempfile.TemporaryDirectory(prefix="securenet-") as directory:
            path = Path(directory, "channel.pem")
            path.write_bytes(certificate.public_bytes(Encoding.PEM) + key)
            for context in (self.dialling, self.listening):
                context.load_cert_chain(path, password=passphrase)


def tls_reason(error: ssl.SSLError) -> Reason:
    """Return why a handshake failed: for a key that the directory never held, or for anything else.

    Keys that have left the directory are found later, by whoever calls `peer_key`.
    """
    return Reason.UNKNOWN_KEY if isinstance(error, ssl.SSLCertVerificationError) else Reason.TLS


def peer_key(channel: ssl.SSLObject) -> PublicKey:
    """Return the key that the other end of a completed handshake has proven to hold.

    Raises
    ------
    UnknownKey
        It showed no certificate of an Ed25519 key.
    """
    encoded = channel.getpeercert(binary_form=True)
    if encoded is None:
        raise UnknownKey("no certificate")
    try:
        key = x509.load_der_x509_certificate(encoded).public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnknownKey("unreadable certificate") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UnknownKey("not an Ed25519 key")
    return PublicKey(key.public_bytes_raw())


def _authority(key: PublicKey) -> x509.Name:
    return _name(key, "authority")


def _channel(key: PublicKey) -> x509.Name:
    return _name(key, "channel")


def _name(key: PublicKey, unit: str) -> x509.Name:
    # The two names differ because OpenSSL trusts a self-issued certificate by its bytes alone.
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, key.hex()),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
        ]
    )
