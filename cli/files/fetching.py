"""Fetching a file: proven by the chain, decrypted, and there whole or not at all.

What has come is kept beside the place of the file, decrypted and readable by its owner alone, until
it is whole; a later call goes on from there. Encryption has one outcome for each chunk, so that the
root is computed over what was kept as well as over what comes.
"""

import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import BinaryIO, Final

from chain.blobs import CHUNK_SIZE, blob_digest
from chain.chunks import PLAIN_CHUNK_SIZE, FileCipher
from chain.errors import DecodeError, InvalidChunk, InvalidProof, NotAReader
from chain.kinds.device_data import file_of
from chain.manifests import MANIFEST_SIZE_MAX, Manifest, decode_manifest
from chain.merkle import leaf_hash, root_of_hashes
from chain.payloads import Chunked
from chain.reader_keys import ReaderKey
from chain.types import Digest
from cli.arguments import check_out
from cli.client import Client, Document
from cli.errors import AlreadyThere, BadInput, Missed, NotForThisKey
from cli.files.notes import chunk_bar
from cli.proofs import proofs_hold, prove_transaction
from node.storage.files import FILE_MODE, storage_error, sync_directory

ASK_ANOTHER: Final = "fetch it from another node (--rpc)"


async def fetch_file(
    client: Client, id: Digest, *, reader: ReaderKey | None, out: Path, trust: Digest | None
) -> Document:
    """Write the file that a transaction names to `out`, and return what it is.

    Parameters
    ----------
    trust : Digest or None
        As for `cli.proofs.prove_transaction`.

    Raises
    ------
    AlreadyThere
        `out` is.
    BadInput
        The transaction names no file.
    Missed
        The node sends something else than what the transaction names.
    NotForThisKey
        The file is not encrypted for `reader`.
    Refused, Unreachable
        The node does not hold all of it, or the connection breaks; a later call goes on.
    StorageError
        The disk refused; a later call goes on.
    """
    check_out(out)
    with proofs_hold():
        proven = await prove_transaction(client, id, trust=trust)
    file = file_of(proven.transaction)
    if file is None:
        raise BadInput(
            f"transaction {id.hex()} names no file", "see what it is: securenet tx show ID"
        )
    manifest = await _manifest(client, file)
    try:
        content_key = manifest.open(reader)
        name = manifest.open_name(content_key)
    except NotAReader as error:
        raise NotForThisKey(str(error)) from error
    except InvalidProof as error:
        raise Missed(str(error), "ask its sender: nobody else could have made it so") from error
    draft = out.with_name(f".{out.name}.{file.chunks.hex()[:16]}.part")
    try:
        await _write(client, file, FileCipher(content_key, manifest.size_bytes), draft)
        os.link(draft, out)
        draft.unlink()
        sync_directory(out.parent)
    except FileExistsError as error:
        raise AlreadyThere(out) from error
    except OSError as error:
        raise storage_error(out, error) from error
    return {
        "id": id.hex(),
        "device": proven.transaction.payload.sender.hex(),
        "height": int(proven.header.height),
        "trusted_height": None if proven.trusted is None else int(proven.trusted.height),
        "name": name,
        "size": manifest.size_bytes,
        "readers": len(manifest.readers),
        "file": str(out),
    }


async def _manifest(client: Client, file: Chunked) -> Manifest:
    data = b""
    async for part in client.blob(file.manifest.hex()):
        data += part
        if len(data) > MANIFEST_SIZE_MAX:
            break
    if blob_digest(data or b"\0") != file.manifest:
        raise Missed("the node sent another manifest than the transaction names", ASK_ANOTHER)
    try:
        manifest = decode_manifest(data)
        manifest.check(root=file.root, size=file.size_bytes)
    except (DecodeError, InvalidProof) as error:
        raise Missed(
            f"the transaction names no manifest of its chunks: {error}",
            "ask its sender: nobody else could have made it so",
        ) from error
    return manifest


async def _write(client: Client, file: Chunked, cipher: FileCipher, draft: Path) -> None:
    """Bring a draft to its whole, and prove it."""
    with _open(draft) as kept, chunk_bar("fetching", cipher.count) as advance:
        leaves = _go_on(kept, cipher, advance)
        if len(leaves) < cipher.count:
            await _append(client, file, cipher, kept, leaves, advance)
        kept.flush()
        os.fsync(kept.fileno())
    if root_of_hashes(leaves) != file.root:
        # A reader can make chunks that pass for the file's one by one, and anybody can change what
        # lies on the disk.
        draft.unlink()
        raise Missed("the chunks are not those that the transaction names", ASK_ANOTHER)


def _open(draft: Path) -> BinaryIO:
    """Open a draft for reading and writing; it is made where there is none."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return open(os.open(draft, flags, FILE_MODE), "r+b")


def _go_on(kept: BinaryIO, cipher: FileCipher, advance: Callable[[], None]) -> list[Digest]:
    """Return the leaves of the chunks that an earlier attempt has left, and cut off the rest."""
    leaves: list[Digest] = []
    while len(leaves) < cipher.count:
        size = cipher.plain_size(len(leaves))
        data = kept.read(size)
        if len(data) < size or not size:
            break
        leaves.append(leaf_hash(cipher.seal(len(leaves), data)))
        advance()
    kept.seek(len(leaves) * PLAIN_CHUNK_SIZE)
    kept.truncate(min(len(leaves) * PLAIN_CHUNK_SIZE, cipher.size))
    return leaves


async def _append(
    client: Client,
    file: Chunked,
    cipher: FileCipher,
    kept: BinaryIO,
    leaves: list[Digest],
    advance: Callable[[], None],
) -> None:
    """Fetch the chunks that are missing, decrypt each and write it behind the others."""
    try:
        async for chunk in _chunks(client, file, len(leaves)):
            kept.write(cipher.open(len(leaves), chunk))
            leaves.append(leaf_hash(chunk))
            advance()
    except InvalidChunk as error:
        raise Missed(str(error), ASK_ANOTHER) from error
    if len(leaves) != cipher.count:
        raise Missed(f"the node sent {len(leaves)} of {cipher.count} chunks", ASK_ANOTHER)


async def _chunks(client: Client, file: Chunked, first: int) -> AsyncGenerator[bytes, None]:
    """Yield the encrypted chunks from `first` on."""
    buffer = bytearray()
    async for part in client.blob(file.chunks.hex(), start=first * CHUNK_SIZE):
        buffer += part
        while len(buffer) >= CHUNK_SIZE:
            yield bytes(buffer[:CHUNK_SIZE])
            del buffer[:CHUNK_SIZE]
    if buffer:
        yield bytes(buffer)
