"""What a node that has ended left in its log.

Who started it may be gone, so nobody has its exit code but the log, whose last line says it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.exit_codes import ENDED

_TAIL_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a node ended.

    Parameters
    ----------
    exit_code : int or None
        None: it was killed, and could not say.
    error : str or None
        What it ended for; None where it was asked to end, or killed.
    """

    exit_code: int | None
    error: str | None


def read_end(log: Path) -> End | None:
    """Return how the node that wrote `log`, and does not run, ended; None if it never ran."""
    lines = _last_lines(log)
    if not lines:
        return None
    ended = ENDED.fullmatch(lines[-1])
    code = None if ended is None else int(ended[1])
    return End(exit_code=code, error=last_said(log) if code else None)


def last_said(log: Path) -> str:
    """Return the last line that says something of its own, not advice on the one before."""
    for line in reversed(_last_lines(log)):
        if not line.startswith("  try: ") and ENDED.fullmatch(line) is None:
            return line
    return "it said nothing"


def _last_lines(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            return file.read().decode(errors="replace").strip().splitlines()
    except FileNotFoundError:
        return []
