"""Private keys in files: one key a file, readable by its owner alone, encrypted on request.

The file is JSON: the algorithm and the public key in the open, and the seed, in hex or encrypted
with ChaCha20-Poly1305 under a key made from a passphrase by scrypt. A checksum over the rest tells
a damaged file from a wrong passphrase. Error messages never contain any of it.

A key signs (Ed25519, P-256) or reads (X25519); who asks for the one is refused a file of the other.
"""

import hashlib
import json
import os
import stat
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, assert_never

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chain.crypto import SEED_SIZE, Algorithm, SigningKey, signing_key
from chain.errors import InvalidKey
from chain.reader_keys import ReaderKey
from chain.types import PublicKey
from node.errors import KeyFileError, WrongPassphrase
from node.ports import Random
from node.storage.files import FILE_MODE, storage_error, sync_directory

PASSPHRASE_VARIABLE: Final = "SECURENET_PASSPHRASE"  # noqa: S105 (the name, not the secret)
KEY_FILE_VERSION: Final = 1
KEY_FILE_SIZE_MAX: Final = 4_096
SALT_SIZE: Final = 16
NONCE_SIZE: Final = 12
SCRYPT_MEMORY_MAX: Final = 256 * 1024 * 1024
"""A file that asks for more is refused; making a key never needs to."""

KeyAlgorithm = Algorithm | Literal["x25519"]
AnyKey = SigningKey | ReaderKey

_ENCRYPTION_KEY_SIZE: Final = 32
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class ScryptCost(BaseModel):
    """How dear guessing a passphrase is: ``128 · n · r`` bytes of memory, `p` times over."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    n: int = Field(default=2**16, ge=2, le=2**20)
    r: int = Field(default=8, ge=1, le=32)
    p: int = Field(default=1, ge=1, le=16)

    @property
    def memory_bytes(self) -> int:
        """Memory that one guess takes."""
        return 128 * self.n * self.r


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfo:
    """What a key file says without its passphrase."""

    algorithm: KeyAlgorithm
    public: PublicKey
    is_encrypted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateKey:
    """A key that signs and the secret it is made from, which TLS asks for."""

    key: SigningKey
    seed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Secret:
    """Any key and the secret it is made from."""

    key: AnyKey
    seed: bytes = field(repr=False)


class _Encrypted(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    kdf: Literal["scrypt"]
    cost: ScryptCost
    salt: str = Field(pattern=rf"^[0-9a-f]{{{2 * SALT_SIZE}}}$")
    cipher: Literal["chacha20-poly1305"]
    nonce: str = Field(pattern=rf"^[0-9a-f]{{{2 * NONCE_SIZE}}}$")
    sealed: str = Field(pattern=rf"^[0-9a-f]{{{2 * (SEED_SIZE + 16)}}}$")


class _KeyFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    version: Literal[1]
    algorithm: Literal["ed25519", "p256", "x25519"]
    public: str = Field(pattern=r"^[0-9a-f]{64,66}$")
    seed: str | _Encrypted
    checksum: str


def create_key(
    path: Path,
    algorithm: Algorithm,
    random: Random,
    passphrase: str | None = None,
    *,
    cost: ScryptCost | None = None,
) -> SigningKey:
    """Make a new key that signs and its file.

    Parameters
    ----------
    passphrase : str, optional
        Encrypts the file; by default the environment's ``SECURENET_PASSPHRASE``, where it is set.
    cost : ScryptCost, optional
        Other than the default only in tests.

    Raises
    ------
    KeyFileError
        There is a file already; it is left as it is.
    StorageError
        The disk refused; no file is left.
    """
    secret = _new_secret(algorithm, random)
    _save(path, secret, random, _passphrase(path, passphrase), cost or ScryptCost())
    assert not isinstance(secret.key, ReaderKey), "a key that signs was asked for"
    return secret.key


def create_reader_key(
    path: Path, random: Random, passphrase: str | None = None, *, cost: ScryptCost | None = None
) -> ReaderKey:
    """Make a new key that reads and its file; see `create_key`."""
    seed = random.bytes(SEED_SIZE)
    key = ReaderKey(seed)
    secret = _Secret(key=key, seed=seed)
    _save(path, secret, random, _passphrase(path, passphrase), cost or ScryptCost())
    return key


def load_key(path: Path, passphrase: str | None = None) -> SigningKey:
    """Read the key that signs of a file; see `load_private_key`."""
    return load_private_key(path, passphrase).key


def load_reader_key(path: Path, passphrase: str | None = None) -> ReaderKey:
    """Read the key that reads of a file; see `load_private_key`."""
    key = load_any_key(path, passphrase)
    if isinstance(key, ReaderKey):
        return key
    raise KeyFileError(
        path, "the key signs and cannot read; make one with keys new --algorithm x25519"
    )


def load_any_key(path: Path, passphrase: str | None = None) -> AnyKey:
    """Read the key of a file, whatever it does; see `load_private_key`."""
    return _load(path, passphrase).key


def load_private_key(path: Path, passphrase: str | None = None) -> PrivateKey:
    """Read the key that signs of a file, with its seed.

    Parameters
    ----------
    passphrase : str, optional
        By default the environment's ``SECURENET_PASSPHRASE``; not looked at where the file is not
        encrypted.

    Raises
    ------
    WrongPassphrase
        The file is encrypted, and no passphrase or a wrong one was given.
    KeyFileError
        No such file, readable by others than its owner, damaged, or of a key that reads.
    """
    secret = _load(path, passphrase)
    if isinstance(secret.key, ReaderKey):
        raise KeyFileError(path, "the key reads data and signs nothing; name one that signs")
    return PrivateKey(key=secret.key, seed=secret.seed)


def _load(path: Path, passphrase: str | None) -> _Secret:
    file = _read(path)
    if isinstance(file.seed, str):
        return _checked(path, file, file.seed)
    given = _passphrase(path, passphrase)
    if given is None:
        raise WrongPassphrase(
            path, f"the key is encrypted; give its passphrase, as in {PASSPHRASE_VARIABLE}"
        )
    return _checked(path, file, _unseal(path, file, file.seed, given).hex())


def read_key_info(path: Path) -> KeyInfo:
    """Read what needs no passphrase; raises `KeyFileError`."""
    file = _read(path)
    return KeyInfo(
        algorithm=file.algorithm,
        public=PublicKey(bytes.fromhex(file.public)),
        is_encrypted=isinstance(file.seed, _Encrypted),
    )


def copy_key(
    path: Path,
    out: Path,
    random: Random,
    *,
    passphrase: str | None = None,
    new_passphrase: str | None,
    cost: ScryptCost | None = None,
) -> AnyKey:
    """Write the key of a file into another, under another passphrase, or none where it is None.

    Raises
    ------
    KeyFileError
        The one cannot be read, or the other is there already.
    StorageError
        The disk refused; no new file is left.
    """
    secret = _load(path, passphrase)
    _save(out, secret, random, new_passphrase, cost or ScryptCost())
    return secret.key


def _save(
    path: Path, secret: _Secret, random: Random, passphrase: str | None, cost: ScryptCost
) -> None:
    document: dict[str, Any] = {
        "version": KEY_FILE_VERSION,
        "algorithm": secret.key.algorithm,
        "public": secret.key.public.hex(),
    }
    if passphrase:
        document["seed"] = _seal(document, secret.seed, random, passphrase, cost)
    else:
        document["seed"] = secret.seed.hex()
    document["checksum"] = _checksum(document)
    _create(path, json.dumps(document, indent=2).encode() + b"\n")


def _passphrase(path: Path, passphrase: str | None) -> str | None:
    """Return the passphrase that is given, or else that of the environment, for the file `path`."""
    if passphrase:
        return passphrase
    try:
        # Whatever the locale makes of it, the environment holds bytes, and these are UTF-8.
        return os.fsencode(os.environ.get(PASSPHRASE_VARIABLE, "")).decode() or None
    except UnicodeDecodeError:
        raise WrongPassphrase(path, f"{PASSPHRASE_VARIABLE} holds no UTF-8 text") from None


def _new_secret(algorithm: Algorithm, random: Random) -> _Secret:
    while True:
        seed = random.bytes(SEED_SIZE)
        try:
            return _Secret(key=signing_key(algorithm, seed), seed=seed)
        except InvalidKey:
            # About one seed in 2^32 is no scalar of P-256.
            continue


def _seal(
    document: Mapping[str, Any], seed: bytes, random: Random, passphrase: str, cost: ScryptCost
) -> dict[str, Any]:
    salt, nonce = random.bytes(SALT_SIZE), random.bytes(NONCE_SIZE)
    cipher = ChaCha20Poly1305(_derive(passphrase, salt, cost))
    return {
        "kdf": "scrypt",
        "cost": cost.model_dump(),
        "salt": salt.hex(),
        "cipher": "chacha20-poly1305",
        "nonce": nonce.hex(),
        "sealed": cipher.encrypt(nonce, seed, _bound(document)).hex(),
    }


def _unseal(path: Path, file: _KeyFile, sealed: _Encrypted, passphrase: str) -> bytes:
    if sealed.cost.memory_bytes > SCRYPT_MEMORY_MAX:
        raise _damaged(path, "it asks for more memory than any key file of ours")
    key = _derive(passphrase, bytes.fromhex(sealed.salt), sealed.cost)
    bound = _bound({"version": file.version, "algorithm": file.algorithm, "public": file.public})
    try:
        return ChaCha20Poly1305(key).decrypt(
            bytes.fromhex(sealed.nonce), bytes.fromhex(sealed.sealed), bound
        )
    except InvalidTag:
        raise WrongPassphrase(path, "the passphrase is wrong") from None


def _read(path: Path) -> _KeyFile:
    text, mode = _read_private(path)
    # Nothing of the content may reach a message or a traceback: hence no cause is kept.
    try:
        document = json.loads(text)
        file = _KeyFile.model_validate(document)
    except (ValidationError, ValueError, RecursionError):
        raise _damaged(path, "it is no key file, or a part of one") from None
    # After a look at the content: what is no key needs no other mode.
    if mode & _OTHERS:
        raise KeyFileError(
            path,
            f"others than its owner may use it (mode {mode:04o}); make sure that nobody did, then: "
            f"chmod 600 {path}",
        )
    if file.checksum != _checksum(document):
        raise _damaged(path, "its checksum does not match")
    return file


def _checked(path: Path, file: _KeyFile, seed_hex: str) -> _Secret:
    try:
        seed = bytes.fromhex(seed_hex)
        key = _key_of(file.algorithm, seed)
    except (InvalidKey, ValueError):
        raise _damaged(path, "it holds no private key") from None
    if key.public.hex() != file.public:
        raise _damaged(path, "its public key is that of another private key")
    return _Secret(key=key, seed=seed)


def _key_of(algorithm: KeyAlgorithm, seed: bytes) -> AnyKey:
    match algorithm:
        case "x25519":
            return ReaderKey(seed)
        case "ed25519" | "p256":
            return signing_key(algorithm, seed)
        case _:
            assert_never(algorithm)


def _damaged(path: Path, what: str) -> KeyFileError:
    return KeyFileError(path, f"the file is damaged: {what}; restore it from a backup")


def _checksum(document: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in document.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _bound(document: Mapping[str, Any]) -> bytes:
    """Return what the encryption vouches for beside the seed."""
    return json.dumps([document["version"], document["algorithm"], document["public"]]).encode()


def _derive(passphrase: str, salt: bytes, cost: ScryptCost) -> bytes:
    # One passphrase may be typed in several encodings of the same characters.
    password = unicodedata.normalize("NFC", passphrase).encode()
    return hashlib.scrypt(
        password,
        salt=salt,
        n=cost.n,
        r=cost.r,
        p=cost.p,
        maxmem=2 * cost.memory_bytes + 2**20,
        dklen=_ENCRYPTION_KEY_SIZE,
    )


def _create(path: Path, data: bytes) -> None:
    """Write a file that must not be there yet; on failure none is left."""
    try:
        descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE
        )
    except FileExistsError:
        raise KeyFileError(path, "the file is there already; a key is never replaced") from None
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(file.fileno(), FILE_MODE)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise storage_error(path, error) from error


def _read_private(path: Path) -> tuple[bytes, int]:
    """Return what a file holds, and who may do what with it."""
    try:
        # Not blocking: a pipe in the place of a key must not hold up the start of a node.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise KeyFileError(path, "not a file")
            if found.st_size > KEY_FILE_SIZE_MAX:
                raise _damaged(path, "it is far larger than any key file")
            return file.read(KEY_FILE_SIZE_MAX + 1), stat.S_IMODE(found.st_mode)
    except FileNotFoundError:
        raise KeyFileError(path, "there is no such key file") from None
    except OSError as error:
        raise KeyFileError(path, f"cannot be read: {error.strerror}") from error
