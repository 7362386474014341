"""The state: committed records, and an overlay for what a block changes.

`State` is the committed state at a height; it reads through a `Source` (LevelDB in a node) and
keeps the authenticated tree in memory. `Overlay` stacks changes on a state or another overlay and
throws them away or hands them on, so that a proposed block is executed without touching anything.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, Protocol, TypeVar

from chain.federated.records import OPEN_ROUNDS, ROUND_HEARTBEAT_MS
from chain.miners import Miner, MinerSet
from chain.parameters import PARAMETERS_TABLE, Parameters
from chain.records.miners import MINER_SETS, PASSED_OVER, PassedOver
from chain.records.models import ACTIVE_MODELS
from chain.state_tree import StateProof, StateTree
from chain.table import Table
from chain.types import Digest

R = TypeVar("R")

RECORD_CACHE_SIZE: Final = 50_000
"""Decoded records kept by a `State`; when full, the cache is emptied and fills again."""
SETS_KEPT_MAX: Final = 16
"""Sets of miners that are kept with their hash; the one longest unused is dropped."""

StateDelta = Mapping[bytes, bytes | None]
"""What a block changes: state keys and encoded values, None for a removed key."""


class Source(Protocol):
    """Where the committed state values are."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a state key."""
        ...

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Iterate the entries under `prefix`, those behind the state key `after`, in key order."""
        ...


class MemorySource:
    """A source over given entries; for the first state, and wherever a chain needs no disk."""

    def __init__(self, entries: StateDelta) -> None:
        self.entries: dict[bytes, bytes] = {}
        self.apply(entries)

    def apply(self, delta: StateDelta) -> None:
        """Take in what a block changes."""
        for key, value in delta.items():
            if value is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = value

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a state key."""
        return self.entries.get(key)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Iterate the entries under `prefix`, those behind `after`, in key order."""
        keys = sorted(key for key in self.entries if key.startswith(prefix) and key > after)
        return iter([(key, self.entries[key]) for key in keys])


class View(Protocol):
    """Reading access to records; what rules take."""

    def get(self, table: Table[R], key: bytes = b"") -> R | None:
        """Return the record of `key`, or None."""
        ...


class State:
    """The committed state.

    Parameters
    ----------
    source : Source
        Holds the values; whoever commits a block writes its delta there and calls `advance`.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._cache: dict[bytes, Any] = {}
        self.tree = StateTree().updated(dict(source.scan(b"")))

    @property
    def root(self) -> Digest:
        """The state root."""
        return self.tree.root

    @property
    def cached_count(self) -> int:
        """How many records it holds in memory."""
        return len(self._cache)

    def get(self, table: Table[R], key: bytes = b"") -> R | None:
        """Return the record of `key`, or None."""
        full = table.prefix + key
        try:
            cached: R | None = self._cache[full]
        except KeyError:
            value = self._source.get(full)
            record = None if value is None else table.decode(value)
            if len(self._cache) >= RECORD_CACHE_SIZE:
                self._cache.clear()
            self._cache[full] = record
            return record
        return cached

    def scan(self, table: Table[R], *, after: bytes = b"") -> Iterator[tuple[bytes, R]]:
        """Iterate a table in key order, beginning behind the key `after`."""
        behind = table.key(after) if after else b""
        for full, value in self._source.scan(table.prefix, behind):
            yield full[len(table.prefix) :], table.decode(value)

    def prove(self, table: Table[Any], key: bytes = b"") -> StateProof:
        """Return the proof of presence or absence of `key` under the current root."""
        return self.tree.prove(table.key(key))

    def advance(self, delta: StateDelta, tree: StateTree) -> None:
        """Become the state after a block whose `delta` the source holds by now."""
        for key in delta:
            self._cache.pop(key, None)
        self.tree = tree


class Overlay:
    """Changes on top of a view; nothing below is touched."""

    __slots__ = ("_base", "_changes")

    def __init__(self, base: "State | Overlay") -> None:
        self._base = base
        self._changes: dict[bytes, tuple[Table[Any], Any]] = {}

    def get(self, table: Table[R], key: bytes = b"") -> R | None:
        """Return the record of `key`, or None."""
        changed = self._changes.get(table.prefix + key)
        if changed is not None:
            record: R | None = changed[1]
            return record
        return self._base.get(table, key)

    def put(self, table: Table[R], record: R, key: bytes = b"") -> None:
        """Set the record of `key`."""
        self._changes[table.prefix + key] = (table, record)

    def remove(self, table: Table[Any], key: bytes = b"") -> None:
        """Remove the record of `key`."""
        self._changes[table.prefix + key] = (table, None)

    def remove_if_present(self, table: Table[Any], key: bytes = b"") -> None:
        """Remove the record of `key` where there is one, so that the delta stays small."""
        if self.get(table, key) is not None:
            self.remove(table, key)

    def merge(self, upper: "Overlay") -> None:
        """Take over the changes of an overlay that lies on this one."""
        self._changes.update(upper._changes)

    def delta(self) -> dict[bytes, bytes | None]:
        """Return the changes as state keys and values."""
        return {
            key: None if record is None else table.encode(record)
            for key, (table, record) in self._changes.items()
        }


def parameters_of(view: View) -> Parameters:
    """Return the parameters in force."""
    parameters = view.get(PARAMETERS_TABLE)
    assert parameters is not None, "genesis sets the parameters"
    return parameters


def heartbeat_ms_of(view: View) -> int:
    """Return after how long an idle chain makes an empty block."""
    rounds = view.get(OPEN_ROUNDS)
    heartbeat_ms = parameters_of(view).heartbeat_ms
    return min(heartbeat_ms, ROUND_HEARTBEAT_MS) if rounds and rounds.ids else heartbeat_ms


def miner_sets_of(view: View) -> tuple[MinerSet, MinerSet]:
    """Return the sets that decide the next height and the one after it."""
    sets = view.get(MINER_SETS)
    assert sets is not None, "genesis sets the miners"
    return _set_of(sets.current), _set_of(sets.next)


@lru_cache(maxsize=SETS_KEPT_MAX)
def _set_of(members: tuple[Miner, ...]) -> MinerSet:
    """Return a set; it is asked for many times a height and changes seldom."""
    return MinerSet(members)


def decided_set(view: View) -> tuple[Miner, ...]:
    """Return the set that was decided last, in effect or not."""
    sets = view.get(MINER_SETS)
    assert sets is not None, "genesis sets the miners"
    return sets.after or sets.next


def passed_over_of(view: View) -> PassedOver:
    """Return the miners that are passed over as proposers."""
    return view.get(PASSED_OVER) or PassedOver(entries=())


def active_model_at(view: View, height: int) -> Digest | None:
    """Return the model whose verdicts count for the flows of block `height`."""
    models = view.get(ACTIVE_MODELS)
    return None if models is None else models.at(height)
