"""Request bodies, bounded before they are kept, and the transactions in them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web

from chain import codec
from chain.errors import DecodeError
from chain.kinds import KINDS
from chain.schema import Blob
from chain.transactions import PAYLOAD, Transaction, attach_signature
from chain.types import SIGNATURE_SIZE, Signature
from node.rpc.errors import Busy, RequestTimeout, TooLarge, UnsupportedMediaType
from node.rpc.limits import BATCH_SIZE_MAX, BATCH_TRANSACTIONS_MAX

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"

_SIGNATURE: Final = Blob(SIGNATURE_SIZE)
_FIELDS: Final = (*PAYLOAD.fields, "signature")


class Bodies:
    """All request bodies in memory, under one bound.

    Parameters
    ----------
    size_max : int
        Their bytes together; a body that finds no room is refused with `Busy`.
    timeout_ms : int
        For one body to arrive.
    """

    def __init__(self, *, size_max: int, timeout_ms: int) -> None:
        self._size_max = size_max
        self._timeout_ms = timeout_ms
        self.size = 0

    @asynccontextmanager
    async def read(self, request: web.Request, size_max: int) -> AsyncIterator[bytes]:
        """Yield the body of `request`; its room is taken until the block ends.

        Raises
        ------
        TooLarge, UnsupportedMediaType, RequestTimeout, Busy
        """
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise UnsupportedMediaType("a body comes without Content-Encoding")
        if (request.content_length or 0) > size_max:
            raise TooLarge(f"{request.content_length} bytes, at most {size_max} are allowed")
        body = bytearray()
        try:
            async with asyncio.timeout(self._timeout_ms / 1000):
                async for chunk in request.content.iter_any():
                    if len(body) + len(chunk) > size_max:
                        raise TooLarge(f"more than {size_max} bytes")
                    if self.size + len(chunk) > self._size_max:
                        raise Busy("too many request bodies are under way")
                    body += chunk
                    self.size += len(chunk)
            yield bytes(body)
        except TimeoutError as error:
            raise RequestTimeout(f"the body did not arrive within {self._timeout_ms} ms") from error
        finally:
            self.size -= len(body)


def media_type(request: web.Request) -> str:
    """Return ``application/msgpack`` or ``application/json``; raises `UnsupportedMediaType`."""
    found = request.content_type
    if found not in (JSON, MSGPACK):
        raise UnsupportedMediaType(f"Content-Type is {MSGPACK} or {JSON}")
    return found


def decode_batch(body: bytes) -> list[bytes]:
    """Read a batch of canonical transactions, each still unread; raises `DecodeError`."""
    items = codec.decode(
        body, what="batch", size_max=BATCH_SIZE_MAX, items_max=BATCH_TRANSACTIONS_MAX
    )
    wires = [item for item in items if type(item) is bytes]
    if not wires or len(wires) != len(items):
        raise DecodeError("batch", f"not an array of 1 to {BATCH_TRANSACTIONS_MAX} byte strings")
    return wires


def parse_json_batch(body: bytes) -> list[object]:
    """Read a batch in JSON, each transaction still unread; raises `DecodeError`."""
    items = parse_json(body, "batch")
    if not isinstance(items, list) or not 1 <= len(items) <= BATCH_TRANSACTIONS_MAX:
        raise DecodeError("batch", f"not a list of 1 to {BATCH_TRANSACTIONS_MAX} transactions")
    return items


def parse_json(data: bytes | str, where: str) -> object:
    """Read JSON; raises `DecodeError` for what is none.

    Nor are NaN, nesting without end, and an object with two members of one name: readers differ in
    which of them they take, and what was checked elsewhere would not be what is signed here.
    """
    try:
        text = data if isinstance(data, str) else data.decode()
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object_of_pairs)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise DecodeError(where, f"not JSON ({reason[:100]})") from error


def parse_transaction(document: object) -> Transaction:
    """Read the JSON form of a transaction.

    Raises
    ------
    DecodeError
        It is malformed; nothing is said of its signature.
    """
    if not isinstance(document, dict):
        raise DecodeError("transaction", "not an object")
    for name in document:
        if name not in _FIELDS:
            raise DecodeError(f"transaction.{name[:40]}", "unknown field")
    word = document.get("kind")
    kind = KINDS.get(word) if isinstance(word, str) else None
    if kind is None:
        raise DecodeError("transaction.kind", f"not one of {', '.join(KINDS)}")
    body = kind.body.encode(kind.body.parse(document.get("body"), "transaction.body"))
    fields = {name: document.get(name) for name in PAYLOAD.fields}
    payload = PAYLOAD.parse({**fields, "body": body.hex()}, "transaction")
    signature = _SIGNATURE.parse(document.get("signature"), "transaction.signature")
    return attach_signature(payload, Signature(signature))


def render_transaction(transaction: Transaction) -> dict[str, Any]:
    """Return the JSON form; a body that no kind can read stays hex."""
    rendered = PAYLOAD.render(transaction.payload)
    kind = KINDS.get(transaction.payload.kind)
    if kind is not None:
        try:
            rendered["body"] = kind.body.render(kind.decode(transaction))
        except DecodeError:
            rendered["body"] = transaction.payload.body.hex()
    return {**rendered, "signature": transaction.signature.hex()}


def _object_of_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"member {twice[:40]!r} is given twice")
    return members


def _refuse_constant(word: str) -> object:
    raise ValueError(f"{word} is no number")
