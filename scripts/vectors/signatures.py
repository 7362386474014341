"""Edge cases of keys and signatures, with what the project says of each.

The verdicts are stated here, by construction, and never asked of the verifier; the tests compare.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from chain.crypto import P256_ORDER, SigningKey, domain, signing_key
from tests import edwards

TAG = b"securenet/transaction/v1"
MESSAGE = b"a message"
DATA = domain(TAG) + MESSAGE
P256_PRIME = 2**256 - 2**224 + 2**192 + 2**96 - 1


def signatures() -> list[dict[str, Any]]:
    """Return signatures and whether they are valid."""
    return [*_ed25519(), *_small_order(), *_p256()]


def keys() -> list[dict[str, Any]]:
    """Return public keys and whether they may be registered."""
    return [*_ed25519_keys(), *_p256_keys()]


def _case(name: str, key: bytes, signature: bytes, valid: bool, **fields: bytes) -> dict[str, Any]:
    message = fields.get("message", MESSAGE)
    return {
        "name": name,
        "public_key": key.hex(),
        "tag": fields.get("tag", TAG).decode(),
        "message": message.hex(),
        "signature": signature.hex(),
        "valid": valid,
    }


def _seed(name: str) -> bytes:
    return sha256(name.encode()).digest()


def _ed25519() -> Iterator[dict[str, Any]]:
    seed = _seed("ed25519 edge cases")
    honest = signing_key("ed25519", seed)
    key, good = honest.public, honest.sign(TAG, MESSAGE)
    r, s = good[:32], int.from_bytes(good[32:], "little")
    yield from _common("Ed25519", honest)
    yield _case("Ed25519: S + L", key, edwards.signature(r, s + edwards.ORDER), False)
    yield _case("Ed25519: S = L", key, edwards.signature(r, edwards.ORDER), False)
    yield _case("Ed25519: S = 0", key, edwards.signature(r, 0), False)
    yield _case("Ed25519: R and S zero", key, bytes(64), False)
    yield _case("Ed25519: highest bit of S", key, edwards.signature(r, s | 1 << 255), False)

    scalar, _ = edwards.secret_of(seed)
    identity = edwards.encode(edwards.IDENTITY)
    h = edwards.challenge(identity, key, DATA)
    yield _case(
        "Ed25519: R is the identity and the equation holds",
        key,
        edwards.signature(identity, h * scalar % edwards.ORDER),
        False,
    )
    low = edwards.torsion()[1]
    yield _case(
        "Ed25519: R with a part of small order, valid only where the cofactor is multiplied out",
        key,
        _mixed_r(scalar, key, low),
        False,
    )
    point = edwards.add(edwards.multiply(scalar, edwards.BASE), low)
    for name, multiple, valid in (
        ("Ed25519: key with a part of small order, the equation holds exactly", 0, True),
        ("Ed25519: key with a part of small order, valid only with the cofactor", 1, False),
    ):
        mixed, signature = _mixed_key(scalar, point, multiple)
        yield _case(name, mixed, signature, valid)


def _mixed_r(scalar: int, key: bytes, low: edwards.Point) -> bytes:
    r = edwards.add(edwards.multiply(5, edwards.BASE), low)
    h = edwards.challenge(edwards.encode(r), key, DATA)
    return edwards.signature(edwards.encode(r), (5 + h * scalar) % edwards.ORDER)


def _mixed_key(scalar: int, point: edwards.Point, multiple: int) -> tuple[bytes, bytes]:
    """Return a key of mixed order and a signature whose h is `multiple` modulo the cofactor."""
    key = edwards.encode(point)
    nonce = 1
    while True:
        r = edwards.encode(edwards.multiply(nonce, edwards.BASE))
        h = edwards.challenge(r, key, DATA)
        if h % 8 == multiple:
            return key, edwards.signature(r, (nonce + h * scalar) % edwards.ORDER)
        nonce += 1


def _small_order() -> Iterator[dict[str, Any]]:
    """Yield the grid of all keys with all R of small order: with S = 0, others accept many."""
    encodings = edwards.small_order_encodings()
    for key in encodings:
        for r in encodings:
            name = f"Ed25519: small order, A {key[:1].hex()}…{key[-1:].hex()}"
            yield _case(f"{name}, R {r[:1].hex()}…{r[-1:].hex()}", key, r + bytes(32), False)


def _p256() -> Iterator[dict[str, Any]]:
    honest = signing_key("p256", _seed("P-256 edge cases"))
    key, good = honest.public, honest.sign(TAG, MESSAGE)
    r, s = int.from_bytes(good[:32], "big"), int.from_bytes(good[32:], "big")
    yield from _common("P-256", honest)
    for name, changed_r, changed_s in (
        ("high S, the twin of a valid one", r, P256_ORDER - s),
        ("r = 0", 0, s),
        ("s = 0", r, 0),
        ("r = s = 0", 0, 0),
        ("r = n", P256_ORDER, s),
        ("s = n", r, P256_ORDER),
        ("r = 2^256 − 1", 2**256 - 1, s),
        ("s = 2^256 − 1", r, 2**256 - 1),
        ("s = (n + 1) / 2, the lowest that is too high", r, (P256_ORDER + 1) // 2),
        ("r and s exchanged", s, r),
    ):
        signature = changed_r.to_bytes(32, "big") + changed_s.to_bytes(32, "big")
        yield _case(f"P-256: {name}", key, signature, False)
    other_half = bytes((key[0] ^ 1,)) + key[1:]
    yield _case("P-256: the key's negative point", other_half, good, False)
    for name, changed in _bad_p256_keys(key):
        yield _case(f"P-256: {name}", changed, good, False)


def _common(algorithm: str, honest: SigningKey) -> Iterator[dict[str, Any]]:
    key, good = honest.public, honest.sign(TAG, MESSAGE)
    other = b"securenet/vote/v1"
    yield _case(f"{algorithm}: honest", key, good, True)
    yield _case(
        f"{algorithm}: honest, nothing signed", key, honest.sign(TAG, b""), True, message=b""
    )
    yield _case(f"{algorithm}: another message", key, good, False, message=MESSAGE + b"\x00")
    yield _case(f"{algorithm}: another tag", key, good, False, tag=other)
    yield _case(f"{algorithm}: 63 bytes", key, good[:63], False)
    yield _case(f"{algorithm}: 65 bytes", key, good + b"\x00", False)
    yield _case(f"{algorithm}: no bytes", key, b"", False)
    yield _case(f"{algorithm}: key of no bytes", b"", good, False)
    yield _case(f"{algorithm}: key cut short", key[:31], good, False)
    yield _case(f"{algorithm}: key too long", key + b"\x00\x00", good, False)


def _bad_p256_keys(key: bytes) -> Iterator[tuple[str, bytes]]:
    x_off_curve = 1
    while _is_on_p256(x_off_curve):
        x_off_curve += 1
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key).public_numbers()
    uncompressed = b"\x04" + point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")
    small_x = 5  # x + p fits into 32 bytes too
    assert _is_on_p256(small_x)
    yield "key with the prefix of an uncompressed point", b"\x04" + key[1:]
    yield "key with the prefix 00", b"\x00" + key[1:]
    yield "key with the prefix 05", b"\x05" + key[1:]
    yield "key of zeros", bytes(33)
    yield "key whose x is on no point", b"\x02" + x_off_curve.to_bytes(32, "big")
    yield "key whose x is not below p", b"\x02" + (P256_PRIME + small_x).to_bytes(32, "big")
    yield "key as an uncompressed point", uncompressed
    yield "key as the point at infinity", b"\x00"


def _is_on_p256(x: int) -> bool:
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    square = (x**3 - 3 * x + b) % P256_PRIME
    return pow(square, (P256_PRIME - 1) // 2, P256_PRIME) in (0, 1)


def _ed25519_keys() -> Iterator[dict[str, Any]]:
    seed = _seed("ed25519 edge cases")
    honest = signing_key("ed25519", seed).public
    scalar, _ = edwards.secret_of(seed)
    yield _key("Ed25519: honest", honest, True)
    for key in edwards.small_order_encodings():
        yield _key("Ed25519: small order", key, False)
    mixed = edwards.add(edwards.multiply(scalar, edwards.BASE), edwards.torsion()[1])
    yield _key("Ed25519: with a part of small order", edwards.encode(mixed), False)
    yield _key("Ed25519: y = 2^255 − 1", (2**255 - 1).to_bytes(32, "little"), False)
    y = 2
    while edwards.recover_x(y, 0) is not None:
        y += 1
    yield _key("Ed25519: y on no point", y.to_bytes(32, "little"), False)
    for y in range(2, 19):
        if edwards.recover_x(y, 0) is not None:
            yield _key("Ed25519: y not below p", (y + edwards.P).to_bytes(32, "little"), False)
            break


def _p256_keys() -> Iterator[dict[str, Any]]:
    honest = signing_key("p256", _seed("P-256 edge cases")).public
    yield _key("P-256: honest", honest, True)
    yield _key("P-256: honest, the negative point", bytes((honest[0] ^ 1,)) + honest[1:], True)
    for name, key in _bad_p256_keys(honest):
        yield _key(f"P-256: {name}", key, False)


def _key(name: str, key: bytes, valid: bool) -> dict[str, Any]:
    return {"name": name, "public_key": key.hex(), "valid": valid}
