"""Removing what a node need not keep: transactions by class, later also their receipts.

What stays is enough to prove what stays: a header and its certificate always, and of a body of
which a part goes the digests of that part. One call removes a bounded piece in one synced batch,
together with the height from which on the class is kept now, so that a kill at any instant leaves
a store that knows what it has.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from chain.kinds.base import Lane
from chain.kinds.device_data import file_of
from chain.transactions import Transaction, decode_transaction
from chain.transition import lane_of
from node.ports import KeyValueStore, WriteBatch
from node.storage import schema
from node.storage.kv import prefix_end

STEP_TRANSACTIONS: Final = 2_000
"""A step ends with the block that brings it to so many transactions, or blocks."""

TRANSACTION_CLASSES: Final = (schema.TELEMETRY, schema.VERDICTS, schema.REGISTRY)
PRUNED_CLASSES: Final = (*TRANSACTION_CLASSES, schema.RECEIPTS)
"""What may be pruned, in the order in which it is: receipts name what the others removed."""

INDEX_PARTS: Final = 32
"""Indexes that lie scattered are compacted in so many parts, for none may take long."""

_HEIGHTS: Final = (
    schema.BODY,
    schema.REMAINS,
    schema.RECEIPTS,
    schema.SUMMARY,
    schema.VERDICT,
    schema.FILE,
)
_SCATTERED: Final = (schema.TRANSACTION, schema.SENDER)
_BY_LANE: Final = {Lane.TELEMETRY: schema.TELEMETRY, Lane.VERDICT: schema.VERDICTS}


def class_of(transaction: Transaction) -> bytes:
    """Return the class of a transaction."""
    return _BY_LANE.get(lane_of(transaction), schema.REGISTRY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A piece of pruning, ready to be written.

    Parameters
    ----------
    batch : WriteBatch
        All of it, with the heights from which on classes are kept then.
    first : mapping of bytes to int
        The same heights, of the classes for which the step changes it.
    gone : int
        How many transactions, or blocks' receipts, it removes.
    """

    batch: WriteBatch
    first: Mapping[bytes, int]
    gone: int


def plan_step(store: KeyValueStore, what: bytes, first: Mapping[bytes, int], below: int) -> Step:
    """Return the next step towards keeping a class from height `below` on only.

    Parameters
    ----------
    first : mapping of bytes to int
        From where on each class is kept now.

    Raises
    ------
    DecodeError, CorruptStore
        A body cannot be read, so that nobody knows which entries belong to it.
    """
    batch = WriteBatch()
    height = max(1, first.get(what, 0))
    seen = gone = 0
    while height < below and seen < STEP_TRANSACTIONS:
        count, dropped = _drop(store, batch, what, height)
        seen += 1 + count
        gone += dropped
        height += 1
    changed = _changed_firsts(first, what, height)
    for name, kept_from in changed.items():
        batch.put(schema.first_key(name), schema.height_bytes(kept_from))
    return Step(batch=batch, first=changed, gone=gone)


def compact_heights(store: KeyValueStore, heights: range) -> None:
    """Give the room of what was removed at `heights` back, but for that in scattered indexes."""
    for prefix in _HEIGHTS:
        store.compact(
            start=prefix + schema.height_bytes(heights.start),
            stop=prefix + schema.height_bytes(heights.stop),
        )


def compact_indexes(store: KeyValueStore, part: int) -> None:
    """Give the room of removed entries of scattered indexes back, those of a part of the keys.

    Parameters
    ----------
    part : int
        Below `INDEX_PARTS`; each reads its share of all entries that are left.
    """
    size = 256 // INDEX_PARTS
    for prefix in _SCATTERED:
        start = prefix + bytes([part * size])
        is_last = part == INDEX_PARTS - 1
        store.compact(
            start=start, stop=prefix_end(prefix) if is_last else prefix + bytes([(part + 1) * size])
        )


def remains_of(store: KeyValueStore, height: int) -> schema.Remains | None:
    """Return what is kept of a block's transactions, or None; raises `DecodeError`."""
    key = schema.height_bytes(height)
    body = store.get(schema.BODY + key)
    if body is not None:
        return schema.whole(schema.decode_body(body))
    remains = store.get(schema.REMAINS + key)
    return None if remains is None else schema.decode_remains(remains)


def index_entries(
    transaction: Transaction, height: int, index: int
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the index entries of a committed transaction: key and value."""
    place = schema.place_bytes(height, index)
    payload = transaction.payload
    yield schema.transaction_key(transaction.id), place
    yield schema.sender_key(payload.sender, place), transaction.id
    if payload.kind == "verdict":
        yield schema.VERDICT + place, transaction.id
    if file_of(transaction) is not None:
        yield schema.FILE + place, transaction.id


def _changed_firsts(first: Mapping[bytes, int], what: bytes, height: int) -> dict[bytes, int]:
    changed = {what: height}
    if what in TRANSACTION_CLASSES:
        # A body is whole where nothing of it was pruned.
        changed[schema.BODY] = max(first.get(schema.BODY, 0), height)
    if what == schema.TELEMETRY:
        changed[schema.SUMMARY] = max(first.get(schema.SUMMARY, 0), height)
    return changed


def _drop(store: KeyValueStore, batch: WriteBatch, what: bytes, height: int) -> tuple[int, int]:
    """Put into `batch` what removes a class from a block.

    Returns
    -------
    tuple of int
        How many transactions were looked at, and how many things go.
    """
    key = schema.height_bytes(height)
    if what == schema.RECEIPTS:
        batch.delete(schema.RECEIPTS + key)
        return 0, 1
    if what == schema.TELEMETRY:
        # The look-back is beyond it, and the summary holds an id of each report.
        batch.delete(schema.SUMMARY + key)
    remains = remains_of(store, height)
    if remains is None:
        return 0, 0
    kept: list[bytes | None] = []
    for index, wire in enumerate(remains.wires):
        transaction = None if wire is None else decode_transaction(wire)
        if transaction is None or class_of(transaction) != what:
            kept.append(wire)
            continue
        kept.append(None)
        for entry, _ in index_entries(transaction, height, index):
            batch.delete(entry)
    gone = kept.count(None) - remains.wires.count(None)
    if gone:
        batch.delete(schema.BODY + key)
        # Digests prove what is kept, and nothing where nothing is.
        if kept.count(None) < len(kept):
            left = schema.Remains(wires=tuple(kept), digests=remains.digests)
            batch.put(schema.REMAINS + key, schema.encode_remains(left))
        else:
            batch.delete(schema.REMAINS + key)
    return len(kept), gone
