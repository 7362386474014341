"""How long a detector takes, in the process in which a miner's detector runs."""

import asyncio
import gc
from dataclasses import dataclass
from itertools import chain, zip_longest
from statistics import median
from typing import Any, Final

from chain.payloads import Flow
from chain.types import Digest
from cli.bench.baseline import verify_for
from cli.errors import CliError
from cli.processes import process_of, usage
from ml_validator.bundled import bundled_model
from ml_validator.registration import Registration
from ml_validator.synthetic import Profile, generate
from node.clock import SystemClock
from node.process import GC_THRESHOLDS
from node.tasks import first_error
from node.verdict_source import WorkerVerdictSource

BLOCK_FLOWS: Final = 2_000
SIGNED_BYTES: Final = 400
"""About what the signature of a flow covers."""
TICK_S: Final = 0.001
MIB: Final = 1024 * 1024

_CLOCK: Final = SystemClock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What is a failure if it is exceeded."""

    block_ms: float
    flow_ms: float
    stall_ms: float
    worker_mib: float

    def missed(self, figures: dict[str, Any]) -> list[str]:
        """Return a sentence for each target that a model of the figures misses."""
        bounds = {
            "block_ms": self.block_ms,
            "flow_ms": self.flow_ms,
            "event_loop_stall_ms": self.stall_ms,
            "worker_mib": self.worker_mib,
        }
        return [
            f"{model['name']}: {name} is {model[name]}, over {bound:g}"
            for model in figures["models"]
            for name, bound in bounds.items()
            if model[name] > bound
        ]


def sample_flows(count: int) -> list[Flow]:
    """Return synthetic flows, those of all profiles mixed."""
    each = -(-count // len(Profile))
    series = [generate(profile, each, seed) for seed, profile in enumerate(Profile)]
    records = chain.from_iterable(zip_longest(*series))
    return [record.flow for record in records if record is not None][:count]


async def measure_model(name: str, *, repeats: int) -> dict[str, Any]:
    """Judge a block, and one flow, again and again; times are medians.

    Returns
    -------
    dict
        ``block_ms`` and ``flow_ms``, both through the pipe to the worker; ``event_loop_stall_ms``,
        the longest time for which nothing else ran; ``worker_mib`` resident;
        ``block_to_signatures``, the time for a block in times of verifying as many signatures.
    """
    artifact, _ = bundled_model(name)
    model = Registration.of(artifact)
    flows = sample_flows(BLOCK_FLOWS)

    async def find(_: Digest) -> bytes:
        return artifact.data

    source = WorkerVerdictSource(find)
    thresholds = gc.get_threshold()
    try:
        # As in a node: looking for circles in all that is loaded here is no stall of one.
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        await source.judge(model, flows)
        stalls = [0.0]
        with first_error():
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(_watch_stalls(stalls))
                block_ms = [await _time_ms(source, model, flows) for _ in range(repeats)]
                watch.cancel()
        flow_ms = [
            await _time_ms(source, model, flows[turn : turn + 1]) for turn in range(10 * repeats)
        ]
        worker = _resident_mib(source)
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
        await source.close()
    verified_ms = 1_000 * BLOCK_FLOWS / await asyncio.to_thread(verify_for, 0.5, SIGNED_BYTES)
    return {
        "name": name,
        "block_ms": round(median(block_ms), 2),
        "flow_ms": round(median(flow_ms), 3),
        "event_loop_stall_ms": round(max(stalls), 2),
        "worker_mib": round(worker, 1),
        "block_to_signatures": round(median(block_ms) / verified_ms, 3),
    }


def _resident_mib(source: WorkerVerdictSource) -> float:
    assert source.process_id is not None, "it has just answered"
    process = process_of(source.process_id)
    used = None if process is None else usage(process)
    if used is None:
        raise CliError("the worker has ended", "try again")
    return used.rss_bytes / MIB


async def _time_ms(source: WorkerVerdictSource, model: Registration, flows: list[Flow]) -> float:
    started = _CLOCK.monotonic_ns()
    await source.judge(model, flows)
    return (_CLOCK.monotonic_ns() - started) / 1e6


async def _watch_stalls(stalls: list[float]) -> None:
    """Note by how much each short sleep is longer than it should be, in ms."""
    while True:
        started = _CLOCK.monotonic_ns()
        await asyncio.sleep(TICK_S)
        stalls.append((_CLOCK.monotonic_ns() - started) / 1e6 - TICK_S * 1_000)
