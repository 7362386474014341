"""The project's own files, as the tidiness tests see them."""

import shutil
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("chain", "cli", "consensus", "ml_validator", "node")
GENERATED = {"build", "dist", "__pycache__"}


@cache
def project_files() -> tuple[Path, ...]:
    """Return every file which belongs to the project, relative to its root and sorted.

    That is what git tracks; in a copy without git, everything but hidden and generated folders.
    """
    if (ROOT / ".git").exists() and shutil.which("git"):
        listed = subprocess.run(
            ["git", "-c", "core.quotePath=false", "ls-files", "-z"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if listed.returncode == 0:
            paths = [Path(name) for name in listed.stdout.split("\0") if name]
            return tuple(sorted(path for path in paths if (ROOT / path).is_file()))
    return tuple(sorted(_walk(ROOT)))


def _walk(folder: Path) -> list[Path]:
    found: list[Path] = []
    for entry in folder.iterdir():
        if entry.is_symlink() or entry.name.endswith(".egg-info"):
            continue
        if entry.is_file():
            found.append(entry.relative_to(ROOT))
        elif entry.name == ".ci" or (entry.name[0] != "." and entry.name not in GENERATED):
            found.extend(_walk(entry))
    return found
