"""What a signer in a process of its own remembers, and what it therefore refuses.

It sees statements, not blocks: enough to tell whether two signatures contradict each other, and
whether a ROUND-CHANGE keeps silent about what its miner was prepared for. So nodes that share one
signer are together no more than one honest miner. docs/spec/signer.md is normative.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from chain import codec
from chain.errors import DecodeError
from chain.fields import DIGEST, HEIGHT, ROUND
from chain.kinds.evidence import STATEMENT_ITEMS_MAX, STATEMENT_SIZE_MAX
from chain.schema import Blob, Optional, Record, Tagged, Word
from chain.types import Digest, Height, Round
from consensus.durable import NO_HEIGHT, Floor
from consensus.messages import Commit, Phase, Position, Prepare, PrePrepare, RoundChange
from consensus.order import order_fault

CONFLICT: Final = "conflict"
"""Another statement was signed at this place."""
FORGETS_PREPARED: Final = "forgets-prepared"
"""A ROUND-CHANGE reports less than what its miner has sent a COMMIT for at this height."""

_PHASES: Final[Mapping[str, Phase]] = MappingProxyType(
    {message.name: message.phase for message in (PrePrepare, Prepare, Commit, RoundChange)}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockStatement:
    """What a PRE-PREPARE, PREPARE or COMMIT signs."""

    genesis_hash: Digest
    type: str
    height: Height
    round: Round
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundChangeStatement:
    """What a ROUND-CHANGE signs; the last two are both there, or neither."""

    genesis_hash: Digest
    type: str
    height: Height
    round: Round
    prepared_round: Round | None
    prepared_digest: Digest | None


Statement = BlockStatement | RoundChangeStatement

_BLOCK: Final = Record(
    BlockStatement,
    genesis_hash=DIGEST,
    type=Word(PrePrepare.name, Prepare.name, Commit.name),
    height=HEIGHT,
    round=ROUND,
    digest=DIGEST,
)
_ROUND_CHANGE: Final = Record(
    RoundChangeStatement,
    genesis_hash=DIGEST,
    type=Word(RoundChange.name),
    height=HEIGHT,
    round=ROUND,
    prepared_round=Optional(ROUND),
    prepared_digest=Optional(DIGEST),
)


def read_statement(data: bytes) -> Statement:
    """Read what a message of consensus signs.

    Raises
    ------
    DecodeError
        These are not the canonical bytes of any such statement.
    """
    items = codec.decode(
        data, what="statement", size_max=STATEMENT_SIZE_MAX, items_max=STATEMENT_ITEMS_MAX
    )
    if len(items) < len(_ROUND_CHANGE.fields):
        return _BLOCK.read(items, "statement")
    statement = _ROUND_CHANGE.read(items, "statement")
    if (statement.prepared_round is None) != (statement.prepared_digest is None):
        raise DecodeError("statement.prepared_digest", "comes with a prepared round, or not at all")
    return statement


def place_of(statement: Statement) -> Position:
    """Return where a statement stands in the order of signing."""
    return Position(statement.height, statement.round, _PHASES[statement.type])


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedStatement:
    """A record of the signer's log: these bytes are about to be signed."""

    statement: bytes


KeyRecord = Floor | SignedStatement

_RECORD: Final = Tagged(
    {
        "floor": Record(Floor, height=HEIGHT),
        "signed": Record(SignedStatement, statement=Blob(1, STATEMENT_SIZE_MAX)),
    }
)


def encode_key_record(record: KeyRecord) -> bytes:
    """Return the canonical bytes of `record`."""
    return codec.encode(_RECORD.write(record))


def decode_key_record(data: bytes) -> KeyRecord:
    """Read a record, and what it holds; raises `DecodeError`."""
    items = codec.decode(data, what="record", size_max=2 * STATEMENT_SIZE_MAX, items_max=2)
    record: KeyRecord = _RECORD.read(items, "record")
    if isinstance(record, SignedStatement):
        read_statement(record.statement)
    return record


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMemory:
    """What the records of a signer's log add up to.

    Parameters
    ----------
    floor : Height, optional
        The lowest height at which anything may be signed. None: memory is lost.
    signed : tuple of Statement
        Those of the last height and round, in the order of signing.
    prepared : BlockStatement or RoundChangeStatement, optional
        The last of that height to say what the miner is prepared for: a COMMIT, or a ROUND-CHANGE
        that reports something.
    """

    floor: Height | None = None
    signed: tuple[Statement, ...] = ()
    prepared: Statement | None = None

    @property
    def last(self) -> Position:
        """The place above which something may be signed, memory permitting."""
        if self.signed:
            return place_of(self.signed[-1])
        return Position(self.floor or NO_HEIGHT, Round(0), -1)

    def fault(self, statement: Statement) -> str | None:
        """Return why `statement` is not to be signed, or None.

        One that was signed already may be signed again: its answer may have got lost.
        """
        if statement in self.signed and self.floor is not None:
            return None
        place = place_of(statement)
        if any(place_of(known) == place for known in self.signed):
            return CONFLICT
        fault = order_fault(place, floor=self.floor, last=self.last)
        if fault is None and self._forgets_prepared(statement):
            return FORGETS_PREPARED
        return fault

    def apply(self, record: KeyRecord) -> "KeyMemory":
        """Return the memory after one more record."""
        if isinstance(record, Floor):
            if self.floor is None or record.height > self.floor:
                return replace(self, floor=record.height)
            return self
        statement = read_statement(record.statement)
        place = (statement.height, statement.round)
        kept = tuple(known for known in self.signed if (known.height, known.round) == place)
        prepared = self.prepared
        if prepared is not None and prepared.height != statement.height:
            prepared = None
        if _prepared_of(statement) is not None:
            prepared = statement
        return replace(self, signed=(*kept, statement), prepared=prepared)

    def records(self) -> tuple[KeyRecord, ...]:
        """Return the fewest records that add up to this memory, to rewrite a log with."""
        floor = () if self.floor is None else (Floor(height=self.floor),)
        said = self.signed
        if self.prepared is not None and self.prepared not in said:
            said = (self.prepared, *said)
        return (*floor, *(SignedStatement(statement=write_statement(known)) for known in said))

    def _forgets_prepared(self, statement: Statement) -> bool:
        if self.prepared is None or self.prepared.height != statement.height:
            return False
        if not isinstance(statement, RoundChangeStatement):
            return False
        known, told = _prepared_of(self.prepared), _prepared_of(statement)
        assert known is not None, "it was kept because it tells"
        return told is None or told[0] < known[0] or (told[0] == known[0] and told != known)


def recover_keys(records: Iterable[KeyRecord]) -> KeyMemory:
    """Return what a signer's log holds; an empty one gives a signer that has lost its memory."""
    memory = KeyMemory()
    for record in records:
        memory = memory.apply(record)
    return memory


def write_statement(statement: Statement) -> bytes:
    """Return the bytes that are signed."""
    schema = _BLOCK if isinstance(statement, BlockStatement) else _ROUND_CHANGE
    return codec.encode(schema.write(statement))  # type: ignore[arg-type]  # chosen by its class


def _prepared_of(statement: Statement) -> tuple[Round, Digest] | None:
    """Return the round and block that its miner says it is prepared for, if it does."""
    if isinstance(statement, BlockStatement):
        return (statement.round, statement.digest) if statement.type == Commit.name else None
    if statement.prepared_round is None or statement.prepared_digest is None:
        return None
    return statement.prepared_round, statement.prepared_digest
