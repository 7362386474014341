"""Edwards25519 in plain integers, to make the keys and signatures that no library would make.

Points are pairs of affine coordinates. Slow, and of no use for secrets. RFC 8032, section 5.1.
"""

from hashlib import sha512
from typing import Final

P: Final = 2**255 - 19
ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, P) % P
_SQRT_OF_MINUS_1: Final = pow(2, (P - 1) // 4, P)

Point = tuple[int, int]
IDENTITY: Final[Point] = (0, 1)


def add(a: Point, b: Point) -> Point:
    """Return a + b."""
    (x1, y1), (x2, y2) = a, b
    product = _D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P
    return x, y


def multiply(scalar: int, point: Point) -> Point:
    """Return scalar · point."""
    result = IDENTITY
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def recover_x(y: int, sign: int) -> int | None:
    """Return the x of the given parity that lies on the curve with `y`, or None."""
    square = (y * y - 1) * pow(_D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * _SQRT_OF_MINUS_1 % P
    if (x * x - square) % P:
        return None
    return P - x if x & 1 != sign and x else x


BASE: Final[Point] = (recover_x(4 * pow(5, -1, P) % P, 0) or 0, 4 * pow(5, -1, P) % P)


def encode(point: Point) -> bytes:
    """Return the canonical 32 bytes."""
    x, y = point
    return (y | (x & 1) << 255).to_bytes(32, "little")


def torsion() -> list[Point]:
    """Return the eight points of small order, multiples of one of order eight."""
    y = 2
    while True:
        x = recover_x(y, 0)
        if x is not None:
            point = multiply(ORDER, (x, y))
            if multiply(4, point) != IDENTITY:
                return [multiply(factor, point) for factor in range(8)]
        y += 1


def small_order_encodings() -> list[bytes]:
    """Return all 14 encodings of points of small order, the non-canonical ones included."""
    found = {encode(point) for point in torsion()}
    for y in (1, P - 1, 0):
        for plus in (0, P):
            for sign in (0, 1):
                if y + plus < 2**255:
                    found.add((y + plus | sign << 255).to_bytes(32, "little"))
    return sorted(found)


def secret_of(seed: bytes) -> tuple[int, bytes]:
    """Return the secret scalar and the prefix of a seed."""
    digest = sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little") & ~7 & (2**254 - 1) | 2**254
    return scalar, digest[32:]


def challenge(r: bytes, key: bytes, data: bytes) -> int:
    """Return h of the verification equation S·B = R + h·A."""
    return int.from_bytes(sha512(r + key + data).digest(), "little") % ORDER


def signature(r: bytes, s: int) -> bytes:
    """Return R ‖ S; S may be anything that fits."""
    return r + s.to_bytes(32, "little")
