"""Reading and writing the text format of NSL-KDD.

One flow a line, 43 columns and no header: 41 features, the label, and ``difficulty``, which says
how many of 21 learners classified the row rightly. Difficulty is read and kept beside the flow; it
is not a feature, for it was made from the labels. The data set is not part of the project; the
digests of the genuine files are.

References
----------
M. Tavallaee, E. Bagheri, W. Lu, A. A. Ghorbani, "A Detailed Analysis of the KDD CUP 99 Data Set",
IEEE CISDA 2009, doi:10.1109/CISDA.2009.5356528.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from chain.payloads import Flow
from ml_validator.errors import (
    AlteredDataset,
    ForeignDataset,
    InvalidDataset,
    MissingDataset,
    NoDataset,
)
from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.labelled import NORMAL, Dataset
from ml_validator.text_lines import read_lines

Family = Literal["normal", "dos", "probe", "r2l", "u2r"]

TRAIN_FILE: Final = "KDDTrain+.txt"
TEST_FILE: Final = "KDDTest+.txt"
HARD_TEST_FILE: Final = "KDDTest-21.txt"
"""The rows of the test file that not all of 21 learners classified rightly."""

ATTACK_TYPES_FILE: Final = "Attack Types.csv"
FIELD_NAMES_FILE: Final = "Field Names.csv"

LINE_LENGTH_MAX: Final = 1024
INTEGER_MAX: Final = 10**15 - 1
"""The largest number of a column."""

ROWS_MAX: Final = 5_000_000
"""Rows read of one file; a longer file is refused at the first row above."""

GENUINE_DIGESTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "KDDTest+.txt": "fa46b0935342616aa83b7c2578db355b6a7aaabbc492248172c7a1e8b7ab8f84",
        "KDDTest-21.txt": "746993ac9e25868827cacf09eab450050a2a1056e1ce48a1ad39f5dc801d531d",
        "KDDTrain+.txt": "1b86d2f957b33082081bba410fe129b475efebcc13c9014c3f447c8271aadf95",
        "KDDTrain+_20Percent.txt": (
            "7ea86479faab5ca2190b7f18b4982fb058ce5bf2b46e0e1017d0d9ef90f9c16e"
        ),
        ATTACK_TYPES_FILE: "8b2ded847bc9c6bc9a610e2a2a02568e91bb34e4711694c7bfd8e2fd62c2ff07",
        FIELD_NAMES_FILE: "e6ce1b1f35966a203209433fd98f88eeb6f5d37f7fb3194aa20d9935b8f9e9d3",
    }
)
"""SHA-256 of the files as they were published."""

_COLUMN_NAMES: Final = (
    "duration protocol_type service flag src_bytes dst_bytes land wrong_fragment urgent hot"
    " num_failed_logins logged_in num_compromised root_shell su_attempted num_root"
    " num_file_creations num_shells num_access_files num_outbound_cmds is_host_login"
    " is_guest_login count srv_count serror_rate srv_serror_rate rerror_rate srv_rerror_rate"
    " same_srv_rate diff_srv_rate srv_diff_host_rate dst_host_count dst_host_srv_count"
    " dst_host_same_srv_rate dst_host_diff_srv_rate dst_host_same_src_port_rate"
    " dst_host_srv_diff_host_rate dst_host_serror_rate dst_host_srv_serror_rate"
    " dst_host_rerror_rate dst_host_srv_rerror_rate label difficulty"
)
COLUMNS: Final = tuple(_COLUMN_NAMES.split())
"""The columns of a line, in file order."""


CONTENT_FEATURES: Final = (
    *("hot", "num_failed_logins", "logged_in", "num_compromised", "root_shell", "su_attempted"),
    *("num_root", "num_file_creations", "num_shells", "num_access_files", "num_outbound_cmds"),
    *("is_host_login", "is_guest_login"),
)
"""What only someone who reads along on the hosts can count; captures and logs do not show it."""


def _families(**labels: str) -> Mapping[str, Family]:
    families: dict[str, Family] = {NORMAL: "normal"}
    known: tuple[Family, ...] = ("dos", "probe", "r2l", "u2r")
    for family in known:
        families.update(dict.fromkeys(labels[family].split(), family))
    return MappingProxyType(families)


TRAINING_FAMILIES: Final = _families(
    dos="back land neptune pod smurf teardrop",
    probe="ipsweep nmap portsweep satan",
    r2l="ftp_write guess_passwd imap multihop phf spy warezclient warezmaster",
    u2r="buffer_overflow loadmodule perl rootkit",
)
"""Family of the labels of the training files, as "Attack Types.csv" has it."""

TEST_ONLY_FAMILIES: Final[Mapping[str, Family]] = MappingProxyType(
    {
        label: family
        for label, family in _families(
            dos="apache2 mailbomb processtable udpstorm worm",
            probe="mscan saint",
            r2l="httptunnel named sendmail snmpgetattack snmpguess xlock xsnoop",
            u2r="ps sqlattack xterm",
        ).items()
        if label != NORMAL
    }
)
"""Family of the 17 labels that occur in the test files only.

Notes
-----
The data set itself does not say. This is the table of L. Dhanabal and S. P. Shantharajah, "A Study
on NSL-KDD Dataset for Intrusion Detection System Based on Classification Algorithms", IJARCCE 4(6),
2015, with ``mailbomb``, which it leaves out, as the denial of service it is. Others count
``httptunnel`` as u2r and ``worm`` as r2l. Families of these labels enter no decision.
"""

FAMILIES: Final[Mapping[str, Family]] = MappingProxyType(
    {**TRAINING_FAMILIES, **TEST_ONLY_FAMILIES}
)

_INTEGER_PLACES: Final = tuple(COLUMNS.index(c.name) for c in NSL_KDD_SCHEMA.integers)
_CATEGORY_PLACES: Final = tuple(COLUMNS.index(c.name) for c in NSL_KDD_SCHEMA.categories)
_LABEL: Final = COLUMNS.index("label")
_DIFFICULTY: Final = COLUMNS.index("difficulty")
_DIFFICULTY_MAX: Final = 21
_MAXIMA: Final[Mapping[str, int]] = MappingProxyType({"flag": 1, "rate": 100})
"""Of units, as integers of a flow; what counts, weighs or lasts has no end but `INTEGER_MAX`."""
_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,32}")
_WHOLE: Final = re.compile(r"[0-9]{1,15}")
_HUNDREDTHS: Final = re.compile(r"([0-9]{1,13})(?:\.([0-9]{1,2}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One row: a flow and what is known of it.

    Parameters
    ----------
    flow : Flow
        The 41 features under `NSL_KDD_SCHEMA`.
    label : str
        ``normal``, or the name of the attack.
    difficulty : int
        Of 21 learners, how many were right. Never a feature.
    """

    flow: Flow
    label: str
    difficulty: int

    @property
    def family(self) -> Family:
        """Family of the attack, or ``normal``."""
        return FAMILIES[self.label]

    @property
    def is_attack(self) -> bool:
        """Whether the label is anything but ``normal``."""
        return self.label != NORMAL


def read_records(path: Path) -> Iterator[Record]:
    """Read a file of rows, one at a time.

    Raises
    ------
    MissingDataset
        The file cannot be opened, or has no row.
    InvalidDataset
        A row cannot be read; says which, and which column.
    """
    for row, line in _rows(path):
        yield _parse(str(path), row, line)


def read_flows(path: Path) -> Iterator[Flow]:
    """Read the flows of a file of rows, with label and difficulty or without both.

    Raises
    ------
    MissingDataset, InvalidDataset
        As in `read_records`.
    """
    for row, line in _rows(path):
        cells = line.split(",")
        if len(cells) == _LABEL:
            yield _parse_flow(str(path), row, cells)
        else:
            yield _parse(str(path), row, line).flow


def read_attack_types(path: Path) -> dict[str, str]:
    """Read "Attack Types.csv": the family of each label, with its line ends of any kind.

    Raises
    ------
    MissingDataset, InvalidDataset
        As in `read_records`.
    """
    types: dict[str, str] = {}
    for row, line in read_lines(path, encoding="ascii", length_max=LINE_LENGTH_MAX):
        cells = line.split(",")
        if len(cells) != 2 or not all(map(_NAME.fullmatch, cells)):
            raise InvalidDataset(str(path), row, "row", "not a label and a family")
        if cells[0] in types:
            raise InvalidDataset(str(path), row, "label", f"{cells[0]} for the second time")
        types[cells[0]] = cells[1]
    return types


def to_row(record: Record) -> str:
    """Return `record` as a line of the text format, without a line end."""
    return f"{to_flow_row(record.flow)},{record.label},{record.difficulty}"


def to_flow_row(flow: Flow) -> str:
    """Return the features of `flow` as a line that has neither label nor difficulty."""
    cells = [""] * _LABEL
    for column, place, value in zip(
        NSL_KDD_SCHEMA.integers, _INTEGER_PLACES, flow.integers, strict=True
    ):
        cells[place] = f"{value // 100}.{value % 100:02d}" if column.scale == 100 else str(value)
    for place, name in zip(_CATEGORY_PLACES, flow.categories, strict=True):
        cells[place] = name
    return ",".join(cells)


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write a file that `read_records` reads back equal."""
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.writelines(to_row(record) + "\n" for record in records)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hex.

    Raises
    ------
    MissingDataset
        The file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MissingDataset(str(path), error.strerror or str(error)) from error


def dataset_name(*, traffic_only: bool) -> str:
    """Return the name of the data set, or of it without what captures and logs cannot show."""
    return NSL_KDD_SCHEMA.name + ("-traffic" if traffic_only else "")


def read_dataset(folder: Path, *, tests: Sequence[str], traffic_only: bool = False) -> Dataset:
    """Read the genuine training file in `folder`, and test files by their names.

    Parameters
    ----------
    traffic_only : bool
        Whether the `CONTENT_FEATURES` of all rows are 0, as in flows from captures and logs.

    Raises
    ------
    MissingDataset, AlteredDataset, InvalidDataset
        A file is not there, not the genuine one or cannot be read.
    """
    files = (TRAIN_FILE, *tests)
    for name in files:
        check_genuine(folder / name)
    rows = {
        name: [
            without_content(record) if traffic_only else record
            for record in read_records(folder / name)
        ]
        for name in files
    }
    return Dataset(
        name=dataset_name(traffic_only=traffic_only),
        schema=NSL_KDD_SCHEMA,
        training=rows[TRAIN_FILE],
        tests={name: rows[name] for name in tests},
        digests={name: GENUINE_DIGESTS[name] for name in files},
        training_name=TRAIN_FILE,
    )


def without_content(record: Record) -> Record:
    """Return a row whose `CONTENT_FEATURES` are 0."""
    integers = [
        0 if column.name in CONTENT_FEATURES else value
        for column, value in zip(NSL_KDD_SCHEMA.integers, record.flow.integers, strict=True)
    ]
    return replace(record, flow=replace(record.flow, integers=tuple(integers)))


def check_genuine(path: Path) -> None:
    """Make sure that a file is the published one of its name.

    Raises
    ------
    MissingDataset
        The file cannot be opened, or no genuine file has that name; `NoDataset` where its folder
        does not hold it.
    AlteredDataset
        Its digest is another.
    """
    if path.name not in GENUINE_DIGESTS:
        raise MissingDataset(str(path), "NSL-KDD has no file of this name")
    try:
        expected, found = GENUINE_DIGESTS[path.name], file_digest(path)
    except MissingDataset as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise NoDataset(str(path.parent), path.name) from error
        raise
    if found != expected:
        raise AlteredDataset(str(path), expected, found)


def _rows(path: Path) -> Iterator[tuple[int, str]]:
    row = 0
    for row, line in read_lines(path, encoding="ascii", length_max=LINE_LENGTH_MAX):
        if row > ROWS_MAX:
            raise InvalidDataset(str(path), row, "row", f"more than {ROWS_MAX} rows")
        yield row, line
    if row == 0:
        raise MissingDataset(str(path), "there are no rows in it")


def _parse(file: str, row: int, line: str) -> Record:
    cells = line.split(",")
    if len(cells) != len(COLUMNS):
        reason = f"{len(cells)} columns, not {len(COLUMNS)}"
        if row == 1:
            raise ForeignDataset(file, row, "row", f"{reason}; it is not NSL-KDD")
        raise InvalidDataset(file, row, "row", reason)
    flow = _parse_flow(file, row, cells)
    label = cells[_LABEL]
    if label not in FAMILIES:
        raise InvalidDataset(file, row, "label", f"{label[:32]!r} is not known")
    difficulty = _whole(cells[_DIFFICULTY])
    if difficulty is None or difficulty > _DIFFICULTY_MAX:
        raise InvalidDataset(
            file, row, "difficulty", f"{cells[_DIFFICULTY][:32]!r} is not 0 to {_DIFFICULTY_MAX}"
        )
    return Record(flow=flow, label=label, difficulty=difficulty)


def _parse_flow(file: str, row: int, cells: list[str]) -> Flow:
    integers = []
    for column, place in zip(NSL_KDD_SCHEMA.integers, _INTEGER_PLACES, strict=True):
        value = _hundredths(cells[place]) if column.scale == 100 else _whole(cells[place])
        if value is None or value > _MAXIMA.get(column.unit, INTEGER_MAX):
            raise InvalidDataset(
                file, row, column.name, f"{cells[place][:32]!r} is no {column.unit}"
            )
        integers.append(value)
    for place in _CATEGORY_PLACES:
        if not _NAME.fullmatch(cells[place]):
            raise InvalidDataset(file, row, COLUMNS[place], f"{cells[place][:32]!r} is no name")
    return Flow(
        schema=NSL_KDD_SCHEMA.digest,
        integers=tuple(integers),
        categories=tuple(cells[place] for place in _CATEGORY_PLACES),
    )


def _whole(text: str) -> int | None:
    return int(text) if _WHOLE.fullmatch(text) else None


def _hundredths(text: str) -> int | None:
    """Read a decimal number as hundredths, without a float in between."""
    match = _HUNDREDTHS.fullmatch(text)
    if match is None:
        return None
    whole, fraction = match.groups(default="")
    return int(whole) * 100 + int(fraction.ljust(2, "0"))
