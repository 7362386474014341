"""The root of every error of SecureNet, and the errors of the chain's own rules.

::

    SecureNetError
    ├── ChainError
    │   ├── DecodeError            bytes or JSON that are no value of ours
    │   ├── InvalidKey             not a key of a known algorithm
    │   ├── InvalidProof           a Merkle or state proof that proves nothing
    │   ├── InvalidChunk           bytes that are no chunk of a file
    │   ├── NotAReader             a file is not encrypted for a key
    │   ├── InvalidCertificate     votes that do not prove a block
    │   ├── InvalidGenesis         a genesis document nobody can start from
    │   ├── InvalidBlock           a block that breaks a rule
    │   ├── InvalidArchive         an archive that does not prove what it holds
    │   ├── WrongChain             whole, but of another chain
    │   ├── UntrustedHeader        a header a light client has no reason to believe
    │   └── Rejection              a transaction refused by Algorithm 1 or by its kind
    ├── ConsensusError             consensus.errors
    ├── ModelError                 ml_validator.errors
    ├── NodeError                  node.errors
    └── CliError                   cli.errors
"""


class SecureNetError(Exception):
    """Anything that SecureNet refuses or fails at, in words for people."""


class ChainError(SecureNetError):
    """A value that breaks a rule of the chain."""


class DecodeError(ChainError):
    """Bytes or JSON which are not the value they should be.

    Parameters
    ----------
    where : str
        Path of the field, as ``transaction.body.key``.
    reason : str
        What is wrong with it.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason


class InvalidKey(ChainError):
    """Bytes which are no public or private key of a supported algorithm."""


class InvalidProof(ChainError):
    """A proof which does not lead to the root it was given for."""


class InvalidChunk(ChainError):
    """Bytes which are not those of a chunk of a file.

    Parameters
    ----------
    index : int
        The chunk's place.
    reason : str
        What is wrong, in words.
    """

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


class NotAReader(ChainError):
    """A file is not encrypted for the key that is to open it."""


class InvalidCertificate(ChainError):
    """A commit certificate which does not prove its block."""


class InvalidGenesis(ChainError):
    """A genesis document which breaks a rule."""


class InvalidBlock(ChainError):
    """A block which breaks a rule.

    Parameters
    ----------
    reason : str
        The rule that is broken, in words.
    code : str
        A stable word; for a block holding a transaction that Algorithm 1 rejects, its code.
    index : int, optional
        Position of the offending transaction.
    """

    def __init__(
        self, reason: str, *, code: str = "invalid_block", index: int | None = None
    ) -> None:
        super().__init__(reason if index is None else f"transaction {index}: {reason}")
        self.code = code
        self.index = index


class InvalidArchive(ChainError):
    """An archive which does not prove what it holds.

    Parameters
    ----------
    height : int
        The block at which it fails.
    reason : str
        What is wrong, in words.
    """

    def __init__(self, height: int, reason: str) -> None:
        super().__init__(f"block {height}: {reason}")
        self.height = height


class WrongChain(ChainError):
    """Something whole of another chain than the one it is to be of."""


class UntrustedHeader(ChainError):
    """A header which does not follow from what the light client trusts."""


class Rejection(ChainError):
    """A transaction refused, with the step or rule that refused it.

    Parameters
    ----------
    code : str
        The stable word of the step (``unknown_device``, ``rate_limited``, …).
    detail : str
        What was found, in words.
    retry_after_ms : int, optional
        When trying again may succeed; only for ``rate_limited``.
    """

    def __init__(self, code: str, detail: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.retry_after_ms = retry_after_ms
