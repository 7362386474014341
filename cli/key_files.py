"""Key files and the passphrases that open them."""

import sys
from collections.abc import Callable
from getpass import getpass
from pathlib import Path
from typing import TypeVar

from chain.crypto import SigningKey
from chain.reader_keys import ReaderKey
from cli.arguments import check_out, read_bytes
from cli.errors import BadInput, NoKeyFile
from node.errors import WrongPassphrase
from node.keys import (
    AnyKey,
    KeyAlgorithm,
    copy_key,
    create_key,
    create_reader_key,
    load_any_key,
    load_key,
    load_reader_key,
)
from node.random_source import SystemRandom

K = TypeVar("K")


def read_passphrase(file: Path | None) -> str | None:
    """Return the first line of `file`, or None where there is no file.

    Raises
    ------
    BadInput
        The file cannot be read, or the line is empty or no text.
    """
    if file is None:
        return None
    try:
        line = read_bytes(file).decode().split("\n", 1)[0].rstrip("\r")
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} holds no text", "write the passphrase in its first line") from error
    if not line:
        raise BadInput(f"the first line of {file} is empty", "write the passphrase there")
    return line


def open_key(path: Path, passphrase_file: Path | None) -> SigningKey:
    """Return the key that signs of a file.

    The passphrase of an encrypted one comes from `passphrase_file`, from the environment's
    ``SECURENET_PASSPHRASE``, or from whoever sits at the terminal.

    Raises
    ------
    NoKeyFile
        It is not there.
    KeyFileError
        It cannot be read, is damaged, or is of a key that does something else.
    WrongPassphrase
        It is encrypted and stays so.
    """
    return _open(load_key, path, passphrase_file)


def open_reader_key(path: Path, passphrase_file: Path | None) -> ReaderKey:
    """Return the key that reads of a file; as `open_key`."""
    return _open(load_reader_key, path, passphrase_file)


def open_any_key(path: Path, passphrase_file: Path | None) -> AnyKey:
    """Return the key of a file, whatever it does; as `open_key`."""
    return _open(load_any_key, path, passphrase_file)


def _open(load: Callable[[Path, str | None], K], path: Path, passphrase_file: Path | None) -> K:
    passphrase = read_passphrase(passphrase_file)
    if not path.exists():
        raise NoKeyFile(path)
    try:
        return load(path, passphrase)
    except WrongPassphrase as error:
        if passphrase is not None:
            raise
        if not sys.stdin.isatty():
            raise WrongPassphrase(path, "the key is encrypted; give --passphrase-file") from error
    return load(path, getpass(f"passphrase of {path}: "))


def make_key(path: Path, algorithm: KeyAlgorithm, passphrase: str | None) -> AnyKey:
    """Make a key and its file; raises as `check_out`, or `KeyFileError`."""
    check_out(path)
    if algorithm == "x25519":
        return create_reader_key(path, SystemRandom(), passphrase)
    return create_key(path, algorithm, SystemRandom(), passphrase)


def encrypt_key(path: Path, out: Path, *, old: str | None, new: str) -> AnyKey:
    """Write the key of `path` to `out`, closed with the passphrase `new`.

    Raises
    ------
    AlreadyThere
        There is an `out`.
    BadInput
        There is no directory for it.
    KeyFileError
        One of the files cannot be read or written.
    """
    check_out(out)
    return copy_key(path, out, SystemRandom(), passphrase=old, new_passphrase=new)
