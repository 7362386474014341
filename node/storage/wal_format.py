"""The bytes of a write-ahead log, and what a damaged one proves.

Pure; :mod:`node.storage.wal` does the reading and writing.

A log is a header and frames; a frame is what one append wrote, all of its records together. Frames
are fsynced one by one, so that only the last can ever be torn: whatever stands before another
frame was durable once, and damage to it is corruption. docs/spec/durability.md is normative.
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.errors import CorruptLog, LogFull, RecordTooLarge

RECORD_BYTES_MAX: Final = 16 << 20
APPEND_BYTES_MAX: Final = 32 << 20
"""Bound of the records of one append, each with its length."""

LOG_BYTES_MAX: Final = 64 << 20

MAGIC: Final = b"SNWAL\x00\x00\x01"
MARKER: Final = b"\xc5SNF"
SALT_SIZE: Final = 16
HEADER_SIZE: Final = 32
FRAME_HEADER_SIZE: Final = 32
SECTOR_SIZE: Final = 512
"""The least that a disk writes as a whole."""

_HEADER: Final = struct.Struct(">8s16s8s")
_FRAME_HEADER: Final = struct.Struct(">4sI8s16s")
_LENGTH: Final = struct.Struct(">I")
_PLACE: Final = struct.Struct(">QI")

_REMEDY: Final = (
    "votes of this miner may be missing, and to vote without them could fork the chain. Restore no "
    "older copy; move the log away and start again: the miner then signs nothing until the chain "
    "is two heights further"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What a log holds.

    Parameters
    ----------
    salt : bytes
        The salt of its header.
    records : tuple of bytes
        Its records, oldest first.
    end : int
        Where the last whole frame ends; the next append goes there.
    torn : str or None
        Why the bytes from `end` on are a torn append; None where there are none.
    """

    salt: bytes
    records: tuple[bytes, ...]
    end: int
    torn: str | None


def encode_header(salt: bytes) -> bytes:
    """Return the header of a log with this `salt`."""
    return _HEADER.pack(MAGIC, salt, _digest(b"file", MAGIC, salt)[:8])


def encode_frame(records: Sequence[bytes], *, salt: bytes, offset: int, path: Path) -> bytes:
    """Return the frame which holds `records` at `offset` of the log `path`.

    Raises
    ------
    RecordTooLarge
        A record, or all of them together, are above their bound.
    LogFull
        The frame would end above the bound of a log.
    """
    for record in records:
        if len(record) > RECORD_BYTES_MAX:
            raise RecordTooLarge(path, size=len(record), limit=RECORD_BYTES_MAX)
    body = b"".join(part for record in records for part in (_LENGTH.pack(len(record)), record))
    if len(body) > APPEND_BYTES_MAX:
        raise RecordTooLarge(path, size=len(body), limit=APPEND_BYTES_MAX)
    if offset + FRAME_HEADER_SIZE + len(body) > LOG_BYTES_MAX:
        raise LogFull(path, limit=LOG_BYTES_MAX)
    place = _PLACE.pack(offset, len(body))
    return (
        _FRAME_HEADER.pack(
            MARKER,
            len(body),
            _digest(b"head", salt, place)[:8],
            _digest(b"body", salt, place, body)[:16],
        )
        + body
    )


def encode_log(records: Sequence[bytes], *, salt: bytes, path: Path) -> bytes:
    """Return a whole log which holds `records`.

    Raises
    ------
    RecordTooLarge, LogFull
        As in :func:`encode_frame`.
    """
    parts = [encode_header(salt)]
    offset = HEADER_SIZE
    for group in _groups(records):
        parts.append(encode_frame(group, salt=salt, offset=offset, path=path))
        offset += len(parts[-1])
    return b"".join(parts)


def recover(image: bytes, *, path: Path) -> Recovery:
    """Read the content `image` of the log `path`.

    Raises
    ------
    CorruptLog
        It is damaged in a way that no torn append explains.
    """
    salt = _salt(image, path)
    records: list[bytes] = []
    offset = HEADER_SIZE
    while offset < len(image):
        body = _body_at(image, salt=salt, offset=offset)
        if body is None:
            torn = _tear(image, salt=salt, offset=offset)
            if torn is None:
                raise CorruptLog(path, f"no valid append there; {_REMEDY}", offset=offset)
            return Recovery(salt=salt, records=tuple(records), end=offset, torn=torn)
        records.extend(_split(body))
        offset += FRAME_HEADER_SIZE + len(body)
    return Recovery(salt=salt, records=tuple(records), end=offset, torn=None)


def _salt(image: bytes, path: Path) -> bytes:
    """Return the salt of the header; a log gets its name only once its header is durable."""
    if len(image) > LOG_BYTES_MAX:
        raise CorruptLog(path, f"larger than a log can be; {_REMEDY}", offset=LOG_BYTES_MAX)
    if len(image) >= HEADER_SIZE:
        magic, salt, _ = _HEADER.unpack_from(image)
        if magic == MAGIC and image[:HEADER_SIZE] == encode_header(salt):
            return bytes(salt)
    raise CorruptLog(path, f"not the header of a log of this version; {_REMEDY}", offset=0)


def _size_at(image: bytes, *, salt: bytes, offset: int) -> int | None:
    """Return the size of the body of the frame at `offset`, or None where no header stands."""
    if offset + FRAME_HEADER_SIZE > len(image):
        return None
    marker, size, check, _ = _FRAME_HEADER.unpack_from(image, offset)
    if marker != MARKER or size > APPEND_BYTES_MAX:
        return None
    return size if check == _digest(b"head", salt, _PLACE.pack(offset, size))[:8] else None


def _body_at(image: bytes, *, salt: bytes, offset: int) -> bytes | None:
    """Return the body of the frame at `offset`, or None where no whole and right one stands."""
    size = _size_at(image, salt=salt, offset=offset)
    if size is None:
        return None
    start = offset + FRAME_HEADER_SIZE
    body = image[start : start + size]
    check = image[start - 16 : start]
    if len(body) < size or check != _digest(b"body", salt, _PLACE.pack(offset, size), body)[:16]:
        return None
    return body


def _tear(image: bytes, *, salt: bytes, offset: int) -> str | None:
    """Return how an append interrupted at `offset` explains the rest of `image`, or None.

    An interrupted append leaves, of the bytes it was to write, those before some end of the file,
    and zeros for each sector that had not reached the disk.
    """
    left = len(image) - offset
    if left > FRAME_HEADER_SIZE + APPEND_BYTES_MAX:
        return None
    if _has_frame_after(image, salt=salt, offset=offset):
        return None
    if left < FRAME_HEADER_SIZE:
        return "the file ends within the header of an append"
    size = _size_at(image, salt=salt, offset=offset)
    end = offset + FRAME_HEADER_SIZE + (size or 0)
    if end > len(image):
        return "the file ends within the body of an append"
    if size is not None and end < len(image):
        # Something was appended behind it, after it had been fsynced.
        return None
    if _has_blank_sector(image, start=offset, stop=end):
        return "a sector of an append was never written"
    return None


def _has_frame_after(image: bytes, *, salt: bytes, offset: int) -> bool:
    """Tell whether a whole and right frame starts anywhere behind `offset`."""
    found = image.find(MARKER, offset + 1)
    while found >= 0:
        if _body_at(image, salt=salt, offset=found) is not None:
            return True
        found = image.find(MARKER, found + 1)
    return False


def _has_blank_sector(image: bytes, *, start: int, stop: int) -> bool:
    """Tell whether all of ``image[start:stop]`` that lies in some one sector is zero."""
    while start < stop:
        sector_end = min(stop, start - start % SECTOR_SIZE + SECTOR_SIZE)
        if not any(image[start:sector_end]):
            return True
        start = sector_end
    return False


def _split(body: bytes) -> Iterator[bytes]:
    """Yield the records of a frame whose checksum was right."""
    start = 0
    while start < len(body):
        (size,) = _LENGTH.unpack_from(body, start)
        start += _LENGTH.size
        yield body[start : start + size]
        start += size


def _groups(records: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Yield `records` in groups that fit into one frame each."""
    group: list[bytes] = []
    group_bytes = 0
    for record in records:
        record_bytes = _LENGTH.size + len(record)
        if group and group_bytes + record_bytes > APPEND_BYTES_MAX:
            yield group
            group, group_bytes = [], 0
        group.append(record)
        group_bytes += record_bytes
    if group:
        yield group


def _digest(tag: bytes, *parts: bytes) -> bytes:
    hasher = hashlib.sha256(b"securenet/wal/" + tag + b"\x00")
    for part in parts:
        hasher.update(part)
    return hasher.digest()
