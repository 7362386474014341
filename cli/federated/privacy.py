"""Differential privacy of a participant: what its updates have told of its rows, and the next one.

The ledger of a device is a file beside its memories, ``federated/DEVICE.ledger.json``. What a round
is told is in it before the update is; rounds are never taken out. What was promised of a round as
the device joined it is in the memory of that round, and holds whatever a restart asks for.
"""

import json
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Final

from chain.errors import DecodeError
from chain.federated.records import FederatedRound, threshold
from chain.schema import Blob, Integer, ListOf, Record
from chain.types import DIGEST_SIZE, Address, Digest
from cli.errors import BadInput, Missed, OtherPromise
from cli.federated.memory import CHANGES_MAX, MemoryStore, Promise
from ml_validator.errors import InvalidUpdate, NoiseChanged, PrivacySpent
from ml_validator.federated.privacy import Noise, PrivacyLedger, Spent, fitting_noise
from node.storage.files import storage_error

ROUNDS_MAX: Final = 100_000
"""In one ledger; a device whose ledger is full takes part in no more rounds with noise."""

_SUFFIX: Final = ".ledger.json"
_LEDGER: Final = Record(
    PrivacyLedger,
    spent=ListOf(
        Record(
            Spent,
            round=Blob(DIGEST_SIZE),
            base=Blob(DIGEST_SIZE),
            sensitivity=Integer(1, 2**62),
            deviation=Integer(1, 2**63),
        ),
        ROUNDS_MAX,
    ),
)


def ledger_path(folder: Path, device: Address) -> Path:
    """Return the file of a device's ledger; `folder` is that of its memories."""
    return folder / f"{device.hex()}{_SUFFIX}"


def ledgers(folder: Path) -> dict[str, PrivacyLedger]:
    """Return all ledgers of a folder by the ids of their devices; raises as `load_ledger`."""
    paths = sorted(folder.glob(f"*{_SUFFIX}"))
    return {path.name.removesuffix(_SUFFIX): load_ledger(path) for path in paths}


def load_ledger(path: Path) -> PrivacyLedger:
    """Return a ledger; an empty one where there is no file.

    Raises
    ------
    BadInput
        The file is damaged: what was told is not known, so nothing more is.
    """
    try:
        ledger: PrivacyLedger = _LEDGER.parse(json.loads(path.read_bytes()), path.name)
    except FileNotFoundError:
        return PrivacyLedger()
    except OSError as error:
        raise storage_error(path, error) from error
    except (ValueError, DecodeError) as error:
        raise BadInput(
            f"{path} is damaged: {error}", "restore it: without it nobody knows what was told"
        ) from error
    return ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """Keeps what is promised to the rows of a participant.

    Parameters
    ----------
    store : MemoryStore
        Beside whose memories the ledger is.
    device : Address
        Whose ledger it is.
    promise : Promise
        What is promised.
    """

    store: MemoryStore
    device: Address
    promise: Promise

    @property
    def path(self) -> Path:
        """Where the ledger is."""
        return ledger_path(self.store.folder, self.device)

    def check(self, round_id: Digest, found: FederatedRound) -> None:
        """Make sure that a round can be told something.

        Raises
        ------
        BadInput
            Its terms leave no room for the noise, or the ledger has it with other noise.
        Missed
            It would be told too much.
        """
        self._spent(round_id, found)

    def spend(self, round_id: Digest, found: FederatedRound) -> Noise:
        """Write down what a round is told, and return the noise for it; raises as `check`."""
        noise, ledger = self._spent(round_id, found)
        text = json.dumps(_LEDGER.render(ledger)) + "\n"
        self.store.write(self.path, text.encode())
        return noise

    def _spent(self, round_id: Digest, found: FederatedRound) -> tuple[Noise, PrivacyLedger]:
        terms, promise = found.terms, self.promise
        self._check_sharing(found)
        try:
            noise = fitting_noise(
                promise.noise,
                parameters=terms.parameter_count,
                norm_max=terms.clip - CHANGES_MAX,
                members=promise.members,
            )
        except InvalidUpdate as error:
            raise BadInput(
                f"the federated round leaves no room for noise ({error})",
                "sit this round out, or ask its coordinator for a larger --clip",
            ) from error
        entry = Spent(
            round=round_id,
            base=terms.base,
            sensitivity=noise.sensitivity,
            deviation=noise.deviation,
        )
        ledger = load_ledger(self.path)
        most = inf if promise.epsilon_max is None else promise.epsilon_max
        try:
            after = ledger.spend(entry, delta=promise.delta, epsilon_max=most)
        except NoiseChanged as error:
            raise BadInput(
                f"{error}, and {self.path} counts that",
                "give --noise and --noise-members as before, or sit this round out",
            ) from error
        except PrivacySpent as error:
            raise Missed(
                f"the federated round would tell too much of the own rows: {error}",
                "sit it out, or take more --noise; --epsilon-max is yours to raise",
            ) from error
        if len(after.spent) > ROUNDS_MAX:
            raise Missed(f"{self.path} is full", "take part with other rows from another home")
        return noise, after

    def _check_sharing(self, found: FederatedRound) -> None:
        """Make sure that the noise of others can count as much as is believed."""
        least = threshold(found.terms.group_size)
        members = self.promise.members
        if members > least:
            raise BadInput(
                f"{members} members cannot share noise in groups of {found.terms.group_size}",
                f"give --noise-members {least} at most, and a larger --noise",
            )
        if members > 1 and len({member.weight for member in found.members}) > 1:
            raise BadInput(
                "participants of different weights cannot share noise",
                "sit this round out, or give a larger --noise without --noise-members",
            )


def privacy_in(
    round_id: Digest, store: MemoryStore, device: Address, asked: Promise | None
) -> Privacy | None:
    """Return what keeps the promise for a round: that of its memory, or that which is asked for.

    Parameters
    ----------
    asked : Promise or None
        None: nothing is said, as by whoever starts a participant again.

    Raises
    ------
    OtherPromise
        Another was made as this home began the round; or as in `check_asked`.
    """
    memory = store.find(round_id, device)
    if memory is None:
        check_asked(store, device, asked)
    elif asked not in (None, memory.promise):
        before = "without noise" if memory.promise is None else f"with {memory.promise}"
        raise OtherPromise(
            f"{store.folder} began federated round {round_id.hex()} {before}, not with {asked}",
            "start it as then, or without --noise, which goes on as then; or sit this round out",
        )
    promise = asked if memory is None else memory.promise
    return None if promise is None else Privacy(store=store, device=device, promise=promise)


def check_asked(store: MemoryStore, device: Address, asked: Promise | None) -> None:
    """Make sure that no round is begun without noise where a ledger counts what was told.

    Raises
    ------
    OtherPromise
        It would be.
    """
    path = ledger_path(store.folder, device)
    if asked is None and path.exists():
        raise OtherPromise(
            f"{path} counts what was told of these rows, and without noise all would be told",
            "give --noise and --delta as before, or move the ledger away",
        )
