"""Reading text files of any origin line by line, within bounds."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ml_validator.errors import InvalidDataset, MissingDataset

_NAMES: Final = {"ascii": "ASCII", "utf-8-sig": "UTF-8"}
_UNDECODED: Final = re.compile("[\udc80-\udcff]")


def read_lines(path: Path, *, encoding: str, length_max: int) -> Iterator[tuple[int, str]]:
    """Yield number, from 1, and text of each line; LF, CR LF and CR alone all end one.

    Raises
    ------
    MissingDataset
        The file cannot be opened.
    InvalidDataset
        A line is longer than `length_max` characters, or no text in `encoding`.
    """
    row = 0
    try:
        # Decoding runs ahead of the lines; what it cannot read is kept, to be told by its row.
        with path.open(encoding=encoding, errors="surrogateescape") as file:
            # A bounded readline: a file without line ends must not be read into memory whole.
            while line := file.readline(length_max):
                row += 1
                if not line.endswith("\n") and len(line) == length_max:
                    raise InvalidDataset(
                        str(path), row, "row", f"longer than {length_max} characters"
                    )
                if not line.isascii() and _UNDECODED.search(line):
                    name = _NAMES.get(encoding, encoding)
                    raise InvalidDataset(str(path), row, "row", f"no {name} text")
                yield row, line.removesuffix("\n")
    except OSError as error:
        raise MissingDataset(str(path), error.strerror or str(error)) from error
