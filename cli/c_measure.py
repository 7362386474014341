"""What an exported model costs: compiled here, compared with the model, and timed.

Flash and memory are those of this machine's compiler and processor. A device's differ, the
tables, which are nearly all of it, do not.
"""

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chain.payloads import Flow
from cli.errors import CliError, Missed
from ml_validator import Artifact, FeatureSchema
from ml_validator.export import CSource, expected_scores, probing_flows

PROBES: Final = 20_000
PROBE_SEED: Final = 1
TIMEOUT_S: Final = 120
_REPEATS: Final = 5
"""Passes over the flows that are timed."""

CODE_BYTES_ESTIMATE: Final = 700
STACK_BYTES_ESTIMATE: Final = 128
"""Where no compiler is: what code and stack come to on processors of 32 and 64 bits, and a bit."""

_FLAGS: Final = (
    "-std=c99", "-Os", "-Wall", "-Wextra", "-Wpedantic", "-Werror",
    "-fno-asynchronous-unwind-tables",
)  # fmt: skip

_HARNESS: Final = """\
#define _POSIX_C_SOURCE 199309L
#include "model.c"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Flows from stdin, scores and labels to stdout, nanoseconds of processor time to stderr. */
int main(int argc, char **argv)
{
    size_t count = strtoul(argv[argc - 2], 0, 10), repeats = strtoul(argv[argc - 1], 0, 10), i;
    int64_t *integers = calloc(count * INTEGERS + 1, sizeof *integers);
    int16_t *categories = calloc(count * CATEGORIES + 1, sizeof *categories);
    int32_t *scores = calloc(2 * count + 1, sizeof *scores);
    struct timespec from, to;
    if (!integers || !categories || !scores) {
        return 1;
    }
    for (i = 0; i < count; i++) {
        size_t got = fread(integers + i * INTEGERS, sizeof *integers, INTEGERS, stdin);
        got += fread(categories + i * CATEGORIES, sizeof *categories, CATEGORIES, stdin);
        if (got != INTEGERS + CATEGORIES) {
            return 2;
        }
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    for (; repeats > 0; repeats--) {
        for (i = 0; i < count; i++) {
            scores[2 * i] = SCORE_PPM(integers + i * INTEGERS, categories + i * CATEGORIES);
        }
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    for (i = 0; i < count; i++) {
        scores[2 * i + 1] = IS_ANOMALOUS(integers + i * INTEGERS, categories + i * CATEGORIES);
    }
    fwrite(scores, sizeof *scores, 2 * count, stdout);
    fprintf(stderr, "%lld\\n",
            (long long)(to.tv_sec - from.tv_sec) * 1000000000 + (to.tv_nsec - from.tv_nsec));
    return 0;
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a model takes of a device.

    Parameters
    ----------
    measured : bool
        Whether a compiler was here; else the sizes are estimates.
    compiler : str or None
        Its first line about itself.
    flash_bytes, ram_bytes : int
        Code with tables; a flow at the caller's, variables and the stack.
    row_ns : int or None
        Time for one flow on this machine.
    flows_compared : int
        Flows of which the compiled file said what the model says.
    """

    measured: bool
    compiler: str | None
    flash_bytes: int
    ram_bytes: int
    row_ns: int | None
    flows_compared: int


def find_compiler() -> str | None:
    """Return the path of a C compiler with its ``size``, or None."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    return compiler if shutil.which("size") else None


def measure(source: CSource, artifact: Artifact) -> Cost:
    """Compile a model, compare it with `artifact`, and say what it costs.

    Raises
    ------
    Missed
        The compiled file gives another score than the model.
    CliError
        The compiler refuses the file.
    """
    compiler = find_compiler()
    if compiler is None:
        return Cost(
            measured=False,
            compiler=None,
            flash_bytes=source.table_bytes + CODE_BYTES_ESTIMATE,
            ram_bytes=source.input_bytes + STACK_BYTES_ESTIMATE,
            row_ns=None,
            flows_compared=0,
        )
    flows = probing_flows(artifact, count=PROBES, seed=PROBE_SEED)
    with tempfile.TemporaryDirectory(prefix="securenet-export-") as folder:
        compiled = Compiled(source, artifact.schema, compiler=compiler, folder=Path(folder))
        judged, row_ns = compiled.judge(flows)
        expected = expected_scores(artifact, flows)
        wrong = sum(
            found != (score, score >= artifact.threshold_ppm)
            for found, score in zip(judged, expected, strict=True)
        )
        if wrong:
            raise Missed(
                f"the compiled file differs from the model on {wrong} of {len(flows)} flows",
                f"nothing was written; report it with the compiler, {compiled.version}",
            )
        return Cost(
            measured=True,
            compiler=compiled.version,
            flash_bytes=compiled.flash_bytes,
            ram_bytes=source.input_bytes + compiled.ram_bytes,
            row_ns=row_ns,
            flows_compared=len(flows),
        )


class Compiled:
    """A model as a program of this machine.

    Parameters
    ----------
    folder : Path
        An empty one, in which it is compiled and stays.
    """

    def __init__(
        self, source: CSource, schema: FeatureSchema, *, compiler: str, folder: Path
    ) -> None:
        self._schema = schema
        self._folder = folder
        (folder / "model.c").write_text(source.text, encoding="ascii")
        (folder / "main.c").write_text(_HARNESS, encoding="ascii")
        names = {
            "INTEGERS": f"{source.prefix.upper()}_INTEGERS",
            "CATEGORIES": f"{source.prefix.upper()}_CATEGORIES",
            "SCORE_PPM": f"{source.prefix}_score_ppm",
            "IS_ANOMALOUS": f"{source.prefix}_is_anomalous",
        }
        self.version = self._run(compiler, "--version").decode(errors="replace").split("\n")[0]
        self._run(compiler, *_FLAGS, "-fstack-usage", "-c", "model.c", "-o", "model.o")
        self._run(
            compiler, *_FLAGS, *(f"-D{name}={own}" for name, own in names.items()),
            "main.c", "-o", "main",
        )  # fmt: skip
        text, data, bss = map(int, self._run("size", "model.o").split(b"\n")[1].split()[:3])
        self.flash_bytes = text + data
        # As if each function called every other: no more than that is ever on the stack at once.
        stack = sum(
            int(line.split("\t")[1]) for line in (folder / "model.su").read_text().splitlines()
        )
        self.ram_bytes = data + bss + stack

    def judge(self, flows: Sequence[Flow]) -> tuple[list[tuple[int, bool]], int]:
        """Return score and label of each flow, and the nanoseconds that one score took."""
        places = [
            {value: place for place, value in enumerate(category.values)}
            for category in self._schema.categories
        ]
        row = struct.Struct(f"={len(self._schema.integers)}q")
        names = struct.Struct(f"={len(places)}h")
        data = b"".join(
            row.pack(*flow.integers)
            + names.pack(
                *(
                    place.get(value, -1)
                    for place, value in zip(places, flow.categories, strict=True)
                )
            )
            for flow in flows
        )
        done = self._call("./main", str(len(flows)), str(_REPEATS), data=data)
        answer = struct.unpack(f"={2 * len(flows)}i", done.stdout)
        judged = list(zip(answer[::2], map(bool, answer[1::2]), strict=True))
        return judged, int(done.stderr) // max(1, _REPEATS * len(flows))

    def _run(self, *command: str) -> bytes:
        return self._call(*command).stdout

    def _call(self, *command: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        try:
            done = subprocess.run(
                command,
                cwd=self._folder,
                input=data,
                capture_output=True,
                timeout=TIMEOUT_S,
                env={**os.environ, "LC_ALL": "C"},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CliError(f"{command[0]} did not run: {error}", "see to the compiler") from error
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().split("\n")[0]
            raise CliError(f"{command[0]} failed: {said}", "see to the compiler, or take it away")
        return done
