"""What a participant must not forget in the middle of a federated round.

Everything secret of a round comes from one seed, and everything that is said once is written down
before it is said: so a process that is killed at any moment goes on where it was, and says the same
again or nothing. A value once written is never replaced by another; who tries to has been shown two
different rounds. Files are there whole or not at all, for nobody else to read::

    federated/ROUND.DEVICE.json     the memory; when the round is over, without its secrets
    federated/ROUND.DEVICE.DIGEST   the update that was committed, until the round is over
"""

import json
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any, Final

from chain.blobs import blob_digest
from chain.errors import DecodeError
from chain.federated.records import PARTICIPANTS_MAX
from chain.schema import Blob, Integer, Optional, Record
from chain.types import DIGEST_SIZE, Address, Digest
from cli.errors import BadInput, Contradicted
from node.files import replace_file
from node.storage.files import make_directory, storage_error

SEED_SIZE: Final = 32
CHANGES_MAX: Final = 4
"""How often an update is changed in one bit because others have copied it."""

_FOLDER: Final = "federated"
_ID_DIGITS: Final = 2 * DIGEST_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What the rows of a participant are promised where its update gets noise.

    Parameters
    ----------
    noise : float
        Deviation of the own noise, in sensitivities.
    members : int
        How many of a group are believed to add as much.
    delta : float
        Chance with which it may fail.
    epsilon_max : float or None
        What may be told, over all rounds; None: whatever it is.
    """

    noise: float
    members: int
    delta: float
    epsilon_max: float | None

    def __str__(self) -> str:
        most = "" if self.epsilon_max is None else f" --epsilon-max {self.epsilon_max}"
        shared = "" if self.members == 1 else f" --noise-members {self.members}"
        return f"--noise {self.noise} --delta {self.delta}{most}{shared}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a participant has decided in one federated round.

    Parameters
    ----------
    seed : bytes or None
        All secrets of the round; None once it is over.
    base : Digest or None
        The model from which the update is made; None once it is sure that no sum with it is known.
    promise : Promise or None
        What was promised before the device joined; None: nothing, its update gets no noise.
    group : Digest or None
        To whom shares of the secrets were handed, and under which keys.
    update : Digest or None
        The update that was committed, as a blob.
    changes : int
        How often it was changed in one bit.
    accused : Address or None
        Whose box was no good; then nothing is committed.
    revealed : Digest or None
        Which shares of whom were revealed.
    """

    round: Digest
    device: Address
    seed: bytes | None
    base: Digest | None = None
    promise: Promise | None = None
    group: Digest | None = None
    update: Digest | None = None
    changes: int = 0
    accused: Address | None = None
    revealed: Digest | None = None


class _Number:
    """A finite number, in JSON to its last digit."""

    def parse(self, value: object, where: str) -> float:
        """Take an integer, too: people who write files leave the point away."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise DecodeError(where, "not a number")
        return float(value)

    def render(self, value: float) -> float:
        return value

    read = parse
    write = render

    def describe(self) -> dict[str, Any]:
        return {"type": "number"}


_DIGEST: Final = Blob(DIGEST_SIZE)
_MEMORY: Final = Record(
    Memory,
    round=_DIGEST,
    device=_DIGEST,
    seed=Optional(Blob(SEED_SIZE)),
    base=Optional(_DIGEST),
    promise=Optional(
        Record(
            Promise,
            noise=_Number(),
            members=Integer(1, PARTICIPANTS_MAX),
            delta=_Number(),
            epsilon_max=Optional(_Number()),
        )
    ),
    group=Optional(_DIGEST),
    update=Optional(_DIGEST),
    changes=Integer(0, CHANGES_MAX),
    accused=Optional(_DIGEST),
    revealed=Optional(_DIGEST),
)


def memory_folder(home: Path) -> Path:
    """Return where a home directory has memories, and ledgers of what was told."""
    return home / _FOLDER


class MemoryStore:
    """The memories in a home directory; who uses it holds the lock of its folder.

    Parameters
    ----------
    home : Path
        Made where it is missing.
    """

    def __init__(self, home: Path) -> None:
        self.folder = memory_folder(home)
        make_directory(self.folder)

    def find(self, round_id: Digest, device: Address) -> Memory | None:
        """Return what a device remembers of a round; None if it knows nothing of it.

        Raises
        ------
        BadInput
            The file is damaged; nothing is done in that round any more.
        """
        path = self._path(round_id, device)
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage_error(path, error) from error
        try:
            memory: Memory = _MEMORY.parse(json.loads(text), path.name)
        except (ValueError, DecodeError) as error:
            raise BadInput(f"{path} is damaged: {error}", "sit this round out") from error
        if (memory.round, memory.device) != (round_id, device):
            raise BadInput(f"{path} is of another round or device", "sit this round out")
        return memory

    def unfinished(self, device: Address) -> list[Digest]:
        """Return the rounds of which a device still has secrets; raises as `find`."""
        return [memory.round for memory in self._of(device) if memory.seed is not None]

    def has_told(self, device: Address, base: Digest, *, besides: Digest) -> bool:
        """Tell whether a sum with an update of a device from `base` is known, or will be.

        Parameters
        ----------
        besides : Digest
            The round that is not asked about.

        Raises
        ------
        BadInput
            As `find`.
        """
        return any(memory.base == base and memory.round != besides for memory in self._of(device))

    def save(self, memory: Memory) -> None:
        """Write a memory, durably; raises `StorageError`."""
        text = json.dumps(_MEMORY.render(memory), indent=2) + "\n"
        self.write(self._path(memory.round, memory.device), text.encode())

    def save_update(self, memory: Memory, data: bytes) -> Memory:
        """Write an update, then the memory that names it; return that memory."""
        named = replace(memory, update=blob_digest(data))
        self.write(self._update_path(named), data)
        self.save(named)
        return named

    def load_update(self, memory: Memory) -> bytes:
        """Return the update that a memory names.

        Raises
        ------
        BadInput
            The file is gone or has other bytes.
        """
        path = self._update_path(memory)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise BadInput(
                f"{path} cannot be read: {error.strerror}", "sit this round out"
            ) from error
        if not data or blob_digest(data) != memory.update:
            raise BadInput(f"{path} is damaged", "sit this round out")
        return data

    def forget(self, memory: Memory, *, is_told: bool) -> None:
        """Destroy the secrets and updates of a round that is over.

        Parameters
        ----------
        is_told : bool
            Whether a sum with the update may be known.
        """
        self.save(replace(memory, seed=None, base=memory.base if is_told else None))
        name = self._path(memory.round, memory.device).stem
        # Drafts that a crash has left, too.
        for path in [*self.folder.glob(f"{name}.*"), *self.folder.glob(f".{name}.*.new")]:
            if path.suffix != ".json":
                path.unlink()

    def _of(self, device: Address) -> list[Memory]:
        """Return what a device remembers of all rounds; raises as `find`."""
        ids = sorted(
            [path.name[:_ID_DIGITS] for path in self.folder.glob(f"*.{device.hex()}.json")]
        )
        found = [self.find(Digest(bytes.fromhex(id)), device) for id in ids]
        return [memory for memory in found if memory is not None]

    def _path(self, round_id: Digest, device: Address) -> Path:
        return self.folder / f"{round_id.hex()}.{device.hex()}.json"

    def _update_path(self, memory: Memory) -> Path:
        assert memory.update is not None, "an update was made"
        # The first half of a digest: with all three whole the name would be near its bound.
        suffix = f".{memory.update.hex()[:32]}"
        return self._path(memory.round, memory.device).with_suffix(suffix)

    def write(self, path: Path, data: bytes) -> None:
        """Replace a file of the folder: whole or not at all, durably; raises `StorageError`."""
        replace_file(path, data)


def check_same(memory: Memory, what: str, before: Digest | None, now: Digest) -> None:
    """Make sure that a decision, if it was taken before, was this one; raises `Contradicted`."""
    if before not in (None, now):
        raise Contradicted(memory.round.hex(), what)
