"""A thread pool behind :class:`node.ports.Executor`.

What blocks (fsync, LevelDB) or computes in C without the interpreter's lock (signatures, hashes)
runs here, beside the event loop.
"""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self, TypeVar

import structlog

log = structlog.get_logger(__name__)

THREADS_DEFAULT: Final = 4
THREADS_MAX: Final = 64

Result = TypeVar("Result")


class ThreadPool:
    """Runs functions on a bounded number of threads; callers beyond it wait their turn.

    A call never outlives its caller. One cancelled while it waits for a thread does not run at all;
    one cancelled while its function runs ends when the function has ended. So whoever closes a
    store after its tasks have ended never pulls it from under a write.

    Parameters
    ----------
    threads : int
        Functions that run at once, up to ``THREADS_MAX``.
    name : str
        Prefix of the names of the threads.

    Notes
    -----
    A pool belongs to one event loop. Functions are called in the order in which they were asked
    for; with more than one thread they overlap.
    """

    def __init__(self, threads: int = THREADS_DEFAULT, *, name: str = "pool") -> None:
        if not 1 <= threads <= THREADS_MAX:
            raise ValueError(f"a pool has 1 to {THREADS_MAX} threads, not {threads}")
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)
        # Waiting here and not in the queue of the pool: who waits has not begun and can be dropped.
        self._free = asyncio.Semaphore(threads)

    async def run(self, function: Callable[..., Result], *args: object) -> Result:
        """Return ``function(*args)``, or raise what it raised.

        Raises
        ------
        RuntimeError
            The pool is closed.
        """
        context = contextvars.copy_context()
        async with self._free:
            call = asyncio.wrap_future(self._threads.submit(context.run, function, *args))
            try:
                return await asyncio.shield(call)
            except asyncio.CancelledError:
                await _settle(call)
                raise

    def close(self) -> None:
        """Take no more functions and wait for those that run."""
        self._threads.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


async def _settle(call: asyncio.Future[Result]) -> None:
    """Wait until `call` has ended, however often the caller is cancelled meanwhile."""
    while not call.done():
        try:
            await asyncio.wait([call])
        except asyncio.CancelledError:
            # The cancellation that brought us here is raised again by the caller.
            continue
    if not call.cancelled() and (error := call.exception()) is not None:
        log.warning("a cancelled call failed", error=str(error), kind=type(error).__name__)
