"""What the devices of the demonstration send: labelled flows, dealt to them in order."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Final

from chain.payloads import Flow
from ml_validator.errors import NoDataset
from ml_validator.nsl_kdd import TEST_FILE, read_records
from ml_validator.synthetic import ATTACK_PROFILES, NORMAL_PROFILES, generate

NORMAL_DEVICES: Final = 40
ATTACKERS: Final = 10
SYNTHETIC_FLOWS_PER_DEVICE: Final = 120

NORMAL_NAMES: Final = tuple(f"device-{number:02}" for number in range(1, NORMAL_DEVICES + 1))
ATTACKER_NAMES: Final = tuple(f"attacker-{number:02}" for number in range(1, ATTACKERS + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A flow, the device that sends it, and whether it is part of an attack."""

    device: str
    flow: Flow
    is_attack: bool


def synthetic_rows() -> list[Row]:
    """Return the input that comes with the project: every device follows one profile.

    The devices take turns, so that their flows come mixed.
    """
    profiles = [
        *zip(NORMAL_NAMES, cycle(NORMAL_PROFILES), strict=False),
        *zip(ATTACKER_NAMES, cycle(ATTACK_PROFILES), strict=False),
    ]
    series = [
        [
            Row(device=device, flow=record.flow, is_attack=record.is_attack)
            for record in generate(profile, SYNTHETIC_FLOWS_PER_DEVICE, seed)
        ]
        for seed, (device, profile) in enumerate(profiles)
    ]
    return [row for turn in zip(*series, strict=True) for row in turn]


def nsl_kdd_rows(folder: Path) -> list[Row]:
    """Return the rows of KDDTest+ in file order: normal ones to the devices, others to attackers.

    Raises
    ------
    NoDataset, MissingDataset, InvalidDataset
        The folder has no such file, or one that cannot be read.
    """
    path = folder / TEST_FILE
    if not path.is_file():
        raise NoDataset(str(folder), TEST_FILE)
    normal, attackers = cycle(NORMAL_NAMES), cycle(ATTACKER_NAMES)
    return [
        Row(
            device=next(attackers if record.is_attack else normal),
            flow=record.flow,
            is_attack=record.is_attack,
        )
        for record in read_records(path)
    ]


def batches(rows: list[Row], size: int) -> Iterator[list[Row]]:
    """Cut `rows` into batches of `size`, the last one shorter."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
