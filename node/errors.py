"""Errors of a node: the node's branch of the tree in :mod:`chain.errors`.

::

    NodeError
    ├── ConfigError            a configuration, or a home directory, nobody can start from
    │   └── FileTaken          a file of it would be overwritten
    ├── KeyFileError           a key file that cannot be made or used; ``path`` says which
    │   ├── WrongPassphrase    the passphrase is missing, or is not the one it was closed with
    │   └── WrongKey           a whole key, but not one with which this node can take part
    ├── NotSigned              a remote signer refuses, or cannot be reached
    ├── MempoolFull            no room for a transaction; ``retry_after_ms`` says when to try again
    ├── BlobRefused            a blob that is not taken in; ``code`` says why
    ├── LargerBlob             a blob that is larger than it is wanted; ``size`` says how large
    ├── MissingBlob            a blob that is needed and not held here; ``digest`` says which
    ├── Pruned                 a part of the chain that is not kept; ``first`` is where it begins
    ├── BadArchive             a file of blocks that is damaged, or proves nothing
    │   └── ArchiveGap         a sound one that begins behind the blocks which are here
    └── StorageError           the disk, or what lies on it; ``path`` says where
        ├── StorageFailed      the medium refused to read or write
        │   └── DiskFull       there is no room left
        ├── StoreLocked        another process holds the files
        ├── StorageClosed      used after its end, or after a write that failed
        ├── CorruptStore       what lies on the disk is not what was written
        │   ├── CorruptLog     the same of a log, which knows the ``offset``
        │   └── DamagedEntry   the same of one ``entry`` of the store, with its ``key``
        ├── RecordTooLarge     a record above its bound
        └── LogFull            a log above its bound, until it is rewritten
"""

from pathlib import Path
from typing import Literal

from chain.errors import SecureNetError
from chain.types import Digest


class NodeError(SecureNetError):
    """Something a node cannot do, or will not."""


class ConfigError(NodeError):
    """A configuration or a home directory which breaks a rule.

    Parameters
    ----------
    where : str
        The setting, or the file; empty where it is the configuration as a whole.
    reason : str
        What is wrong with it, and what to do.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}" if where else reason)
        self.where = where
        self.reason = reason


class FileTaken(ConfigError):
    """A file that is there already, and is never replaced."""


class KeyFileError(NodeError):
    """A key file which cannot be made, or which nobody should use.

    Parameters
    ----------
    path : Path
        The file.
    reason : str
        What is wrong with it, and what to do; never a part of its content.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class WrongPassphrase(KeyFileError):
    """The file is whole, but this passphrase, or none, does not open it."""


class WrongKey(KeyFileError):
    """The file is whole, but its key is not the one that this chain knows the node by."""


class NotSigned(NodeError):
    """The process that has the miner's key did not sign; it may do so later."""


class MempoolFull(NodeError):
    """The pool has no room that its sender may have; nothing of the transaction is kept.

    Parameters
    ----------
    retry_after_ms : int
        When sending it again may succeed.
    """

    def __init__(self, *, retry_after_ms: int) -> None:
        super().__init__(f"the mempool is full; send it again in {retry_after_ms} ms")
        self.retry_after_ms = retry_after_ms


class MissingBlob(NodeError):
    """A blob that is needed and that this node does not hold."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(f"the blob {digest.hex()} is not here")
        self.digest = digest


class BlobRefused(NodeError):
    """A blob that this node does not take in.

    Parameters
    ----------
    code : {"too_large", "blobs_full"}
        It is larger than blobs may be here, or there is no room that its sender may have.
    detail : str
        Which bound.
    """

    def __init__(self, code: Literal["too_large", "blobs_full"], detail: str) -> None:
        super().__init__(detail)
        self.code = code


class LargerBlob(NodeError):
    """A blob that is larger than it may be where it is wanted: another try changes nothing."""

    def __init__(self, *, size: int, size_max: int) -> None:
        super().__init__(f"it has {size} bytes, at most {size_max} are wanted")
        self.size = size


class Pruned(NodeError):
    """A part of the chain that this node does not keep, though the chain has it.

    Parameters
    ----------
    what : str
        What is asked for, as ``body of block 7``.
    first : int
        The lowest height for which this node keeps such a part.
    """

    def __init__(self, what: str, *, first: int) -> None:
        super().__init__(f"{what} is not kept; this node keeps that from block {first} on")
        self.what = what
        self.first = first


class BadArchive(NodeError):
    """A file of blocks from which nothing can be taken.

    Parameters
    ----------
    path : Path
        The file.
    reason : str
        What is wrong with it.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path


class ArchiveGap(BadArchive):
    """It may be sound, but it does not go on where the blocks of this node end.

    Parameters
    ----------
    first : int
        The first block in it.
    height : int
        The last block that is here.
    """

    def __init__(self, path: Path, *, first: int, height: int) -> None:
        super().__init__(path, f"it begins with block {first}, and the last one here is {height}")
        self.first = first
        self.height = height


class StorageError(NodeError):
    """A failure of the disk or of the files on it.

    Parameters
    ----------
    path : Path
        The file or directory.
    reason : str
        What happened, and what to do.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class StorageFailed(StorageError):
    """The operating system refused to read or to write."""


class DiskFull(StorageFailed):
    """No room is left: the disk, a quota or a limit on file sizes is used up."""


class StoreLocked(StorageError):
    """Another process, or another part of this one, holds the files.

    Parameters
    ----------
    path : Path
        What is held.
    holder : int, optional
        Process id of the holder, as far as it is known.
    """

    def __init__(self, path: Path, *, holder: int | None = None) -> None:
        by = "another process" if holder is None else f"process {holder}"
        super().__init__(path, f"in use by {by}; stop it first, or choose another home directory")
        self.holder = holder


class StorageClosed(StorageError):
    """Used after it was closed, or written to after a write that failed."""


class CorruptStore(StorageError):
    """Damaged content: never repaired by guessing, since what is missing may be a promise given."""


class CorruptLog(CorruptStore):
    """Damage in a log, elsewhere than in a torn last append.

    Parameters
    ----------
    path : Path
        The log.
    reason : str
        What was found, and what to do.
    offset : int
        Where in the file the damage starts.
    """

    def __init__(self, path: Path, reason: str, *, offset: int) -> None:
        super().__init__(path, f"damaged at byte {offset}: {reason}")
        self.offset = offset


class DamagedEntry(CorruptStore):
    """One entry of the store that cannot be read; the others may be whole.

    Parameters
    ----------
    path : Path
        The store.
    entry : str
        What stands there, as ``body of block 7``.
    key : bytes
        Its key.
    cause : str
        What was found.
    """

    def __init__(self, path: Path, *, entry: str, key: bytes, cause: str) -> None:
        super().__init__(
            path,
            f"{entry} (key {key.hex()}) cannot be read: {cause}; `securenet db verify` tells more",
        )
        self.entry = entry
        self.key = key
        self.cause = cause


class RecordTooLarge(StorageError):
    """More bytes than one record, or one append, may have.

    Parameters
    ----------
    path : Path
        The log.
    size : int
        Bytes asked for.
    limit : int
        Bytes allowed.
    """

    def __init__(self, path: Path, *, size: int, limit: int) -> None:
        super().__init__(path, f"{size} bytes where {limit} are allowed")
        self.size = size
        self.limit = limit


class LogFull(StorageError):
    """The log has reached its bound; it takes records again once it is rewritten shorter.

    Parameters
    ----------
    path : Path
        The log.
    limit : int
        Bytes allowed.
    """

    def __init__(self, path: Path, *, limit: int) -> None:
        super().__init__(path, f"the log may not grow above {limit} bytes; rewrite it shorter")
        self.limit = limit
