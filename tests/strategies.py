"""Hypothesis strategies for values of the chain, made from the schemas that bound them."""

import re
from typing import Any

from hypothesis import strategies as st

from chain.crypto import P256_ORDER, SigningKey, signing_key
from chain.limits import RATE_CAPACITY_MAX, RATE_SECONDS_MAX, RATE_WINDOWS_MAX, Limits, RateWindow
from chain.schema import Blob, Boolean, Integer, ListOf, Optional, Record, Tagged, Text, Word
from chain.transactions import PAYLOAD

LIST_SIZE = 4
"""Lists stay short; their bounds have tests of their own."""
BLOB_SIZE = 80

digests = st.binary(min_size=32, max_size=32)
times_ms = st.integers(1_000, 2**40)


def signing_keys() -> st.SearchStrategy[SigningKey]:
    """Return keys of both algorithms."""
    seeds = st.integers(1, P256_ORDER - 1).map(lambda number: number.to_bytes(32, "big"))
    return st.builds(signing_key, st.sampled_from(["ed25519", "p256"]), seeds)


def rate_limits(*, capacity_max: int = RATE_CAPACITY_MAX) -> st.SearchStrategy[Any]:
    """Return limits of up to four windows of different lengths."""
    windows = st.builds(
        RateWindow,
        capacity=st.integers(1, capacity_max),
        seconds=st.integers(1, RATE_SECONDS_MAX),
    )
    return st.lists(
        windows, max_size=RATE_WINDOWS_MAX, unique_by=lambda window: window.seconds
    ).map(tuple)


def from_schema(schema: Any) -> st.SearchStrategy[Any]:
    """Return values that a schema can write."""
    match schema:
        case Integer():
            edges = [schema.minimum, schema.maximum]
            return st.one_of(st.integers(schema.minimum, schema.maximum), st.sampled_from(edges))
        case Boolean():
            return st.booleans()
        case Blob():
            largest = max(schema.minimum, min(schema.maximum, BLOB_SIZE))
            return st.binary(min_size=schema.minimum, max_size=largest)
        case Text():
            return _texts(schema.minimum, schema.maximum, schema.pattern)
        case Word():
            return st.sampled_from(schema.words)
        case Limits():
            return rate_limits()
        case Optional():
            return st.none() | from_schema(schema.item)
        case ListOf():
            largest = max(schema.minimum, min(schema.maximum, LIST_SIZE))
            return st.lists(
                from_schema(schema.item), min_size=schema.minimum, max_size=largest
            ).map(tuple)
        case Record():
            fields = {name: from_schema(field) for name, field in schema.fields.items()}
            return st.builds(schema.make, **fields)
        case Tagged():
            return st.one_of([from_schema(record) for record in schema.records.values()])
        case _:
            raise AssertionError(f"no strategy for {schema}")


def payloads() -> st.SearchStrategy[Any]:
    """Return payloads of transactions; kinds and bodies are arbitrary."""
    return from_schema(PAYLOAD)


def items() -> st.SearchStrategy[Any]:
    """Return what the canonical encoding can hold: nested lists of its scalars."""
    scalars = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.binary(max_size=300),
        st.text(max_size=40),
    )
    return st.recursive(scalars, lambda inner: st.lists(inner, max_size=6), max_leaves=20)


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """Return `data` with bytes changed, cut out, repeated or put in."""

    def change(edit: tuple[str, int, int, bytes]) -> bytes:
        what, start, length, new = edit
        start %= len(data) + 1
        end = min(len(data), start + length)
        if what == "replace":
            return data[:start] + new + data[start + len(new) :]
        if what == "cut":
            return data[:start] + data[end:]
        if what == "repeat":
            return data[:end] + data[start:]
        return data[:start] + new + data[start:]

    edits = st.tuples(
        st.sampled_from(["replace", "cut", "repeat", "insert"]),
        st.integers(0, 2**16),
        st.integers(1, 8),
        st.binary(min_size=1, max_size=4),
    )
    return edits.map(change)


def _texts(minimum: int, maximum: int, pattern: re.Pattern[str] | None) -> st.SearchStrategy[str]:
    if pattern is None:
        texts = st.text(min_size=minimum, max_size=min(maximum, BLOB_SIZE))
    else:
        texts = st.from_regex(pattern, fullmatch=True)
    return texts.filter(lambda text: minimum <= len(text.encode()) <= maximum)
