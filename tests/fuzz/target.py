"""What a target of fuzzing is."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import structlog

from chain import codec
from chain.errors import DecodeError, SecureNetError
from chain.schema import Record
from tests.fuzz.mutate import Form
from tests.fuzz.values import drawn

Check = Callable[[bytes], bool]
"""Takes an input. True: it was accepted; False: it was refused in the documented way. Whatever else
it raises is a failure, also where what was accepted is not what the bytes say."""

SEEDS = 12
SHARED_MEMORY: Final = Path("/dev/shm")
"""Where files cost nothing, if it is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A reader of bytes from outside.

    Parameters
    ----------
    seeds : callable
        Returns valid inputs.
    opened : callable
        Returns a context with the check, and with whatever it keeps between inputs.
    life : int
        After so many inputs it is opened anew, so that a failure depends on no more than these.
    """

    name: str
    form: Form
    seeds: Callable[[], Sequence[bytes]]
    opened: Callable[[], AbstractContextManager[Check]]
    life: int


def pure(name: str, form: Form, seeds: Callable[[], Sequence[bytes]], check: Check) -> Target:
    """Return a target that keeps nothing between inputs."""

    @contextmanager
    def opened() -> Iterator[Check]:
        yield check

    return Target(name=name, form=form, seeds=seeds, opened=opened, life=1)


def file_target(
    name: str,
    form: Form,
    seeds: Callable[[], Sequence[bytes]],
    read: Callable[[Path], Any],
    *refusals: type[SecureNetError],
) -> Target:
    """Return the target of a file: it is read, or refused with one of `refusals`."""

    @contextmanager
    def opened() -> Iterator[Check]:
        base = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
        with tempfile.TemporaryDirectory(dir=base) as directory:
            path = Path(directory) / name
            path.touch(mode=0o600)

            def check(data: bytes) -> bool:
                path.write_bytes(data)
                try:
                    read(path)
                except refusals as error:
                    if "\n" in str(error):
                        raise AssertionError("a refusal is one line") from error
                    return False
                return True

            yield check

    return Target(name=name, form=form, seeds=seeds, opened=opened, life=100_000)


@contextmanager
def quiet() -> Iterator[None]:
    """Let nodes tell nothing: refusals by the thousand are what is expected here."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    try:
        yield
    finally:
        structlog.configure(**before)


def codec_target(
    name: str,
    seeds: Callable[[], Sequence[bytes]],
    decode: Callable[[bytes], Any],
    encode: Callable[[Any], bytes],
) -> Target:
    """Return the target of a decoder: what it accepts is encoded to the same bytes again."""

    def check(data: bytes) -> bool:
        try:
            value = decode(data)
        except DecodeError:
            return False
        assert encode(value) == data, "it is encoded differently"
        return True

    return pure(name, "msgpack", seeds, check)


def drawn_seeds(schema: Any) -> Callable[[], Sequence[bytes]]:
    """Return a function that returns encoded values of a schema."""
    return lambda: [
        codec.encode(schema.write(drawn(schema, Random(number)))) for number in range(SEEDS)
    ]


def record_target(
    name: str, record: Record[Any], decode: Callable[[bytes], Any], *, json_too: bool = False
) -> Target:
    """Return the target of a record, by default of its bytes alone."""

    def again(value: Any) -> bytes:
        if json_too:
            assert record.parse(record.render(value), name) == value, "its JSON is another value"
        return record.encode(value)

    return codec_target(name, drawn_seeds(record), decode, again)
