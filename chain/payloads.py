"""What a `device.data` transaction carries: the payload types."""

from dataclasses import dataclass
from typing import Final

from chain.blobs import BLOB_SIZE_MAX, chunk_count, digest_of_root
from chain.chunks import TAG_SIZE
from chain.fields import DIGEST, NAME
from chain.schema import Integer, ListOf, Record, Tagged, Text
from chain.types import Digest

FLOW_INTEGERS_MAX: Final = 128
FLOW_CATEGORIES_MAX: Final = 16
CATEGORY_SIZE_MAX: Final = 32
READING_VALUES_MAX: Final = 32
UNIT_SIZE_MAX: Final = 16
EXPONENT_RANGE: Final = (-18, 18)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One network flow as a detector sees it.

    Parameters
    ----------
    schema : Digest
        Digest of the feature schema that gives the columns their meaning.
    integers : tuple of int
        The numeric columns in the schema's order; rates are multiplied by 100.
    categories : tuple of str
        The categorical columns in the schema's order.
    """

    schema: Digest
    integers: tuple[int, ...]
    categories: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One measured value: ``value × 10^exponent`` in `unit`."""

    name: str
    value: int
    exponent: int
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a device measured at one moment."""

    values: tuple[Measurement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunked:
    """A file that is kept outside the chain, in encrypted chunks (`chain.chunks`).

    Parameters
    ----------
    root : Digest
        Merkle root over the chunks.
    size_bytes : int
        Bytes of all of them together, from which their number follows.
    manifest : Digest
        Digest of the file's manifest as a blob.
    """

    root: Digest
    size_bytes: int
    manifest: Digest

    @property
    def chunks(self) -> Digest:
        """Digest of the chunks as a blob."""
        return digest_of_root(self.size_bytes, self.root)

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return chunk_count(self.size_bytes)


FLOW: Final = Record(
    Flow,
    schema=DIGEST,
    integers=ListOf(Integer(0, 2**53), FLOW_INTEGERS_MAX),
    categories=ListOf(Text(CATEGORY_SIZE_MAX), FLOW_CATEGORIES_MAX),
)

READING: Final = Record(
    Reading,
    values=ListOf(
        Record(
            Measurement,
            name=NAME,
            value=Integer(-(2**63), 2**63 - 1),
            exponent=Integer(*EXPONENT_RANGE),
            unit=Text(UNIT_SIZE_MAX),
        ),
        READING_VALUES_MAX,
        minimum=1,
    ),
)

CHUNKED: Final = Record(
    Chunked,
    root=DIGEST,
    size_bytes=Integer(TAG_SIZE, BLOB_SIZE_MAX),
    manifest=DIGEST,
)

DEVICE_PAYLOAD: Final = Tagged({"flow": FLOW, "reading": READING, "chunked": CHUNKED})
"""The payload types; a further type is one more record here."""

DevicePayload = Flow | Reading | Chunked
