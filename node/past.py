"""Pieces of the past in the bytes in which nodes hand them on, on the wire and in files."""

from dataclasses import dataclass
from typing import Final

from chain.blocks import BLOCK_SIZE_MAX, HEADER, HEADER_SIZE_MAX, decode_header
from chain.certificate import CERTIFICATE, CERTIFICATE_SIZE_MAX, decode_certificate
from chain.miners import MINERS_SIZE_MAX, decode_miners, encode_miners
from chain.schema import Blob, Record
from node.light_walk import Decided

DECIDED_SIZE_MAX: Final = HEADER_SIZE_MAX + CERTIFICATE_SIZE_MAX + MINERS_SIZE_MAX + 64
RECEIPTS_SIZE_MAX: Final = 16 * 1024 * 1024
"""Receipts of a block, as they are handed on; hardly any block comes near it."""
PAST_BLOCK_SIZE_MAX: Final = (
    BLOCK_SIZE_MAX + CERTIFICATE_SIZE_MAX + RECEIPTS_SIZE_MAX + MINERS_SIZE_MAX + 64
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PastBlock:
    """A committed block with everything that a node keeps of it, all in their bytes.

    Parameters
    ----------
    miners : bytes
        The set that decided it; empty where it is the same as of the block before in the list.
    """

    block: bytes
    certificate: bytes
    receipts: bytes
    miners: bytes

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        return sum(map(len, (self.block, self.certificate, self.receipts, self.miners)))


PAST_BLOCK: Final = Record(
    PastBlock,
    block=Blob(1, BLOCK_SIZE_MAX),
    certificate=Blob(1, CERTIFICATE_SIZE_MAX),
    receipts=Blob(1, RECEIPTS_SIZE_MAX),
    miners=Blob(0, MINERS_SIZE_MAX),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedBytes:
    """A header with what proves it, all in their bytes."""

    header: bytes
    certificate: bytes
    miners: bytes


DECIDED: Final = Record(
    DecidedBytes,
    header=Blob(1, HEADER_SIZE_MAX),
    certificate=Blob(1, CERTIFICATE_SIZE_MAX),
    miners=Blob(1, MINERS_SIZE_MAX),
)


def pack_decided(decided: Decided) -> DecidedBytes:
    """Return the bytes of a header and of what proves it."""
    return DecidedBytes(
        header=HEADER.encode(decided.header),
        certificate=CERTIFICATE.encode(decided.certificate),
        miners=encode_miners(decided.miners),
    )


def unpack_decided(packed: DecidedBytes) -> Decided:
    """Read `pack_decided`; raises `DecodeError`."""
    return Decided(
        header=decode_header(packed.header),
        certificate=decode_certificate(packed.certificate),
        miners=decode_miners(packed.miners),
    )


def decode_decided(data: bytes) -> DecidedBytes:
    """Read a `DECIDED`; raises `DecodeError`."""
    return DECIDED.decode(data, what="decided", size_max=DECIDED_SIZE_MAX)


def decode_past_block(data: bytes) -> PastBlock:
    """Read a `PAST_BLOCK`; raises `DecodeError`."""
    return PAST_BLOCK.decode(data, what="past block", size_max=PAST_BLOCK_SIZE_MAX)
