"""Archives of blocks in files: written from a store, checked, and taken into one.

One frame is in memory at a time. What an archive is and when it is true, `chain.archive` and
`chain.archive_check` say.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from chain.archive import (
    FILE_HEADER,
    FRAME_HEAD,
    ArchivedBlock,
    Begin,
    End,
    Frame,
    FrameReader,
    encode_archive,
)
from chain.archive_check import ArchiveCheck
from chain.blocks import HEADER, Header
from chain.errors import (
    DecodeError,
    InvalidArchive,
    InvalidBlock,
    InvalidCertificate,
    WrongChain,
)
from chain.genesis import GENESIS, Genesis
from chain.light_client import verify_header
from chain.miners import encode_miners
from chain.state import miner_sets_of
from chain.transition import check_block
from chain.types import Digest
from node.errors import ArchiveGap, BadArchive, Pruned
from node.files import new_file
from node.storage.chain_store import ChainStore
from node.storage.files import storage_error

Progress = Callable[[int], None]
"""Told the height of each block that is done."""

_READ_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSummary:
    """What an archive holds.

    Parameters
    ----------
    is_executed : bool
        Whether its blocks were executed, so that the states are proven as well.
    """

    genesis: Genesis
    first: int
    last: Header
    is_executed: bool


def export_archive(
    chain: ChainStore,
    path: Path,
    *,
    first: int,
    last: int,
    progress: Progress = lambda height: None,
) -> int:
    """Write blocks `first` to `last` to a new file, and return its size in bytes.

    The file is there whole or not at all.

    Raises
    ------
    FileTaken
        It exists already.
    Pruned
        A block is not whole any more.
    StorageError
        The disk refused, or a block is damaged.
    """
    size = 0
    with new_file(path) as file:
        for piece in encode_archive(_frames(chain, first, last, progress)):
            file.write(piece)
            size += len(piece)
    return size


def read_begin(path: Path) -> Begin:
    """Return what an archive says of itself; raises as `verify_archive`."""
    frames = _read(path)
    begin = next(frames)
    frames.close()
    assert isinstance(begin, Begin), "the reader takes no other first"
    return begin


def verify_archive(
    path: Path,
    *,
    genesis: Genesis | None = None,
    trusted: Digest | None = None,
    execute: bool = True,
    progress: Progress = lambda height: None,
) -> ArchiveSummary:
    """Check an archive from its beginning to its end; parameters as of `ArchiveCheck`.

    Raises
    ------
    BadArchive
        It is damaged, or proves nothing.
    WrongChain
        It is of another chain than `genesis`.
    StorageError
        It cannot be read.
    """
    frames = _read(path)
    begin = next(frames)
    assert isinstance(begin, Begin), "the reader takes no other first"
    try:
        check = ArchiveCheck(begin, genesis=genesis, trusted=trusted, execute=execute)
        for frame in frames:
            if isinstance(frame, End):
                check.end(frame)
            elif isinstance(frame, ArchivedBlock):
                block, _ = check.take(frame)
                progress(block.header.height)
    except InvalidArchive as error:
        raise BadArchive(path, str(error)) from error
    except WrongChain as error:
        raise WrongChain(f"{path} is of another chain") from error
    return ArchiveSummary(
        genesis=check.genesis,
        first=begin.first,
        last=check.header,
        is_executed=check.is_executed,
    )


def check_continues(path: Path, genesis: Genesis, tip: Header) -> None:
    """Check all of an archive that is to go on behind `tip`, the last header somewhere.

    Raises
    ------
    ArchiveGap
        It begins behind the next block.
    BadArchive, WrongChain, StorageError
        As in `verify_archive`; or it forks from what leads to `tip`.
    """
    begin = read_begin(path)
    if begin.first > tip.height + 1:
        raise ArchiveGap(path, first=begin.first, height=tip.height)
    if begin.genesis != GENESIS.encode(genesis):
        raise WrongChain(f"{path} is of another chain")
    if begin.last >= tip.height:
        verify_archive(path, genesis=genesis, trusted=tip.hash, execute=False)


async def import_archive(
    chain: ChainStore, path: Path, *, progress: Progress = lambda height: None
) -> int:
    """Take the blocks of an archive that the store has not, and return how many those were.

    All of the archive is checked before anything is written. Then each block is executed and
    committed as any other: interrupted, the store ends with some block, and a second call goes on.

    Raises
    ------
    ArchiveGap, BadArchive, WrongChain, StorageError
        As in `check_continues`.
    """
    check_continues(path, chain.genesis, chain.tip.header)
    count = 0
    for archived in _read(path):
        if isinstance(archived, ArchivedBlock) and await _take(chain, path, archived):
            count += 1
            progress(chain.height)
    return count


async def _take(chain: ChainStore, path: Path, archived: ArchivedBlock) -> bool:
    """Commit a block unless the store has it; tell whether it was committed."""
    try:
        block, certificate = archived.decode()
        if block.header.height <= chain.height:
            return False
        # Checked once more: the file may be another than a moment ago.
        miners, _ = miner_sets_of(chain.state)
        verify_header(block.header, certificate, miners)
        execution = check_block(chain.tip, block, lambda transaction, key: True)
    except (DecodeError, InvalidBlock, InvalidCertificate) as error:
        raise BadArchive(path, f"block {chain.height + 1}: {error}") from error
    await chain.commit(execution, block, certificate)
    return True


def _frames(chain: ChainStore, first: int, last: int, progress: Progress) -> Iterator[Frame]:
    header = _header(chain, first - 1)
    yield Begin(
        genesis=GENESIS.encode(chain.genesis),
        first=first,
        last=last,
        parent=HEADER.encode(header),
        miners=_miners(chain, header.next_miner_set_hash),
    )
    for height in range(first, last + 1):
        stored = chain.encoded(height)
        receipts = chain.encoded_receipts(height)
        header = _header(chain, height)
        if stored is None or receipts is None:
            raise Pruned(f"block {height}", first=chain.whole_from)
        changes = header.next_miner_set_hash != header.miner_set_hash
        yield ArchivedBlock(
            block=stored[0],
            certificate=stored[1],
            receipts=receipts,
            next_miners=_miners(chain, header.next_miner_set_hash) if changes else None,
        )
        progress(height)
    yield End(count=last + 1 - first, tip=header.hash)


def _header(chain: ChainStore, height: int) -> Header:
    header = chain.header(height)
    if header is None:
        raise Pruned(f"header of block {height}", first=chain.whole_from)
    return header


def _miners(chain: ChainStore, set_hash: Digest) -> bytes:
    miners = chain.miners(set_hash)
    if miners is None:
        raise Pruned(f"miner set {set_hash.hex()}", first=chain.whole_from)
    return encode_miners(miners)


def _read(path: Path) -> Generator[Frame, None, None]:
    """Yield the frames of a file."""
    try:
        with path.open("rb") as file:
            reader = FrameReader()
            try:
                reader.check_file_header(file.read(len(FILE_HEADER)))
                while True:
                    head = file.read(FRAME_HEAD.size)
                    frame = reader.decode(head, _piece(file, reader.size_of(head)))
                    yield frame
                    if isinstance(frame, End):
                        break
                if file.read(1):
                    raise DecodeError("archive", "the file goes on behind the archive's end")
            except DecodeError as error:
                raise BadArchive(path, error.reason) from error
    except OSError as error:
        raise storage_error(path, error) from error


def _piece(file: BinaryIO, size: int) -> bytes:
    """Read so many bytes, or what is left; a false size makes nothing be allocated."""
    parts: list[bytes] = []
    while size and (part := file.read(min(size, _READ_BYTES))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
