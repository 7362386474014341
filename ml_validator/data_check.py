"""What a file of flows holds, once every row of it could be read."""

from pathlib import Path
from typing import Any

from ml_validator.errors import MissingDataset
from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.labelled import Repetitions
from ml_validator.nsl_kdd import (
    ATTACK_TYPES_FILE,
    FIELD_NAMES_FILE,
    GENUINE_DIGESTS,
    Record,
    file_digest,
    read_attack_types,
    read_records,
)
from ml_validator.table_data import describe, label_rows, learn_schema
from ml_validator.tables import Layout, read_table


def check_nsl_kdd(path: Path) -> list[dict[str, Any]]:
    """Read a file in NSL-KDD's format, or those of its files that a folder has.

    Returns
    -------
    list of dict
        For each file what was found. ``genuine`` says whether it is the published one of its name,
        and is None where NSL-KDD has no file of that name.

    Raises
    ------
    MissingDataset, InvalidDataset
        There is no file, or a row that cannot be read.
    """
    if not path.is_dir():
        return [_check_file(path)]
    files = [path / name for name in GENUINE_DIGESTS if (path / name).exists()]
    if not files:
        raise MissingDataset(str(path), f"none of {', '.join(GENUINE_DIGESTS)} is in it")
    return [_check_file(file) for file in files]


def check_table(path: Path, layout: Layout) -> dict[str, Any]:
    """Read a CSV file by its layout.

    Raises
    ------
    MissingDataset, InvalidDataset, InvalidSchema
        It cannot be opened, a row cannot be read, or its categories are too many.
    """
    table = read_table(path, layout)
    schema = learn_schema(layout, table.rows)
    return {
        **table.facts(),
        "schema": schema.digest.hex(),
        **describe(schema, label_rows(table.rows, schema)),
    }


def _check_file(path: Path) -> dict[str, Any]:
    digest = file_digest(path)
    genuine = GENUINE_DIGESTS.get(path.name)
    facts: dict[str, Any] = {
        "file": path.name,
        "sha256": digest,
        "genuine": None if genuine is None else digest == genuine,
    }
    if path.name == ATTACK_TYPES_FILE:
        return facts | {"rows": len(read_attack_types(path))}
    if path.name == FIELD_NAMES_FILE:
        return facts
    return facts | _check_records(list(read_records(path)))


def _check_records(records: list[Record]) -> dict[str, Any]:
    repetitions = Repetitions()
    for record in records:
        repetitions.add((record.flow.integers, record.flow.categories), record.label)
    return {
        "schema": NSL_KDD_SCHEMA.digest.hex(),
        "rows": len(records),
        "duplicates": repetitions.duplicates,
        "contradictions": repetitions.contradictions,
        # The format has no sign for a value that is not there.
        "missing": {},
        **describe(NSL_KDD_SCHEMA, records),
    }
