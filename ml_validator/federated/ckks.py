"""Updates under homomorphic encryption: anybody adds them up, **one key holder can open each**.

An optional mode, for federations that have somebody whom all trust with every single update, and do
not want the miners or the coordinator to see them. The masks of `masking` need no such person; take
them where you can. What is encrypted can be added and nothing else; rules that compare updates, and
the bound on norms, see nothing of it. Needs TenSEAL: ``pip install '.[ckks]'``.

Adding is exact and its result the same bytes whatever the order, so that those who add can compare
digests. A ciphertext proves nothing of who made it, and a bit that is changed in it makes noise of
the sum: that the bytes are those of a participant is for the digest that it has committed.

References
----------
J. H. Cheon, A. Kim, M. Kim, Y. Song, "Homomorphic Encryption for Arithmetic of Approximate
Numbers", ASIACRYPT 2017. B. Li, D. Micciancio, "On the Security of Homomorphic Encryption on
Approximate Numbers", EUROCRYPT 2021: who sees the error of an opened sum learns the key, so what is
opened is rounded until the error is gone from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import tenseal

from chain import codec
from chain.errors import DecodeError
from chain.federated.records import PARAMETERS_MAX
from ml_validator.errors import InvalidUpdate
from ml_validator.federated.fixed_point import Floats

VALUE_MAX: Final = 2.0**18
"""No sum has a larger value; above 2^19 it would come out as another number."""
ROUNDED_BITS: Final = 16
"""A sum is opened to so many bits behind the point."""
ERROR_MAX: Final = 2.0**-24
"""Of an encrypted value: twenty times the standard deviation that was measured, and more."""
UPDATES_MAX: Final = 256

_DEGREE: Final = 8_192
_SLOTS: Final = _DEGREE // 2
_MODULUS_BITS: Final = (60, 60)
"""120 of the 218 bits with which this degree has 128 bits of security (homomorphic encryption
standard, 2018); adding needs one prime, and the library another."""
_SCALE: Final = 2.0**40
_PART_SIZE_MAX: Final = 160_000
"""Bytes of one ciphertext of `_SLOTS` values; about 131,000 is usual."""
_KEY_SIZE_MAX: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """The keys of a round; who has the private one can open every update of it."""

    public: bytes
    private: bytes = field(repr=False)


def make_keys() -> KeyPair:
    """Return fresh keys, for one round."""
    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS, _DEGREE, coeff_mod_bit_sizes=list(_MODULUS_BITS)
    )
    context.global_scale = _SCALE
    kept: dict[str, bool] = {"save_galois_keys": False, "save_relin_keys": False}
    return KeyPair(
        public=context.serialize(save_public_key=True, save_secret_key=False, **kept),
        private=context.serialize(save_public_key=True, save_secret_key=True, **kept),
    )


def error_bound(updates: int) -> float:
    """Return by how much a parameter of an opened sum of so many updates may be off."""
    return updates * ERROR_MAX + 2.0 ** -(ROUNDED_BITS + 1)


def encrypt(values: Floats, *, public: bytes, updates: int) -> bytes:
    """Return an update as a blob that only the key holder can open.

    Parameters
    ----------
    values : ndarray of shape (n_parameters,), float64
    updates : int
        How many may be added, 1 to `UPDATES_MAX`.

    Raises
    ------
    InvalidUpdate
        A value is no number, or so large that sums could be wrong; it is no public key.
    """
    _check_count(updates)
    _check_size(len(values))
    if not (np.abs(values) <= VALUE_MAX / updates).all():
        raise InvalidUpdate("value", f"not a number up to {VALUE_MAX / updates:g}")
    context = _context(public)
    parts = [
        tenseal.ckks_vector(context, values[start : start + _SLOTS].tolist()).serialize()
        for start in range(0, len(values), _SLOTS)
    ]
    return codec.encode(parts)


def add(blobs: Sequence[bytes], *, public: bytes, parameters: int) -> bytes:
    """Return the encrypted sum of encrypted updates: the same bytes in whatever order they come.

    Raises
    ------
    InvalidUpdate
        There are none or too many; one is no update of so many parameters; it is no public key.
    """
    _check_count(len(blobs))
    context = _context(public)
    total = _read(blobs[0], context, parameters)
    for blob in blobs[1:]:
        for sum_, part in zip(total, _read(blob, context, parameters), strict=True):
            try:
                sum_.add_(part)
            except (RuntimeError, ValueError) as error:
                raise InvalidUpdate("ciphertext", str(error)) from error
    return codec.encode([part.serialize() for part in total])


def decrypt(blob: bytes, *, private: bytes, parameters: int) -> Floats:
    """Open a sum, rounded to `ROUNDED_BITS` bits behind the point.

    Returns
    -------
    values : ndarray of shape (n_parameters,), float64
        Each within `error_bound` of the sum of what was encrypted.

    Raises
    ------
    InvalidUpdate
        It is no sum of so many parameters under this key, or a value is above `VALUE_MAX`: then
        something else was added than updates that were made by `encrypt`.
    """
    context = _context(private)
    if not context.is_private():
        raise InvalidUpdate("key", "it opens nothing: it is the public one")
    opened = [part.decrypt() for part in _read(blob, context, parameters)]
    values = np.concatenate([np.array(part, np.float64) for part in opened])
    rounded: Floats = np.ldexp(np.rint(np.ldexp(values, ROUNDED_BITS)), -ROUNDED_BITS)
    # A ciphertext of another key opens to noise that is spread over all that the modulus holds.
    if not (np.abs(rounded) <= VALUE_MAX).all():
        raise InvalidUpdate("value", f"a sum above {VALUE_MAX:g}: another key, or no update")
    return rounded


def _context(key: bytes) -> Any:
    if not 1 <= len(key) <= _KEY_SIZE_MAX:
        raise InvalidUpdate("key", f"{len(key)} bytes")
    try:
        return tenseal.context_from(key)
    except (RuntimeError, ValueError) as error:
        raise InvalidUpdate("key", f"it cannot be read ({error})") from error


def _read(blob: bytes, context: Any, parameters: int) -> list[Any]:
    _check_size(parameters)
    sizes = [min(_SLOTS, parameters - start) for start in range(0, parameters, _SLOTS)]
    try:
        parts = codec.decode(
            blob, what="encrypted update", size_max=(_PART_SIZE_MAX + 8) * len(sizes) + 8
        )
    except DecodeError as error:
        raise InvalidUpdate("ciphertext", str(error)) from error
    if len(parts) != len(sizes):
        raise InvalidUpdate("size", f"{len(parts)} ciphertexts, not {len(sizes)}")
    return [_read_part(part, context, size) for part, size in zip(parts, sizes, strict=True)]


def _read_part(part: object, context: Any, size: int) -> Any:
    if not isinstance(part, bytes) or not 1 <= len(part) <= _PART_SIZE_MAX:
        raise InvalidUpdate("ciphertext", "it is none")
    try:
        vector = tenseal.ckks_vector_from(context, part)
    except (RuntimeError, ValueError) as error:
        raise InvalidUpdate("ciphertext", f"it cannot be read ({error})") from error
    if vector.size() != size:
        raise InvalidUpdate("size", f"a ciphertext of {vector.size()} values, not {size}")
    if [(inner.scale, inner.size()) for inner in vector.ciphertext()] != [(_SCALE, 2)]:
        raise InvalidUpdate("ciphertext", "made in another way")
    return vector


def _check_count(updates: int) -> None:
    if not 1 <= updates <= UPDATES_MAX:
        raise InvalidUpdate("count", f"{updates} updates, not 1 to {UPDATES_MAX}")


def _check_size(parameters: int) -> None:
    if not 1 <= parameters <= PARAMETERS_MAX:
        raise InvalidUpdate("size", f"{parameters} parameters, not 1 to {PARAMETERS_MAX}")
