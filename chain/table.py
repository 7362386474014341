"""A table of the state: records of one type under one prefix of the state's keys."""

from typing import Final, Generic, TypeVar

from chain.schema import Record

R = TypeVar("R")

RECORD_SIZE_MAX: Final = 256 * 1024


class Table(Generic[R]):
    """Records of one type under one prefix of the state's keys."""

    def __init__(self, prefix: bytes, record: Record[R]) -> None:
        self.prefix = prefix
        self.record = record

    def key(self, key: bytes) -> bytes:
        """Return the state key of `key` in this table."""
        return self.prefix + key

    def encode(self, value: R) -> bytes:
        """Return the state value of a record."""
        return self.record.encode(value)

    def decode(self, data: bytes) -> R:
        """Return the record of a state value."""
        return self.record.decode(data, what=self.record.make.__name__, size_max=RECORD_SIZE_MAX)


def height_key(height: int) -> bytes:
    """Return a key that sorts as the height does."""
    return height.to_bytes(8, "big")
