"""The real `node.ports.VerdictSource`: a worker process that is started when it is needed."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from chain.errors import DecodeError
from chain.payloads import Flow
from chain.types import Digest
from ml_validator.errors import MissingModel, ModelError
from ml_validator.registration import Registration
from node.keys import PASSPHRASE_VARIABLE
from node.numpy_threads import NUMPY_THREADS
from node.verdict_worker import (
    FLOWS_PER_REQUEST,
    LENGTH_SIZE,
    decode_answer,
    encode_load,
    encode_request,
)

JUDGE_TIMEOUT_S: Final = 30.0
"""A worker that takes longer is ended; the next request starts another."""

log = structlog.get_logger(__name__)


class WorkerVerdictSource:
    """Sends flows to a worker process, one block at a time.

    Parameters
    ----------
    find : callable
        Returns the artefact of a model, awaited, or None where it is not here.
    """

    def __init__(self, find: Callable[[Digest], Awaitable[bytes | None]]) -> None:
        self._find = find
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    @property
    def process_id(self) -> int | None:
        """The worker, or None where none runs."""
        return None if self._process is None else self._process.pid

    async def judge(self, model: Registration, flows: Sequence[Flow]) -> Sequence[int | None]:
        """Return one score in parts per million for each flow, None where it is unreadable.

        For no flows, it only loads the model.

        Raises
        ------
        MissingModel
            Neither the worker nor this node has it.
        RefusedModel
            It is no model, or not the one that was registered.
        ModelError
            The worker did not answer.
        """
        scores: list[int | None] = []
        async with self._turn:
            for start in range(0, max(1, len(flows)), FLOWS_PER_REQUEST):
                part = flows[start : start + FLOWS_PER_REQUEST]
                scores += await self._judge_or_load(model, part)
        return scores

    async def _judge_or_load(self, model: Registration, flows: Sequence[Flow]) -> list[int | None]:
        try:
            return await self._judge(model, flows)
        except MissingModel:
            # A worker that was started anew, or has dropped it for others.
            artifact = await self._find(model.model)
            if artifact is None:
                raise
            await self._exchange(encode_load(artifact))
            return await self._judge(model, flows)

    async def _judge(self, model: Registration, flows: Sequence[Flow]) -> list[int | None]:
        scores = await self._exchange(encode_request(model, flows))
        if len(scores) != len(flows):
            raise ModelError(f"{len(scores)} scores for {len(flows)} flows")
        return scores

    async def _exchange(self, request: bytes) -> list[int | None]:
        """Send a request to the worker and return what it answers; ends one that fails."""
        try:
            async with asyncio.timeout(JUDGE_TIMEOUT_S):
                answer = await self._ask(request)
            return decode_answer(answer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, DecodeError) as error:
            await self.close()
            reason = str(error) or type(error).__name__
            raise ModelError(f"the worker failed: {reason}") from error
        except asyncio.CancelledError:
            # Its answer would be taken for that of the next question.
            await self.close()
            raise

    async def close(self) -> None:
        """End the worker."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def _ask(self, request: bytes) -> bytes:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                # A folder called `node` where the node was started is not the package.
                "-P",
                "-m",
                "node.verdict_worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=_worker_environment(),
            )
            log.info("verdict worker started", pid=process.pid)
        assert process.stdin is not None, "the worker was started with pipes"
        assert process.stdout is not None, "the worker was started with pipes"
        process.stdin.write(request)
        await process.stdin.drain()
        length = await process.stdout.readexactly(LENGTH_SIZE)
        return await process.stdout.readexactly(int.from_bytes(length, "big"))


def _worker_environment() -> dict[str, str]:
    """Return the environment of a worker: it opens no key, and is one thread."""
    kept = {name: text for name, text in os.environ.items() if name != PASSPHRASE_VARIABLE}
    return {**kept, **NUMPY_THREADS}
