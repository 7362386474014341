"""Signatures that cost next to nothing, for worlds whose subject is not cryptography.

A stand-in key has the public key of a real one, so that ids, registries and the checks of new keys
see nothing unusual. What it signs is a hash keyed with its secret, and whoever verifies looks the
secret up: as hard to forge for everybody inside the world, who knows none. Keys that are no
stand-ins verify as ever.

Nothing in the project knows of this: while a world runs, the two functions in which
`chain.crypto.verify` ends are replaced from here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from unittest.mock import patch

from chain import crypto
from chain.crypto import Algorithm, SigningKey, domain, signing_key
from chain.types import SIGNATURE_SIZE, PublicKey, Signature

Verify = Callable[[bytes, bytes, bytes], bool]


class StandInKey:
    """A :class:`chain.crypto.SigningKey`; made by `StandIns`."""

    def __init__(self, algorithm: Algorithm, seed: bytes) -> None:
        self.algorithm = algorithm
        self.public: PublicKey = signing_key(algorithm, seed).public
        self._seed = seed

    def sign(self, tag: bytes, message: bytes) -> Signature:
        """Sign `message` under `tag`."""
        return Signature(_keyed_hash(self._seed, domain(tag) + message))


class StandIns:
    """The keys of one world, and the verifier that knows their secrets."""

    def __init__(self) -> None:
        self._seeds: dict[bytes, bytes] = {}

    def signing_key(self, algorithm: Algorithm, seed: bytes) -> SigningKey:
        """Return a key made from a seed, as `chain.crypto.signing_key` does."""
        key = StandInKey(algorithm, seed)
        self._seeds[key.public] = seed
        return key

    @contextmanager
    def verifying(self) -> Iterator[None]:
        """Let `chain.crypto.verify` know these keys, inside the block."""
        with patch.multiple(
            crypto,
            _verify_ed25519=self._instead_of(crypto._verify_ed25519),
            _verify_p256=self._instead_of(crypto._verify_p256),
        ):
            yield

    def _instead_of(self, real: Verify) -> Verify:
        seeds = self._seeds

        def verify(public_key: bytes, data: bytes, signature: bytes) -> bool:
            seed = seeds.get(public_key)
            if seed is None:
                return real(public_key, data, signature)
            return _keyed_hash(seed, data) == signature

        return verify


def _keyed_hash(seed: bytes, data: bytes) -> bytes:
    return blake2b(data, key=seed, digest_size=SIGNATURE_SIZE).digest()
