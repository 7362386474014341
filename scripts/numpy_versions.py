"""Compare verdicts and aggregates over versions of numpy, with and without vector instructions.

``make numpy-versions [DATA=PATH]``, or ``python -m scripts.numpy_versions``. Each version is
installed for itself under ``build/numpy`` and laid before the one of the environment; it stays
there. The flows are KDDTest+ where a folder is given, else synthetic ones, and in either
case flows at and around what the models compare with. Ends with one line of figures, and with a
status that is not 0 where a digest differs.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from chain.errors import SecureNetError
from chain.payloads import Flow
from ml_validator.bundled import BUNDLED_NAMES, bundled_model
from ml_validator.export import probing_flows
from ml_validator.nsl_kdd import TEST_FILE, read_records
from ml_validator.synthetic import generate_mixture
from scripts.score_digests import AGGREGATES, SIZES, write_flows

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / "build" / "numpy"
VERSIONS: Final = ("1.26.4", "2.0.2", "2.2.6")
"""Beside the locked one; with wheels for every supported Python."""
INSTALLED: Final = "installed"
SYNTHETIC_ROWS: Final = 10_000
"""Of normal traffic, and as many attacks."""
PROBES: Final = 1_500
TIMEOUT_S: Final = 900


class Failure(Exception):
    """A version that could not be asked; the text says why."""


def main(arguments: Sequence[str]) -> int:
    """Ask every version and compare; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.numpy_versions", description=__doc__.splitlines()[0]
    )
    parser.add_argument("versions", nargs="*", default=VERSIONS, help="of numpy, as 2.0.2")
    parser.add_argument("--data", type=Path, help="folder of the NSL-KDD files")
    options = parser.parse_args(arguments)
    FOLDER.mkdir(parents=True, exist_ok=True)
    flows_file = FOLDER / "flows.json"
    answers = []
    try:
        write_flows(flows_file, make_flows(options.data))
        for version in (*options.versions, INSTALLED):
            before = [] if version == INSTALLED else [install(version)]
            plain = ask(flows_file, before, version)
            answers += [plain, ask(flows_file, before, version, without=plain["dispatched"])]
            sys.stderr.write(f"• numpy {plain['numpy']}, with and without {plain['used']}\n")
    except (Failure, SecureNetError) as error:
        sys.stderr.write(f"numpy-versions: {error}\n")
        return 1
    differing = differences(answers)
    for line in differing:
        sys.stderr.write(f"{line}\n")
    versions = sorted({answer["numpy"] for answer in answers})
    sys.stdout.write(
        f"numpy-versions: {len(differing)} of {len(BUNDLED_NAMES)} models and"
        f" {len(answers[0]['digests'][AGGREGATES])} aggregates differ;"
        f" {answers[0]['flows']} flows, batches of {', '.join(map(str, SIZES))}, numpy"
        f" {', '.join(versions)}, each with and without vector instructions\n"
    )
    return 1 if differing else 0


def make_flows(data: Path | None) -> list[Flow]:
    """Return the flows that every version judges."""
    if data is None:
        flows = [record.flow for record in generate_mixture(SYNTHETIC_ROWS, seed=1)]
    else:
        flows = [record.flow for record in read_records(data / TEST_FILE)]
    for seed, name in enumerate(BUNDLED_NAMES):
        artifact, _ = bundled_model(name)
        probes = probing_flows(artifact, count=PROBES, seed=seed)
        flows += [flow for flow in probes if artifact.schema.fits(flow)]
    return flows


def install(version: str) -> Path:
    """Return a folder with this version of numpy and nothing else, made where it is not there."""
    folder = FOLDER / version
    if not (folder / "numpy" / "version.py").exists():
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--only-binary", ":all:")
        run(
            [*pip, "--no-deps", "--target", str(folder), f"numpy=={version}"],
            what=f"numpy {version} cannot be installed",
            environment={},
        )
    return folder


def ask(flows: Path, before: Sequence[Path], version: str, without: Sequence[str] = ()) -> Any:
    """Return what `scripts.score_digests` prints under one version."""
    environment = {"PYTHONPATH": os.pathsep.join(map(str, (*before, ROOT)))}
    if without:
        environment["NPY_DISABLE_CPU_FEATURES"] = " ".join(without)
    answer = json.loads(
        run(
            # Instructions that the processor lacks anyway are worth a warning to numpy.
            [sys.executable, "-W", "ignore", "-m", "scripts.score_digests", str(flows)],
            what=f"numpy {version} does not judge",
            environment=environment,
        )
    )
    if version not in (INSTALLED, answer["numpy"]):
        raise Failure(f"numpy {answer['numpy']} came where {version} was asked for")
    if without and answer["used"]:
        raise Failure(f"numpy {answer['numpy']} still uses {', '.join(answer['used'])}")
    return answer


def differences(answers: Sequence[Any]) -> list[str]:
    """Return a line for each model, and each rule of aggregation, with digests that differ."""
    lines = []
    for name in BUNDLED_NAMES:
        found = {
            digest: f"{answer['numpy']}, batches of {size}"
            for answer in answers
            for size, digest in answer["digests"][name].items()
        }
        if len(found) > 1:
            lines.append(f"{name}: {'; '.join(sorted(found.values()))} say different things")
    for rule in answers[0]["digests"][AGGREGATES]:
        found = {answer["digests"][AGGREGATES][rule]: answer["numpy"] for answer in answers}
        if len(found) > 1:
            lines.append(f"{AGGREGATES}, {rule}: {'; '.join(sorted(found.values()))} differ")
    return lines


def run(command: Sequence[str], *, what: str, environment: dict[str, str]) -> str:
    """Return what a command prints; raise `Failure` where it fails."""
    try:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True,
            timeout=TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{what}: no end after {TIMEOUT_S} s") from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["no message"]
        raise Failure(f"{what}: {said[-1]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
