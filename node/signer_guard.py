"""A note of the last signature, in a place that no backup of the log takes back.

Whoever restores an older copy of a home directory restores a log that has forgotten signatures, and
nothing in it says so. The guard is a second, small log on another disk, or at least outside of what
is backed up: a miner whose log ends below what the guard notes has lost its memory (DESIGN rule 6).
docs/spec/durability.md, section "The guard"; docs/adr/0016 says why it is no more than that.
"""

from collections.abc import Sequence
from typing import Final

import structlog

from chain import codec
from chain.fields import HEIGHT, ROUND
from chain.schema import Integer, Record
from chain.types import ROUND_MAX, Round
from consensus.durable import (
    DurableState,
    LostMemory,
    Signed,
    WalRecord,
    decode_record,
    encode_record,
    recover,
)
from consensus.messages import Phase, Position, position_of
from node.ports import Log

GUARD_RECORDS_MAX: Final = 1_024
"""After so many notes the guard is rewritten with the last one."""

_POSITION: Final = Record(
    Position,
    height=HEIGHT,
    round=ROUND,
    phase=Integer(Phase.ROUND_CHANGE, Phase.COMMIT),
)

log = structlog.get_logger(__name__)


class GuardedLog:
    """A :class:`node.ports.Log` of consensus, with a guard.

    Parameters
    ----------
    inner : Log
        The log.
    guard : Log
        Where the place of each signature is noted, after it is in the log and before it is sent.

    Raises
    ------
    DecodeError
        One of both holds a record nobody wrote.

    Notes
    -----
    A log that ends below its guard is told so at once: it gets a `LostMemory` record.
    """

    def __init__(self, inner: Log, guard: Log) -> None:
        self._inner = inner
        self._guard = guard
        notes = guard.records()
        self._count = len(notes)
        self._last = noted = decode_position(notes[-1]) if notes else None
        state = recover(decode_record(record) for record in inner.records())
        self._told: tuple[bytes, ...] = ()
        if noted is not None and state.last < noted and not _knows(state, noted):
            log.warning(
                "the log of consensus is an older copy; nothing is signed for a while",
                log_height=state.last.height,
                guard_height=noted.height,
            )
            self._told = (encode_record(LostMemory(height=noted.height)),)
            inner.append(self._told)
        elif noted is None:
            log.info("the guard of the signer begins", log_height=state.last.height)

    def records(self) -> Sequence[bytes]:
        """Return the records found at opening, and what the guard had to add."""
        return [*self._inner.records(), *self._told]

    def append(self, records: Sequence[bytes]) -> None:
        """Append and fsync `records`, then the place of the last signature among them."""
        self._inner.append(records)
        self._note([decode_record(record) for record in records])

    def rewrite(self, records: Sequence[bytes]) -> None:
        """Replace the whole log; the last signature may be new to the guard."""
        self._inner.rewrite(records)
        self._note([decode_record(record) for record in records])

    def close(self) -> None:
        """Release both."""
        self._inner.close()
        self._guard.close()

    def _note(self, records: Sequence[WalRecord]) -> None:
        places = [place for record in records if (place := _place_of(record)) is not None]
        if not places or (self._last is not None and max(places) <= self._last):
            return
        self._last = max(places)
        note = encode_position(self._last)
        if self._count < GUARD_RECORDS_MAX:
            self._guard.append([note])
            self._count += 1
        else:
            self._guard.rewrite([note])
            self._count = 1


def encode_position(position: Position) -> bytes:
    """Return the bytes of a note."""
    return codec.encode(_POSITION.write(position))


def decode_position(data: bytes) -> Position:
    """Read a note; raises `DecodeError`."""
    items = codec.decode(data, what="note", size_max=64, items_max=len(_POSITION.fields))
    position: Position = _POSITION.read(items, "note")
    return position


def _place_of(record: WalRecord) -> Position | None:
    if isinstance(record, Signed):
        return position_of(record.message)
    if isinstance(record, LostMemory):
        # Of that height anything may have been signed.
        return Position(record.height, Round(ROUND_MAX), Phase.COMMIT)
    return None


def _knows(state: DurableState, noted: Position) -> bool:
    """Tell whether the log says itself that it has forgotten what was signed there."""
    return state.floor is None and state.lost_height >= noted.height
