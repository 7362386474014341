"""The write-ahead log of consensus: appended to, and rewritten once it has grown.

docs/spec/durability.md says what stands in it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from chain.errors import DecodeError
from consensus.durable import DurableState, WalRecord, decode_record, encode_record, recover
from node.errors import CorruptStore, LogFull
from node.ports import Log

LOG_RECORDS_MAX: Final = 512
"""After so many records the log is rewritten with the few that are still needed."""


class ConsensusLog:
    """A log of records; its methods wait for the disk, so they are for the executor.

    Parameters
    ----------
    needed : callable
        Returns what is still needed of all that was ever appended, which `append` is given last.
    """

    def __init__(self, log: Log, *, needed: Callable[[], DurableState]) -> None:
        self._log = log
        self._needed = needed
        self._count = len(log.records())

    @property
    def is_long(self) -> bool:
        """Whether it is time to rewrite it."""
        return self._count > LOG_RECORDS_MAX

    def append(self, records: Sequence[WalRecord]) -> None:
        """Make records durable; where they do not fit, along with a rewriting."""
        encoded = [encode_record(record) for record in records]
        try:
            self._log.append(encoded)
            self._count += len(encoded)
        except LogFull:
            self.rewrite()

    def rewrite(self) -> None:
        """Keep only what is still needed."""
        kept = [encode_record(record) for record in self._needed().records()]
        self._log.rewrite(kept)
        self._count = len(kept)


def recover_log(log: Log, path: Path) -> DurableState:
    """Return what a log adds up to.

    Raises
    ------
    CorruptStore
        It holds what no version of this program has written; `path` says where the data are.
    """
    try:
        return recover(decode_record(record) for record in log.records())
    except DecodeError as error:
        raise CorruptStore(
            path,
            f"the consensus log holds a record nobody wrote ({error}); restore no older copy: take "
            "the version of the program that wrote it",
        ) from error
