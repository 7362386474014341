"""Differential privacy of a participant: what its updates have told of its rows, and the next one.

The ledger of a device is a file beside its memories, ``federated/DEVICE.ledger.json``. What a round
is told is in it before the update is; rounds are never taken out.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chain.errors import DecodeError
from chain.federated.records import FederatedRound, threshold
from chain.schema import Blob, Integer, ListOf, Record
from chain.types import DIGEST_SIZE, Address, Digest
from cli.errors import BadInput, Missed
from cli.federated.memory import CHANGES_MAX, MemoryStore
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
    """What a participant asks of its own privacy.

    Parameters
    ----------
    store : MemoryStore
        Beside whose memories the ledger is.
    device : Address
        Whose ledger it is.
    multiplier : float
        Deviation of the own noise, in sensitivities.
    members : int
        How many of a group are believed to add as much.
    delta, epsilon_max : float
        What may be told, over all rounds.
    """

    store: MemoryStore
    device: Address
    multiplier: float
    members: int
    delta: float
    epsilon_max: float

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

    def check_made(self, round_id: Digest) -> None:
        """Make sure that an update which is there already was made with noise.

        Raises
        ------
        BadInput
            The ledger knows nothing of the round.
        """
        if load_ledger(self.path).find(round_id) is None:
            raise BadInput(
                "the own update in this federated round was made without noise",
                "sit this round out",
            )

    def spend(self, round_id: Digest, found: FederatedRound) -> Noise:
        """Write down what a round is told, and return the noise for it; raises as `check`."""
        noise, ledger = self._spent(round_id, found)
        text = json.dumps(_LEDGER.render(ledger)) + "\n"
        self.store.write(self.path, text.encode())
        return noise

    def _spent(self, round_id: Digest, found: FederatedRound) -> tuple[Noise, PrivacyLedger]:
        terms = found.terms
        self._check_sharing(found)
        try:
            noise = fitting_noise(
                self.multiplier,
                parameters=terms.parameter_count,
                norm_max=terms.clip - CHANGES_MAX,
                members=self.members,
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
        try:
            after = ledger.spend(entry, delta=self.delta, epsilon_max=self.epsilon_max)
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
        if self.members > least:
            raise BadInput(
                f"{self.members} members cannot share noise in groups of {found.terms.group_size}",
                f"give --noise-members {least} at most, and a larger --noise",
            )
        if self.members > 1 and len({member.weight for member in found.members}) > 1:
            raise BadInput(
                "participants of different weights cannot share noise",
                "sit this round out, or give a larger --noise without --noise-members",
            )
