"""Sending a file: cut, encrypt, register, hand in; what breaks off is gone on with.

The file is read twice: to learn the root that the transaction names, and to send the chunks, which
no disk holds in between. What the second reading needs is noted beside the file before anything is
sent, so that the same command does the rest after a break, under the same transaction.
"""

from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from chain.blobs import blob_digest
from chain.chunks import CONTENT_KEY_SIZE, FILE_SIZE_MAX, FileCipher, sealed_size
from chain.errors import DecodeError
from chain.kinds.device_data import DeviceData, file_of
from chain.manifests import MANIFEST, MANIFEST_SIZE_MAX, READERS_MAX, make_manifest
from chain.merkle import leaf_hash, root_of_hashes
from chain.payloads import Chunked
from chain.reader_keys import READER_KEY_SIZE
from chain.schema import Blob, Integer, ListOf, Record
from chain.transactions import TRANSACTION_SIZE_MAX, Transaction, decode_transaction
from chain.types import Address
from cli.client import Client, Document, Stream
from cli.errors import BadInput, Refused, Unreachable
from cli.files.notes import chunk_bar, load_private
from cli.signing import COMMIT_TIMEOUT_S, Sender, submit
from node.files import replace_file
from node.random_source import SystemRandom

NOTE_SIZE_MAX: Final = 128 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What is known of a file whose sending has begun.

    Parameters
    ----------
    transaction : bytes
        The signed transaction that names it.
    content_key, manifest : bytes
        With what it is encrypted, and for whom.
    size_bytes, modified_ns : int
        By which a file that was changed since is told.
    readers : tuple of bytes
        Their public keys.
    """

    transaction: bytes
    content_key: bytes = field(repr=False)
    manifest: bytes
    size_bytes: int
    modified_ns: int
    readers: tuple[bytes, ...]

    @property
    def named(self) -> tuple[Transaction, Chunked]:
        """The transaction and what it names."""
        transaction = decode_transaction(self.transaction)
        file = file_of(transaction)
        if file is None:
            raise DecodeError("note.transaction", "it names no file")
        return transaction, file


NOTE: Final = Record(
    Note,
    transaction=Blob(1, TRANSACTION_SIZE_MAX),
    content_key=Blob(CONTENT_KEY_SIZE),
    manifest=Blob(1, MANIFEST_SIZE_MAX),
    size_bytes=Integer(0, FILE_SIZE_MAX),
    modified_ns=Integer(-(2**63), 2**63 - 1),
    readers=ListOf(Blob(READER_KEY_SIZE), READERS_MAX),
)


async def send_file(
    client: Client, sender: Sender, path: Path, *, readers: Sequence[bytes]
) -> Document:
    """Register a file and hand it in; return what became of the transaction.

    Parameters
    ----------
    readers : sequence of bytes
        Public keys of those who may read it; without any, everybody may.

    Raises
    ------
    BadInput
        It cannot be read, is too large, or has changed since its sending began.
    Refused, TimedOut, Unreachable
        The node does not take it. The same call goes on from there.
    """
    size, modified_ns = _look(path)
    noted = path.with_name(f".{path.name}.sending")
    now = (sender.address, size, modified_ns, tuple(readers))
    note = await _resumed(client, noted, path, now)
    if note is None:
        note = _begin(sender, path, size, modified_ns, readers)
        replace_file(noted, NOTE.encode(note))
        outcome = await submit(client, note.named[0], wait=True)
    else:
        note, outcome = await _register_again(client, sender, noted, note)
    await _hand_in(client, path, note)
    noted.unlink(missing_ok=True)
    return outcome


async def _resumed(
    client: Client, noted: Path, path: Path, now: tuple[Address, int, int, tuple[bytes, ...]]
) -> Note | None:
    """Return the note of a sending that broke off; None where there is none worth going on with."""
    data = load_private(noted, NOTE_SIZE_MAX)
    if data is None:
        return None
    try:
        note = NOTE.decode(data, what="note", size_max=NOTE_SIZE_MAX)
        transaction, _ = note.named
    except DecodeError as error:
        raise BadInput(
            f"{noted} is no note of a sending: {error}", "remove it and send the file anew"
        ) from error
    device = transaction.payload.sender
    if (device, note.size_bytes, note.modified_ns, note.readers) == now:
        return note
    if await _status(client, transaction) not in ("pending", "committed"):
        return None  # nothing has come of it
    raise BadInput(
        f"{path} is registered as {transaction.id.hex()} of device {device.hex()} and not handed "
        "in yet, but has changed since, or now comes from another device or for other readers",
        f"put the file back and name the same key and readers; or remove {noted} to send it anew",
    )


def _begin(
    sender: Sender, path: Path, size: int, modified_ns: int, readers: Sequence[bytes]
) -> Note:
    content_key = SystemRandom().bytes(CONTENT_KEY_SIZE)
    cipher = FileCipher(content_key, size)
    with chunk_bar("encrypting", cipher.count) as advance:
        leaves = []
        for chunk in _sealed(path, cipher):
            leaves.append(leaf_hash(chunk))
            advance()
    root = root_of_hashes(leaves)
    manifest = MANIFEST.encode(
        make_manifest(
            content_key,
            size=size,
            root=root,
            readers=readers,
            name=path.name.encode(errors="replace").decode(),
            random=SystemRandom().bytes,
        )
    )
    file = Chunked(root=root, size_bytes=sealed_size(size), manifest=blob_digest(manifest))
    return Note(
        transaction=sender.sign("device.data", DeviceData(payload=file)).wire,
        content_key=content_key,
        manifest=manifest,
        size_bytes=size,
        modified_ns=modified_ns,
        readers=tuple(readers),
    )


async def _register_again(
    client: Client, sender: Sender, noted: Path, note: Note
) -> tuple[Note, Document]:
    """Bring the transaction of an earlier attempt onto the chain, signed anew where it is gone."""
    transaction, file = note.named
    id = transaction.id.hex()
    if await _status(client, transaction) in ("pending", "committed"):
        return note, await client.wait_committed(id, timeout_s=COMMIT_TIMEOUT_S)
    again = sender.sign("device.data", DeviceData(payload=file))
    note = replace(note, transaction=again.wire)
    replace_file(noted, NOTE.encode(note))
    return note, await submit(client, again, wait=True)


async def _status(client: Client, transaction: Transaction) -> str:
    return str((await client.transaction(transaction.id.hex()))["status"])


async def _hand_in(client: Client, path: Path, note: Note) -> None:
    """Bring the manifest and the chunks to the node, unless it holds them."""
    _, file = note.named
    await client.put_blob(file.manifest.hex(), note.manifest)
    if await client.has_blob(file.chunks.hex()):
        return
    cipher = FileCipher(note.content_key, note.size_bytes)
    changed: list[BadInput] = []
    with chunk_bar("sending", cipher.count) as advance:

        async def parts() -> AsyncGenerator[bytes, None]:
            try:
                for chunk in _sealed(path, cipher):
                    yield chunk
                    advance()
            except BadInput as error:
                # Within a request it would become an error of the connection.
                changed.append(error)
                raise

        try:
            body = Stream(size=file.size_bytes, parts=parts)
            await client.put_blob(file.chunks.hex(), body)
        except (Unreachable, Refused) as error:
            if changed:
                raise changed[0] from error
            if isinstance(error, Refused) and error.code == "wrong_digest":
                raise _changed(path) from error
            raise


def _look(path: Path) -> tuple[int, int]:
    """Return the size of a file and when it was changed last."""
    try:
        found = path.stat()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}", "name another file") from error
    if not path.is_file():
        raise BadInput(f"{path} is no file", "name a file")
    if found.st_size > FILE_SIZE_MAX:
        raise BadInput(
            f"{path} has {found.st_size} bytes", f"a file has at most {FILE_SIZE_MAX}; cut it"
        )
    return found.st_size, found.st_mtime_ns


def _sealed(path: Path, cipher: FileCipher) -> Iterator[bytes]:
    """Yield the encrypted chunks of a file, of which one at a time is in memory."""
    try:
        with path.open("rb") as file:
            for index in range(cipher.count):
                data = file.read(cipher.plain_size(index))
                if len(data) != cipher.plain_size(index):
                    raise _changed(path)
                yield cipher.seal(index, data)
            if file.read(1):
                raise _changed(path)
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read: {error.strerror}", "see to it and repeat"
        ) from error


def _changed(path: Path) -> BadInput:
    return BadInput(f"{path} changes while it is sent", "send a copy that nobody writes to")
