"""The bytes of an archive: blocks with all that proves them, for another disk or another year.

A file header, then frames. Each frame carries a checksum over itself and the checksum before it,
so that no frame can be changed, left out, doubled or moved, and the last one says that it is the
last. Checksums tell damage; truth is told by `chain.archive_check`, from certificates and roots.
Reading and writing files is the node's. docs/spec/archive.md is normative.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from struct import Struct
from typing import Final

from chain import codec
from chain.blocks import Block, decode_block
from chain.certificate import CommitCertificate, decode_certificate
from chain.errors import DecodeError
from chain.fields import DIGEST
from chain.schema import Blob, Integer, Optional, Record
from chain.types import HEIGHT_MAX, Digest

MAGIC: Final = b"SNARCH\x00"
VERSION: Final = 1
FILE_HEADER: Final = MAGIC + bytes([VERSION])
FRAME_SIZE_MAX: Final = 528 * 1024 * 1024
"""Room for the receipts of the most eventful block that the rules allow."""

CHECK_SIZE: Final = 16
FRAME_HEAD: Final = Struct(f">BI{CHECK_SIZE}s")

_TAG: Final = b"securenet/archive/frame/v1\x00"
_PLACE: Final = Struct(">BI")


class FrameKind(IntEnum):
    """What stands in a frame."""

    BEGIN = 1
    BLOCK = 2
    END = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """The first frame: what the archive holds.

    Parameters
    ----------
    genesis : bytes
        The canonical genesis document of the chain.
    first, last : int
        Heights of the first and the last block.
    parent : bytes
        The header before the first block.
    miners : bytes
        The set that decides the first block.
    """

    genesis: bytes
    first: int
    last: int
    parent: bytes
    miners: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedBlock:
    """A block, each part in its canonical bytes.

    Parameters
    ----------
    block, certificate : bytes
        As on the wire.
    receipts : bytes
        Array of the receipts of its transactions, and behind them the block's.
    next_miners : bytes or None
        The set that decides the next height, where it is another than this height's.
    """

    block: bytes
    certificate: bytes
    receipts: bytes
    next_miners: bytes | None

    def decode(self) -> tuple[Block, CommitCertificate]:
        """Return the block and its certificate; raises `DecodeError`."""
        return decode_block(self.block), decode_certificate(self.certificate)


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The last frame.

    Parameters
    ----------
    count : int
        How many blocks there were.
    tip : Digest
        Hash of the last header.
    """

    count: int
    tip: Digest


Frame = Begin | ArchivedBlock | End

_BYTES: Final = Blob(1, FRAME_SIZE_MAX)
_RECORDS: Final[dict[FrameKind, Record[Frame]]] = {
    FrameKind.BEGIN: Record(
        Begin,
        genesis=_BYTES,
        first=Integer(1, HEIGHT_MAX),
        last=Integer(1, HEIGHT_MAX),
        parent=_BYTES,
        miners=_BYTES,
    ),
    FrameKind.BLOCK: Record(
        ArchivedBlock,
        block=_BYTES,
        certificate=_BYTES,
        receipts=_BYTES,
        next_miners=Optional(_BYTES),
    ),
    FrameKind.END: Record(End, count=Integer(1, HEIGHT_MAX), tip=DIGEST),
}
_KINDS: Final = {record.make: kind for kind, record in _RECORDS.items()}


class FrameWriter:
    """Turns frames into bytes, one behind the other."""

    def __init__(self) -> None:
        self._check = FILE_HEADER

    def encode(self, frame: Frame) -> bytes:
        """Return the bytes of the next frame."""
        kind = _KINDS[type(frame)]
        body = _RECORDS[kind].encode(frame)
        assert len(body) <= FRAME_SIZE_MAX, "no block is as large"
        self._check = _checksum(self._check, kind, body)
        return FRAME_HEAD.pack(kind, len(body), self._check) + body


class FrameReader:
    """Turns bytes into frames, one behind the other, and refuses what no writer wrote."""

    def __init__(self) -> None:
        self._check = FILE_HEADER
        self._height: int | None = None
        self._last = 0

    @staticmethod
    def check_file_header(data: bytes) -> None:
        """Check the first bytes of a file.

        Raises
        ------
        DecodeError
            It is no archive, or one of a later version.
        """
        if not data.startswith(MAGIC) or len(data) != len(FILE_HEADER):
            raise DecodeError("archive", "the file is no archive of blocks")
        if data != FILE_HEADER:
            raise DecodeError(
                "archive", f"version {data[-1]}; this program reads version {VERSION}"
            )

    @staticmethod
    def size_of(head: bytes) -> int:
        """Return how many bytes follow the head of a frame; raises `DecodeError`."""
        if len(head) != FRAME_HEAD.size:
            raise DecodeError("archive", "the file ends before the archive does")
        size: int = FRAME_HEAD.unpack(head)[1]
        if size > FRAME_SIZE_MAX:
            raise DecodeError("archive", f"a frame of {size} bytes is damaged")
        return size

    def decode(self, head: bytes, body: bytes) -> Frame:
        """Read the next frame.

        Raises
        ------
        DecodeError
            It is damaged, or another was to stand there.
        """
        number, size, check = FRAME_HEAD.unpack(head)
        if len(body) != size:
            raise DecodeError("archive", "the file ends before the archive does")
        expected = _checksum(self._check, number, body)
        if check != expected:
            raise DecodeError("archive", "a checksum is wrong: the file is damaged")
        if number not in list(FrameKind):
            raise DecodeError("archive", f"a frame of kind {number}, which nobody writes")
        kind = FrameKind(number)
        if kind is not self._wanted():
            raise DecodeError("archive", f"{kind.name} stands where {self._wanted().name} belongs")
        items = codec.decode(body, what="archive", size_max=FRAME_SIZE_MAX, items_max=8)
        frame = _RECORDS[kind].read(items, "archive")
        if isinstance(frame, Begin):
            if frame.last < frame.first:
                raise DecodeError("archive", f"blocks {frame.first} to {frame.last}")
            self._height, self._last = frame.first, frame.last
        elif isinstance(frame, ArchivedBlock):
            assert self._height is not None, "the first frame said it"
            self._height += 1
        self._check = expected
        return frame

    def _wanted(self) -> FrameKind:
        if self._height is None:
            return FrameKind.BEGIN
        return FrameKind.BLOCK if self._height <= self._last else FrameKind.END


def encode_archive(frames: Iterator[Frame]) -> Iterator[bytes]:
    """Yield the bytes of an archive, piece for piece."""
    yield FILE_HEADER
    writer = FrameWriter()
    for frame in frames:
        yield writer.encode(frame)


def _checksum(before: bytes, kind: int, body: bytes) -> bytes:
    hasher = sha256(_TAG + before + _PLACE.pack(kind, len(body)))
    hasher.update(body)
    return hasher.digest()[:CHECK_SIZE]
