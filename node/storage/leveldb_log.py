"""Tells a damaged length in a log of LevelDB from a torn end, which LevelDB takes it for.

LevelDB reads its logs and manifests record by record. Where the last block holds a record that is
longer than the file, it supposes that the end was never written, and forgets what follows without
a word. One flipped bit of a length does the same to records that were synced. Everything else in
these files LevelDB checks itself.
"""

import struct
from typing import Final

BLOCK_SIZE: Final = 32 * 1024
_HEADER: Final = struct.Struct("<IHB")
_MASK_DELTA: Final = 0xA282EAD8
_POLYNOMIAL: Final = 0x82F63B78


def damaged_length_at(image: bytes) -> int | None:
    """Return the offset of a whole record whose length says more than the file has, or None.

    Parameters
    ----------
    image : bytes
        The end of a log: all of it from some multiple of ``BLOCK_SIZE`` on.

    References
    ----------
    LevelDB, doc/log_format.md
    """
    offset = len(image) - len(image) % BLOCK_SIZE
    while offset + _HEADER.size <= len(image):
        check, length, kind = _HEADER.unpack_from(image, offset)
        start = offset + _HEADER.size
        if start + length > len(image):
            whole = _has_prefix_with(check, kind, image[start:])
            return offset if whole else None
        offset = start + length
    return None


def _has_prefix_with(check: int, kind: int, content: bytes) -> bool:
    """Tell whether some prefix of `content`, even the whole, has this checksum."""
    wanted = _unmasked(check) ^ 0xFFFFFFFF
    crc = 0xFFFFFFFF
    for byte in bytes([kind]) + content:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
        if crc == wanted:
            return True
    return False


def _unmasked(check: int) -> int:
    """Return the CRC-32C behind the form in which LevelDB stores it."""
    rotated = (check - _MASK_DELTA) & 0xFFFFFFFF
    return (rotated >> 17) | (rotated << 15) & 0xFFFFFFFF


def _remainder(byte: int) -> int:
    crc = byte
    for _ in range(8):
        crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
    return crc


_TABLE: Final = tuple(_remainder(byte) for byte in range(256))
