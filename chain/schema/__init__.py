"""Field types that say once how a value looks in bytes and in JSON, and what bounds it.

A schema reads what came from outside and writes what leaves: `read`/`write` for the arrays of the
canonical encoding, `parse`/`render` for JSON (byte strings as lower-case hex). Anything that does
not fit raises `DecodeError` with the path of the field.
"""

from chain.schema.composed import ListOf, Optional, Record, Tagged
from chain.schema.plain import MATCHED_TEXTS_MAX, Blob, Boolean, Integer, Schema, Text, Word

__all__ = [
    "MATCHED_TEXTS_MAX",
    "Blob",
    "Boolean",
    "Integer",
    "ListOf",
    "Optional",
    "Record",
    "Schema",
    "Tagged",
    "Text",
    "Word",
]
