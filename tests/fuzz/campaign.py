"""Feeding a target with inputs, watching what it does, and keeping what it fails at."""

import signal
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from types import FrameType
from typing import Final

import msgpack

from tests.fuzz.mutate import Mutator
from tests.fuzz.target import Check, Target

CORPUS: Final = Path(__file__).with_name("corpus")
"""``TARGET/DIGEST.msgpack``: the inputs, in their order, at which a target has failed once."""
CPU_S_MAX: Final = 10.0
"""No input takes more time of a processor; most take some millionths of it."""
INPUT_S_MAX: Final = 600.0
"""None waits longer than this, on however busy a machine."""
MEMORY_MAX: Final = 24 * 1024 * 1024
MEMORY_FACTOR: Final = 100
"""An input may cost this many times its size, on top of `MEMORY_MAX`."""
MEMORY_EVERY: Final = 256
"""Watching the memory is slow: one input of so many is watched."""


_SIGNALS: Final = (signal.SIGPROF, signal.SIGALRM)
_LIMITS: Final = {
    signal.ITIMER_PROF: lambda: CPU_S_MAX,
    signal.ITIMER_REAL: lambda: INPUT_S_MAX,
}


class TooDear(Exception):
    """An input took too much time or memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong.

    Parameters
    ----------
    inputs : tuple of bytes
        The last one is that at which the target failed; the others came before, where it keeps
        something between inputs.
    """

    target: str
    inputs: tuple[bytes, ...]
    error: str

    def save(self, corpus: Path = CORPUS) -> Path:
        """Write the inputs to the corpus, and return the file."""
        data: bytes = msgpack.packb(list(self.inputs))
        path = folder_of(self.target, corpus) / f"{sha256(data).hexdigest()[:12]}.msgpack"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of the inputs of one campaign, which ends at the first failure."""

    target: str
    accepted: int
    refused: int
    failure: Failure | None

    @property
    def inputs(self) -> int:
        """How many inputs the target has taken."""
        return self.accepted + self.refused + (self.failure is not None)


def fuzz(target: Target, *, inputs: int, seed: str) -> Outcome:
    """Feed a target with so many inputs; the same seed gives the same ones."""
    source = Mutator(target.seeds(), target.form, Random(f"{seed}/{target.name}"))
    accepted = taken = 0
    while taken < inputs:
        history: list[bytes] = []
        with target.opened() as check, _time_limit():
            for _ in range(min(_life_of(target, inputs), inputs - taken)):
                data = source.input()
                if target.life > 1:
                    history.append(data)
                else:
                    history = [data]
                taken += 1
                try:
                    accepted += _checked(check, data, watched=taken % MEMORY_EVERY == 0)
                except Exception as error:
                    failure = _smallest(target, history, error)
                    return Outcome(
                        target=target.name,
                        accepted=accepted,
                        refused=taken - accepted - 1,
                        failure=failure,
                    )
    return Outcome(target=target.name, accepted=accepted, refused=taken - accepted, failure=None)


def replay(target: Target, inputs: Sequence[bytes]) -> None:
    """Feed a target with these inputs; raises what it fails with."""
    with target.opened() as check, _time_limit():
        for data in inputs:
            _checked(check, data, watched=True)


def saved(target: Target, corpus: Path = CORPUS) -> list[Path]:
    """Return the files of inputs at which the target has failed once."""
    return sorted(folder_of(target.name, corpus).glob("*.msgpack"))


def load(path: Path) -> list[bytes]:
    """Read a file of the corpus."""
    inputs: list[bytes] = msgpack.unpackb(path.read_bytes())
    return inputs


def folder_of(name: str, corpus: Path = CORPUS) -> Path:
    """Return where the failures of a target are kept."""
    return corpus / "".join(letter if letter.isalnum() else "-" for letter in name).strip("-")


def _life_of(target: Target, inputs: int) -> int:
    return inputs if target.life == 1 else target.life


def _checked(check: Check, data: bytes, *, watched: bool) -> bool:
    for timer, seconds in _LIMITS.items():
        signal.setitimer(timer, seconds())
    try:
        return _measured(check, data) if watched else check(data)
    finally:
        for timer in _LIMITS:
            signal.setitimer(timer, 0)


def _measured(check: Check, data: bytes) -> bool:
    tracemalloc.start()
    try:
        result = check(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    if peak > MEMORY_MAX + MEMORY_FACTOR * len(data):
        raise TooDear(f"{len(data)} bytes took {peak} bytes of memory")
    return result


def _smallest(target: Target, history: list[bytes], error: Exception) -> Failure:
    """Return the failure with the last input alone, where that suffices to see it."""
    inputs = tuple(history)
    try:
        replay(target, history[-1:])
    except Exception as alone:
        inputs, error = (history[-1],), alone
    return Failure(target=target.name, inputs=inputs, error=f"{type(error).__name__}: {error}")


@contextmanager
def _time_limit() -> Iterator[None]:
    """Interrupt an input that takes too long, as `_checked` sets the timers."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise TooDear(f"more than {CPU_S_MAX:g} s of a processor, or {INPUT_S_MAX:g} s in all")

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
