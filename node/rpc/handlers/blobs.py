"""Blobs by digest: read in parts, written by streaming, one chunk in memory for each request.

Bytes that the chain names are taken from anyone, for they prove themselves and the chain bounds
them. Others are taken from this machine alone, and within the bounds of the store.
"""

import asyncio
from typing import Any

import structlog
from aiohttp import web

from chain.blobs import CHUNK_SIZE, chunk_count
from chain.errors import InvalidProof
from chain.types import Digest
from node.addresses import accountable, is_loopback
from node.blobs.store import BlobStore, Draft, Entry
from node.errors import BlobRefused, DiskFull
from node.rpc.context import Rpc
from node.rpc.errors import (
    LengthRequired,
    MalformedRequest,
    NotFound,
    RangeNotSatisfiable,
    RequestTimeout,
    UploadForbidden,
    WrongDigest,
)
from node.rpc.paging import Query, parse_id

OCTETS = "application/octet-stream"

log = structlog.get_logger(__name__)


async def blob(rpc: Rpc, request: web.Request, query: Query) -> web.StreamResponse:
    """Answer a blob, or one range of its bytes."""
    digest = parse_id(request.match_info["id"], "id")
    store = rpc.node.blobs
    entry = store.find(digest)
    if entry is None:
        raise NotFound(f"blob {digest.hex()} is not held here")
    start, stop = _range(request, entry.size)
    # Whatever is wrong with it is told before anything is sent.
    data = await _read(rpc, digest, start)
    response = web.StreamResponse(
        status=200 if stop - start == entry.size else 206,
        headers={
            "Accept-Ranges": "bytes",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        },
    )
    if response.status == 206:
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{entry.size}"
    response.content_type = OCTETS
    response.content_length = stop - start
    await response.prepare(request)
    while request.method != "HEAD" and start < stop:
        offset = start % CHUNK_SIZE
        part = data[offset : offset + stop - start]
        await response.write(part)
        start += len(part)
        if start < stop:
            data = await _read(rpc, digest, start)
    await response.write_eof()
    return response


async def put_blob(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Take a blob in, whole and proven, or not at all."""
    digest = parse_id(request.match_info["id"], "id")
    store = rpc.node.blobs
    entry = store.find(digest)
    if entry is not None:
        return _describe(digest, entry)
    host = request.remote or ""
    is_local = is_loopback(host)
    if store.size_max(digest) is None and not is_local:
        raise UploadForbidden(
            "the chain does not name this blob, or its device has no share left in this node's "
            "store; hand it in on the node's machine"
        )
    size = request.content_length
    if size is None:
        raise LengthRequired("Content-Length says how many bytes a blob has")
    if size == 0:
        raise MalformedRequest("a blob has at least one byte")
    source, is_named = accountable(host), digest in store.named
    async with rpc.uploads.turn(source, is_local=is_local, is_named=is_named):
        try:
            draft = await rpc.reader.run(_begin, store, size, source, digest)
            await _take(rpc, request, draft, digest)
        except DiskFull as error:
            log.warning("no room for a blob", reason=str(error))
            raise BlobRefused("blobs_full", "the node's disk is full") from error
    log.info("blob taken in", digest=digest.hex(), size=size)
    return _describe(digest, draft.entry)


async def _take(rpc: Rpc, request: web.Request, draft: Draft, digest: Digest) -> None:
    """Write the body of a request to a draft and hold it; a draft that fails is gone."""
    store = rpc.node.blobs
    is_held = False
    buffer = bytearray()
    index = 0
    try:
        while index < len(draft.hashes):
            # The bound is for each chunk: a large blob may take its time.
            async with asyncio.timeout(rpc.limits.body_timeout_ms / 1000):
                while len(buffer) < CHUNK_SIZE and (part := await request.content.readany()):
                    buffer += part
            chunk = bytes(buffer[:CHUNK_SIZE])
            if len(chunk) < min(CHUNK_SIZE, draft.entry.size - index * CHUNK_SIZE):
                raise MalformedRequest("the body is shorter than its Content-Length")
            del buffer[:CHUNK_SIZE]
            await rpc.reader.run(draft.write, index, chunk)
            index += 1
        await rpc.reader.run(store.finish, draft, digest)
        is_held = True
    except InvalidProof as error:
        raise WrongDigest(str(error)) from error
    except TimeoutError as error:
        limit = rpc.limits.body_timeout_ms
        raise RequestTimeout(f"a chunk did not arrive within {limit} ms") from error
    finally:
        if not is_held:
            await rpc.reader.run(store.abandon, draft)


async def _read(rpc: Rpc, digest: Digest, start: int) -> bytes:
    data: bytes | None = await rpc.reader.run(rpc.node.blobs.read, digest, start // CHUNK_SIZE)
    if data is None:
        # It was swept meanwhile.
        raise NotFound(f"blob {digest.hex()} is not held here")
    return data


def _begin(store: BlobStore, size: int, source: str, digest: Digest) -> Draft:
    return store.begin_upload(size, source=source, digest=digest)


def _range(request: web.Request, size: int) -> tuple[int, int]:
    """Return the bytes asked for: from, and up to but not with."""
    try:
        start, stop, _ = request.http_range.indices(size)
    except ValueError as error:
        raise MalformedRequest("Range: not one range of bytes") from error
    if start >= stop:
        raise RangeNotSatisfiable(f"the blob has {size} bytes")
    return start, stop


def _describe(digest: Digest, entry: Entry) -> dict[str, Any]:
    return {"id": digest.hex(), "size": entry.size, "chunks": chunk_count(entry.size)}
