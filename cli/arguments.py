"""Reading the arguments that commands have in common; a bad one is told in one line."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from chain.crypto import check_public_key
from chain.errors import DecodeError, InvalidKey
from chain.fields import HOST
from chain.limits import RateLimits, parse_limits
from chain.reader_keys import check_reader_key
from chain.types import DIGEST_SIZE, Address, Digest, PublicKey
from cli.errors import AlreadyThere, BadInput

FILE_SIZE_MAX: Final = 16 * 1024 * 1024
_LISTS: Final = {
    "device id": "device list",
    "miner id": "miner list",
    "model digest": "model list",
    "proposal id": "query proposals",
    "round id": "query rounds",
}
"""Where people find ids, who often have names at hand."""


def check_out(path: Path) -> None:
    """Make sure, before work is done for it, that a new file can be `path`.

    Raises
    ------
    AlreadyThere
        Something has the name.
    BadInput
        The directory is not there.
    """
    if path.exists():
        raise AlreadyThere(path)
    if not path.parent.is_dir():
        raise BadInput(f"{path.parent} is no directory", "make it, or choose another --out")


def check_absent(paths: Iterable[Path]) -> None:
    """Make sure that no file is there under any of the names; raises `AlreadyThere`."""
    for path in paths:
        if path.exists():
            raise AlreadyThere(path)


def require_home(path: Path) -> None:
    """Make sure that a directory is there that may be a node's home; raises `BadInput`."""
    if not path.is_dir():
        raise BadInput(f"there is no node's home in {path}", "make one: securenet init")


def parse_address(text: str, what: str) -> Address:
    """Read an id of 32 bytes in hex; `what` names it in the message."""
    return Address(_hex(text, DIGEST_SIZE, what))


def parse_digest(text: str, what: str) -> Digest:
    """Read a digest of 32 bytes in hex; `what` names it in the message."""
    return Digest(_hex(text, DIGEST_SIZE, what))


def parse_public_key(text: str) -> PublicKey:
    """Read a public key in hex."""
    try:
        return check_public_key(bytes.fromhex(text))
    except (ValueError, InvalidKey) as error:
        raise BadInput(
            f"{text[:80]!r} is no public key: {error}",
            "give 64 (Ed25519) or 66 (P-256) hex digits, as securenet keys show prints them",
        ) from error


def parse_reader_key(text: str) -> bytes:
    """Read the public key of a reader in hex."""
    try:
        return check_reader_key(bytes.fromhex(text))
    except (ValueError, InvalidKey) as error:
        raise BadInput(
            f"{text[:80]!r} is no reader's public key: {error}",
            "give the 64 hex digits that securenet keys new --algorithm x25519 prints",
        ) from error


def parse_host(text: str) -> str:
    """Read the name or address at which a chain says that a node is reached."""
    try:
        host: str = HOST.parse(text, "host")
    except DecodeError as error:
        raise BadInput(
            f"{text[:80]!r} is no host: {error}", "give a name or an address, as 10.0.0.5"
        ) from error
    return host


def expand_home(home: Path) -> Path:
    """Return a node's home with ``~`` replaced by the user's own directory."""
    try:
        return home.expanduser()
    except RuntimeError as error:
        raise BadInput(f"{home}: {error}", "name the node's home with --home") from error


def home_directory(home: Path) -> Path:
    """Do the same, and make sure that a directory is there or could be made.

    Starting a node does not: it tells what is wrong in its own words.
    """
    path = expand_home(home)
    for part in (path, *path.parents):
        if os.path.exists(part) and not os.path.isdir(part):
            raise BadInput(f"{part} is no directory", "name another place with --home")
    return path


def parse_rate_limits(text: str) -> RateLimits:
    """Read rate limits such as ``10:1,300:60``."""
    try:
        return parse_limits(text)
    except DecodeError as error:
        raise BadInput(str(error), "give capacity:seconds, as 10:1 or 10:1,300:60") from error


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, or stdin where the path is ``-``."""
    try:
        if str(path) == "-":
            yield sys.stdin.buffer
        else:
            with path.open("rb") as file:
                yield file
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read: {error.strerror or error}", "check the path"
        ) from error


def read_bytes(path: Path) -> bytes:
    """Read a file, or stdin where the path is ``-``."""
    with opened(path) as file:
        data = file.read(FILE_SIZE_MAX + 1)
    if len(data) > FILE_SIZE_MAX:
        raise BadInput(f"{path} is larger than {FILE_SIZE_MAX} bytes", "give a smaller file")
    return data


def read_json(path: Path) -> Any:
    """Read a JSON file, or stdin where the path is ``-``."""
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is no JSON: {error}", "check the file") from error


def _hex(text: str, size: int, what: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != size or len(text) != 2 * size:
        advice = f"give {2 * size} hex digits"
        if what in _LISTS:
            advice = f"give its {2 * size} hex digits; securenet {_LISTS[what]} has them"
        raise BadInput(f"{text[:80]!r} is no {what}", advice)
    return data
