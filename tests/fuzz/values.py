"""Valid values of a schema, drawn from a seed: what the mutations begin with."""

from random import Random
from typing import Any

from chain.limits import Limits, RateWindow
from chain.schema import Blob, Boolean, Integer, ListOf, Optional, Record, Tagged, Text, Word
from consensus.codec import DigestList

LIST_SIZE = 3
BLOB_SIZE = 80


def drawn(schema: Any, random: Random) -> Any:
    """Return a value that `schema` can write."""
    match schema:
        case Integer():
            middle = random.randint(schema.minimum, schema.maximum)
            return random.choice((schema.minimum, middle, min(schema.maximum, 1_000)))
        case Boolean():
            return random.random() < 0.5
        case Blob():
            return random.randbytes(
                random.randint(schema.minimum, max(schema.minimum, min(schema.maximum, BLOB_SIZE)))
            )
        case Text():
            return "a" * random.randint(max(schema.minimum, 1), min(schema.maximum, 12))
        case Word():
            return random.choice(schema.words)
        case Limits():
            return (RateWindow(capacity=10, seconds=1), RateWindow(capacity=300, seconds=60))
        case Optional():
            return None if random.random() < 0.3 else drawn(schema.item, random)
        case ListOf():
            size = random.randint(max(schema.minimum, 1), max(schema.minimum, LIST_SIZE))
            return tuple(drawn(schema.item, random) for _ in range(min(size, schema.maximum)))
        case DigestList():
            return tuple(random.randbytes(32) for _ in range(random.randint(0, LIST_SIZE)))
        case Record():
            return schema.make(
                **{name: drawn(field, random) for name, field in schema.fields.items()}
            )
        case Tagged():
            return drawn(random.choice(list(schema.records.values())), random)
        case _:
            raise AssertionError(f"nothing to draw for {schema}")
