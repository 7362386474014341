"""Hostile inputs: valid ones, changed as somebody would who knows the format.

An input is changed as a tree where it can be read as one (MessagePack or JSON, and MessagePack
within byte strings, as blocks hold headers and transactions hold payloads), and as plain bytes.
Equal seeds give equal inputs.
"""

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final, Literal

import msgpack

Form = Literal["msgpack", "json", "bytes"]

INTEGERS: Final = (
    *(0, 1, -1, 2, 3, 4, 99, 100, 255, 10_000),
    *(2**power + by for power in (7, 8, 15, 16, 31, 32, 48, 53, 63, 64) for by in (-1, 0, 1)),
    *(-(2**power) + by for power in (7, 15, 31, 63) for by in (-1, 0, 1)),
)
"""At the borders of encodings, of heights and times, and of the bounds of lists and indices."""
_HEADS: Final = (
    "c0 c1 c2 c3 80 81 90 91 9f a0 bf 7f ff e0 00 c400 c4ff c5ffff c6ffffffff c67fffffff",
    "d9ff daffff dbffffffff dc0000 dcffff dd00000000 ddffffffff dd00ffffff de0001 dfffffffff",
    "c70001 d401 ca7fc00000 cb7ff8000000000000 cc00 cd0000 ce00000000 cf0000000000000000",
    "cfffffffffffffffff d080 d38000000000000000",
)
HEADS: Final = (
    *(bytes.fromhex(head) for line in _HEADS for head in line.split()),
    *(b"\x91" * 1_100 + b"\xc0", b"\xdd\x00\x00\x01\x00" * 200),
)
"""Heads of MessagePack: lengths beyond the input, types that no record has, longer forms; deep."""
WORDS: Final = (
    *("", "prepare", "commit", "pre-prepare", "round-change", "flow", "reading", "rotate", "add"),
    *("remove", "device.data", "miner.vote", "10:1,300:60", "0:0", "1:2:3", "\x00", "ü" * 64),
    *("a" * 65, "a" * 300, "-1", "1e9", "NaN", "00", "ff" * 32, "../x", "\ud800"),
)
TEXT_TOKENS: Final = (
    *(b"{", b"}", b"[", b"]", b":", b",", b'"', b"'", b'"""', b"[[", b"#", b"=", b"\\", b"\\u0000"),
    *(b"\\ud800", b"null", b"true", b"NaN", b"Infinity", b"-0", b"1e999", b"0x1", b"9" * 5_000),
    *(b"\n", b"\r", b"\x00", b" ", b"\xef\xbb\xbf", b"\xff", b"[" * 2_000, b'{"a":' * 1_000),
)
NESTING: Final = (2, 15, 16, 17, 200, 1_100)
LARGE: Final = (2_000, 33_000, 70_000)
COUNTS: Final = (2, 16, 101, 257, 70_000)
EDITS_MAX: Final = 4
UNCHANGED: Final = 0.01
"""So many inputs are valid, between hostile ones."""

_packer: Final = msgpack.Packer(use_bin_type=True)


class Mutator:
    """Makes inputs out of `seeds`.

    Parameters
    ----------
    seeds : sequence of bytes
        Valid inputs, at least one.
    form : str
        How they are read as trees.
    """

    def __init__(self, seeds: Sequence[bytes], form: Form, random: Random) -> None:
        self._seeds = list(seeds)
        self._random = random
        self._write: Callable[[Any], bytes] = _packed if form == "msgpack" else _dumped
        read = _unpacked if form == "msgpack" else _loaded
        self._trees = [] if form == "bytes" else [read(seed) for seed in self._seeds]
        self._tokens = HEADS if form == "msgpack" else TEXT_TOKENS
        if form == "bytes":
            self._tokens = HEADS + TEXT_TOKENS

    def input(self) -> bytes:
        """Return the next one."""
        random = self._random
        if random.random() < UNCHANGED:
            return random.choice(self._seeds)
        edits = 1 + int(random.random() ** 3 * EDITS_MAX)
        if self._trees and random.random() < 0.7:
            tree = random.choice(self._trees)
            for _ in range(edits):
                tree = self._changed(tree)
            data = self._write(tree)
            if random.random() < 0.9:
                return data
        else:
            data = random.choice(self._seeds)
        for _ in range(edits):
            data = self._edited(data)
        return data

    def _changed(self, value: Any) -> Any:
        """Return `value` with one thing changed, somewhere in it."""
        random = self._random
        if type(value) is list:
            if not value or random.random() < 0.15:
                return self._relisted(value)
            index = random.randrange(len(value))
            return [*value[:index], self._changed(value[index]), *value[index + 1 :]]
        if type(value) is dict:
            if not value or random.random() < 0.15:
                return self._renamed(value)
            name = random.choice(list(value))
            return {**value, name: self._changed(value[name])}
        if type(value) is bytes and value:
            inner = _unpacked(value) if random.random() < 0.7 else None
            if type(inner) is list and inner:
                return _packed(self._changed(inner))
        return self._replaced(value)

    def _replaced(self, value: Any) -> Any:
        """Return something in the place of a leaf: near it, at a border, or of another type."""
        random = self._random
        if random.random() < 0.4:
            return self._anything()
        if type(value) is bool:
            return not value
        if type(value) is int:
            near = value + random.choice((-1, 1, -256, 256))
            return near if random.random() < 0.5 else random.choice(INTEGERS)
        if type(value) is bytes:
            return self._edited(value)
        if type(value) is str:
            if random.random() < 0.5:
                return random.choice(WORDS)
            return self._edited(value.encode("utf-8", "replace")).decode("utf-8", "replace")
        return self._anything()

    def _anything(self) -> Any:
        random = self._random
        match random.randrange(10):
            case 0:
                return random.choice((None, True, False))
            case 1 | 2:
                return random.choice(INTEGERS)
            case 3:
                return random.choice(WORDS)
            case 4:
                if random.random() < 0.02:
                    return bytes(random.choice(LARGE))
                return random.randbytes(random.choice((0, 1, 31, 32, 33, 63, 64, 65, 300)))
            case 5:
                return random.choice((0.0, -0.0, 1.5, 1e300, float("nan"), float("inf")))
            case 6:
                return random.choice(([], [[]], [None], {}, {"a": 1}, [0] * 300))
            case 7:
                return self._nested()
            case _:
                tree: Any = random.choice(self._trees) if self._trees else None
                while type(tree) in (list, dict) and tree and random.random() < 0.7:
                    tree = random.choice(list(tree.values() if type(tree) is dict else tree))
                return tree

    def _nested(self) -> Any:
        value: Any = []
        for _ in range(self._random.choice(NESTING)):
            value = [value]
        return value

    def _relisted(self, items: list[Any]) -> list[Any]:
        """Return a list with other items: fewer, more, many more, or in another order."""
        random = self._random
        index = random.randrange(len(items)) if items else 0
        match random.randrange(6):
            case 0:
                return items[:index]
            case 1:
                return [*items[:index], *items[index + 1 :]]
            case 2:
                return [*items[:index], self._anything(), *items[index:]]
            case 3:
                other = random.randrange(len(items)) if items else 0
                swapped = list(items)
                if items:
                    swapped[index], swapped[other] = swapped[other], swapped[index]
                return swapped
            case 4:
                return [*items, *items[index : index + 1]]
            case _:
                # Seldom, for they are slow to read.
                return items * random.choice(COUNTS if random.random() < 0.02 else COUNTS[:2])

    def _renamed(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return an object that lacks a field, has one more, or has two exchanged."""
        random = self._random
        changed = dict(fields)
        names = list(fields)
        match random.randrange(3):
            case 0 if names:
                del changed[random.choice(names)]
            case 1 if names:
                one, other = random.choice(names), random.choice(names)
                changed[one], changed[other] = fields[other], fields[one]
            case _:
                changed[random.choice((*WORDS, *names, "type"))] = self._anything()
        return changed

    def _edited(self, data: bytes) -> bytes:
        """Return `data` with some bytes changed."""
        random = self._random
        size = len(data)
        start = random.randrange(size + 1)
        stop = min(size, start + 1 + int(random.random() ** 2 * 16))
        match random.randrange(9):
            case 0 | 1 if start < size:
                return (
                    data[:start]
                    + bytes((data[start] ^ 1 << random.randrange(8),))
                    + data[start + 1 :]
                )
            case 2:
                return data[:start]
            case 3:
                return data[:start] + data[stop:]
            case 4:
                return data[:stop] + data[start:]
            case 5:
                return data[:start] + random.choice(self._tokens) + data[start:]
            case 6:
                token = random.choice(self._tokens)
                return data[:start] + token + data[start + len(token) :]
            case 7:
                other = random.choice(self._seeds)
                return data[:start] + other[random.randrange(len(other) + 1) :]
            case _:
                return data[:start] + random.randbytes(stop - start) + data[stop:]


def _packed(value: Any) -> bytes:
    try:
        packed: bytes = _packer.pack(value)
    except (ValueError, OverflowError, TypeError):
        return b"\xc1"  # deeper than the library writes, or an integer of more than 64 bits
    return packed


def _unpacked(data: bytes) -> Any:
    """Return the tree of `data`, or None where it is no canonical list."""
    if not (0x90 <= data[0] <= 0x9F or data[0] in (0xDC, 0xDD)):
        return None
    try:
        value = msgpack.unpackb(data, raw=False, max_ext_len=0)
        return value if _packer.pack(value) == data else None
    except (ValueError, TypeError, OverflowError):
        return None


def _dumped(value: Any) -> bytes:
    try:
        return json.dumps(value, default=lambda data: data.hex()).encode()
    except (RecursionError, ValueError):
        return b"[" * 2_000


def _loaded(data: bytes) -> Any:
    return json.loads(data)
