"""The worker process: started when needed, replaced when it fails, gone when its node is."""

import asyncio
import os
import pickle
import shlex
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chain.blobs import blob_digest
from chain.payloads import FLOW_CATEGORIES_MAX, FLOW_INTEGERS_MAX
from chain.types import Digest
from ml_validator.artifact import Artifact
from ml_validator.detector import Detector
from ml_validator.errors import MissingModel, ModelError, RefusedModel
from ml_validator.forest import LEAF
from ml_validator.registration import Registration
from node import verdict_source
from node.keys import PASSPHRASE_VARIABLE
from node.verdict_source import WorkerVerdictSource
from tests.unit.ml_validator.helpers import make_forest
from tests.unit.node.test_verdict_worker import ARTIFACT, DETECTORS, flow

FLOWS = [flow(number) for number in range(3)]
MODEL = Registration.of(ARTIFACT)
UNKNOWN = replace(MODEL, model=Digest(bytes(32)))
SCORES = DETECTORS[ARTIFACT.digest].judge(FLOWS)


async def nothing(model: Digest) -> bytes | None:
    return None


def pid_of(source: WorkerVerdictSource) -> int:
    assert source._process is not None
    return source._process.pid


def is_started(source: WorkerVerdictSource) -> bool:
    return source._process is not None


async def test_a_worker_judges_survives_an_interrupt_and_is_replaced_when_it_is_killed():
    source = WorkerVerdictSource(nothing)
    try:
        assert source._process is None, "it is started when it is needed"
        assert await source.judge(MODEL, FLOWS) == SCORES
        pid = pid_of(source)

        # As a terminal sends it to every process of the group.
        os.kill(pid, signal.SIGINT)
        assert await source.judge(MODEL, FLOWS[:1]) == SCORES[:1]
        with pytest.raises(ModelError, match="not here"):
            await source.judge(UNKNOWN, FLOWS)
        assert pid_of(source) == pid

        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ModelError):
            await source.judge(MODEL, FLOWS)
        assert await source.judge(MODEL, FLOWS) == SCORES
        assert pid_of(source) != pid
    finally:
        await source.close()
    assert source._process is None
    await source.close()


def other_model() -> Artifact:
    """Return a model that is not the package's."""
    forest = make_forest(
        [(0, 10), (LEAF, 100), (LEAF, 9_000)], column_count=ARTIFACT.schema.column_count
    )
    return Artifact(model=forest, schema=ARTIFACT.schema, threshold_ppm=500_000)


async def test_a_model_that_is_at_hand_is_loaded_and_loaded_again_in_a_new_worker():
    other = other_model()
    found: list[Digest] = []

    async def find(model: Digest) -> bytes | None:
        found.append(model)
        return other.data if model == other.digest else None

    source = WorkerVerdictSource(find)
    try:
        assert await source.judge(Registration.of(other), ()) == [], "it is only loaded"
        assert await source.judge(Registration.of(other), FLOWS) == Detector(other).judge(FLOWS)
        assert await source.judge(MODEL, FLOWS) == SCORES
        assert found == [other.digest]
        with pytest.raises(MissingModel):
            await source.judge(UNKNOWN, FLOWS)

        os.kill(pid_of(source), signal.SIGKILL)
        with pytest.raises(ModelError):
            await source.judge(Registration.of(other), FLOWS)
        assert await source.judge(Registration.of(other), FLOWS) == Detector(other).judge(FLOWS)
    finally:
        await source.close()
    assert found.count(other.digest) == 2


@pytest.mark.attack("F8")
@pytest.mark.parametrize("form", ["pickle", "truncated", "appended"])
async def test_a_model_that_is_none_is_refused_and_nothing_in_it_runs(tmp_path, form):
    class Planted:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "ran"),))

    content = {
        "pickle": pickle.dumps(Planted()),
        "truncated": ARTIFACT.data[:-1],
        "appended": ARTIFACT.data + pickle.dumps(Planted()),
    }[form]
    digest = blob_digest(content)

    async def find(model: Digest) -> bytes | None:
        return content

    source = WorkerVerdictSource(find)
    try:
        with pytest.raises(RefusedModel, match="model artefact"):
            await source.judge(replace(MODEL, model=digest), FLOWS)
        assert await source.judge(MODEL, FLOWS) == SCORES, "the worker goes on"
    finally:
        await source.close()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"threshold_ppm": 1}, r"threshold of the model is \d+ ppm, registered is 1 ppm"),
        ({"size_bytes": 7}, r"size of the model is \d+ bytes, registered is 7 bytes"),
        ({"schema": Digest(bytes(32))}, "schema of the model is 5d52.*, registered is 0000"),
    ],
)
@pytest.mark.parametrize("artifact", [ARTIFACT, other_model()], ids=["bundled", "fetched"])
async def test_a_model_that_is_registered_as_what_it_is_not_judges_nothing(
    artifact: Artifact, other: dict[str, Any], said: str
) -> None:
    async def find(model: Digest) -> bytes | None:
        return artifact.data

    registered = Registration.of(artifact)
    source = WorkerVerdictSource(find)
    try:
        for flows in ((), FLOWS):
            with pytest.raises(RefusedModel, match=said):
                await source.judge(replace(registered, **other), flows)
        assert len(await source.judge(registered, FLOWS)) == len(FLOWS), "the worker goes on"
    finally:
        await source.close()


async def test_a_worker_is_the_package_s_and_is_not_told_the_passphrase(tmp_path, monkeypatch):
    (tmp_path / "node.py").write_text("raise SystemExit('not the package')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "correct horse")
    source = WorkerVerdictSource(nothing)
    try:
        assert await source.judge(MODEL, FLOWS) == SCORES
        environment = Path(f"/proc/{pid_of(source)}/environ").read_bytes()
    finally:
        await source.close()
    assert b"OMP_NUM_THREADS=1" in environment
    assert b"correct horse" not in environment


async def test_questions_at_once_and_large_ones_are_answered_each_with_its_own():
    source = WorkerVerdictSource(nothing)
    largest = flow(integers=FLOW_INTEGERS_MAX, categories=FLOW_CATEGORIES_MAX)
    try:
        answers = await asyncio.gather(
            *(source.judge(MODEL, FLOWS[: number % 4]) for number in range(12))
        )
        # A device may send the model's schema with any content: it hides no other's flows by that.
        full = await source.judge(MODEL, [*[largest] * 4_000, *FLOWS])
    finally:
        await source.close()

    assert answers == [SCORES[: number % 4] for number in range(12)]
    assert full == [None] * 4_000 + SCORES


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that has another program take the worker's place."""

    def install(text: str) -> None:
        program = tmp_path / "worker"
        source = tmp_path / "worker.py"
        source.write_text(f"import sys, time\n{text}\n")
        # Through a shell: the first line of a script cannot hold a path with spaces.
        program.write_text(f"#!/bin/sh\nexec {shlex.join([sys.executable, str(source)])}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))

    return install


async def gone(pid: int) -> bool:
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return True
        await asyncio.sleep(0.02)
    return False


async def test_a_worker_that_does_not_answer_is_ended(stub, monkeypatch):
    stub("time.sleep(60)")
    monkeypatch.setattr(verdict_source, "JUDGE_TIMEOUT_S", 0.3)
    source = WorkerVerdictSource(nothing)
    pids = []
    ask = source._ask

    async def watched(request):
        try:
            return await ask(request)
        finally:
            pids.append(pid_of(source))

    source._ask = watched  # type: ignore[method-assign]

    with pytest.raises(ModelError, match="TimeoutError"):
        await source.judge(MODEL, FLOWS)

    assert source._process is None
    assert await gone(pids[0])


@pytest.mark.parametrize(
    "text",
    [
        "sys.exit(3)",
        "sys.stdout.buffer.write(b'\\0\\0\\0\\x03abc'); sys.stdout.flush(); time.sleep(60)",
        "sys.stdout.buffer.write(b'\\0\\0'); sys.stdout.flush(); sys.exit()",
    ],
)
async def test_a_worker_that_answers_with_nonsense_is_a_failure_like_any_other(stub, text):
    stub(text)
    source = WorkerVerdictSource(nothing)

    with pytest.raises(ModelError):
        await source.judge(MODEL, FLOWS)

    assert source._process is None


async def test_a_question_given_up_ends_the_worker_for_its_answer_would_be_taken_for_the_next(stub):
    stub("time.sleep(60)")
    source = WorkerVerdictSource(nothing)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(source.judge(MODEL, FLOWS))
        while not is_started(source):
            await asyncio.sleep(0.01)
        pid = pid_of(source)
        task.cancel()

    assert source._process is None
    assert await gone(pid)
