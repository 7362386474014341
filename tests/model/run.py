"""Running docs/spec/model/agreement.pml: spin makes a program of it that visits every state."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MODEL: Final = Path(__file__).parents[2] / "docs/spec/model/agreement.pml"
DEPTH_MAX: Final = 100_000
MEMORY_MB_MAX: Final = 7_000

FLAWS: Final = {
    "QUORUM=2": "one vote less than a quorum is enough",
    "NO_CARRY": "ROUND-CHANGE does not report what was prepared",
    "UNJUSTIFIED": "a proposal of a later round is believed without justification",
    "LOWEST": "the block prepared in the lowest round is proposed again, not the highest",
    "FORGET": "the prepared certificate is lost with a crash",
    "LATE_COMMIT": "COMMIT is signed for a round that was given up",
    "VETO": "a miner that is prepared accepts no other block",
}
"""What the model has to find, by the name that plants it."""


class ModelError(Exception):
    """A tool failed, or not every state was visited."""


@dataclass(frozen=True, slots=True)
class Result:
    """What visiting all states of one configuration found.

    Parameters
    ----------
    violated : str, optional
        The assertion that does not hold.
    depth : int
        The longest path on the search stack.
    """

    violated: str | None
    states: int
    depth: int


def missing_tools() -> list[str]:
    """Return which of the programs that are needed are not there."""
    return [tool for tool in ("spin", "gcc") if shutil.which(tool) is None]


def explore(definitions: tuple[str, ...], directory: Path, *, optimise: bool = False) -> Result:
    """Visit every state of the model under `definitions`; stop at the first violation.

    Parameters
    ----------
    optimise : bool
        Compile for longer and visit faster: worth it for millions of states.

    Raises
    ------
    ModelError
        A tool failed, memory ran out, or the search was cut short.
    """
    flags = [f"-D{definition}" for definition in definitions]
    directory.mkdir(parents=True, exist_ok=True)
    out = _run(["spin", *flags, "-a", str(MODEL)], directory)
    if "Error" in out:
        raise ModelError(out.strip())
    options = ["-DSAFETY", "-DCOLLAPSE", "-DNOCLAIM", f"-DMEMLIM={MEMORY_MB_MAX}"]
    _run(["gcc", "-O1" if optimise else "-O0", *options, "-o", "pan", "pan.c"], directory)
    # -E: a state in which everybody has said all there is to say is an end, not a fault.
    out = _run([str(directory / "pan"), f"-m{DEPTH_MAX}", "-w22", "-E"], directory)
    states = re.search(r"(\d+) states, stored", out)
    depth = re.search(r"depth reached (\d+)", out)
    violated = re.search(r"assertion violated (.*) \(at depth", out)
    if states is None or depth is None or "errors:" not in out:
        raise ModelError(out.strip())
    if violated is None and (
        "errors: 0" not in out or "not completed" in out or "too small" in out
    ):
        raise ModelError(f"not every state was visited\n{out.strip()}")
    return Result(violated and violated[1], int(states[1]), int(depth[1]))


def configurations(rounds: int, heights: int) -> list[tuple[str, ...]]:
    """Return one configuration for each place of the Byzantine miner in the order of proposers."""
    return [(f"ROUNDS={rounds}", f"HEIGHTS={heights}", f"OFFSET={offset}") for offset in range(4)]


def with_flaw(flaw: str) -> tuple[str, ...]:
    """Return the configuration that plants `flaw`; the liar proposes first, or last to lie."""
    offset = 1 if flaw == "UNJUSTIFIED" else 3
    return (flaw, "ROUNDS=3", "HEIGHTS=1", f"OFFSET={offset}")


def _run(command: list[str], directory: Path) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ModelError(f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout + done.stderr
