"""Blob stores in memory, and blobs to put into them."""

from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

from chain.blobs import CHUNK_SIZE, blob_digest
from chain.types import Digest
from node.blobs.store import BlobLimits, BlobStore
from node.ports import Files
from tests.simulation.disk import SimulatedDisk

NOW_MS = 1_700_000_000_000


def blob(size: int = 2 * CHUNK_SIZE + 1, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


def blob_store(
    files: Files | None = None, *, now_ms: int = NOW_MS, limits: BlobLimits | None = None
) -> BlobStore:
    clock: Any = SimpleNamespace(wall_ms=lambda: now_ms)
    return BlobStore(
        files or SimulatedDisk(Random(1)).files, path=Path("memory"), clock=clock, limits=limits
    )


def put(store: BlobStore, data: bytes, *, source: str = "here") -> Digest:
    digest = blob_digest(data)
    draft = store.begin_upload(len(data), source=source, digest=digest)
    for index in range(len(draft.hashes)):
        draft.write(index, data[index * CHUNK_SIZE : (index + 1) * CHUNK_SIZE])
    store.finish(draft, digest)
    return digest
