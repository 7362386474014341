"""An event loop whose time passes only when nothing is left to do.

It runs whole nodes unmodified, in one thread and without waiting: what is ready runs in the order
in which it became ready, timers in the order of (time, sequence), and when nothing is ready the
time jumps to the next timer. There are no sockets, threads, subprocesses or signals; asking for
them fails. docs/adr/0008-simulated-event-loop.md says why it is not a patched system loop.
"""

import asyncio
import contextvars
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar, TypeVarTuple

CALLS_AT_ONE_INSTANT_MAX: Final = 2_000_000
"""So many callbacks without time passing are taken for a livelock."""

Result = TypeVar("Result")
Ts = TypeVarTuple("Ts")


def new_loop() -> "SimulatedLoop":
    """Return a loop at time 0."""
    # What it does not have, the base class refuses; only its type stubs call that abstract.
    return SimulatedLoop()  # type: ignore[abstract]


class Stalled(Exception):
    """Nothing is ready and no timer is armed, but the main task has not ended."""


class Livelock(Exception):
    """Callbacks follow one another without end while no time passes."""


class SimulatedTask(asyncio.Task[Any]):
    """A task whose place in a set follows from its number, not from its address in memory.

    `asyncio.TaskGroup` keeps its tasks in a set and cancels them in the order of that set.
    """

    _number = 0

    def __new__(cls, *_: object, loop: "SimulatedLoop", **__: object) -> "SimulatedTask":
        task = super().__new__(cls)
        task._number = loop.next_number()
        return task

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class SimulatedFuture(asyncio.Future[Any]):
    """The same for futures, which `asyncio.wait` keeps in sets."""

    _number = 0

    def __new__(cls, *_: object, loop: "SimulatedLoop") -> "SimulatedFuture":
        future = super().__new__(cls)
        future._number = loop.next_number()
        return future

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class SimulatedLoop(asyncio.AbstractEventLoop):
    """The loop.

    Attributes
    ----------
    failures : list of BaseException
        What callbacks raised, and what tasks raised that nobody awaited; the run has failed.
    steps : int
        Callbacks run so far.
    """

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.steps = 0
        self._now_s = 0.0
        self._number = 0
        self._ready: deque[_Handle] = deque()
        self._timers: list[tuple[float, int, _Timer]] = []
        self._is_running = False
        self._is_stopping = False
        self._is_closed = False

    # Time and callbacks

    def time(self) -> float:
        """Return the simulated seconds since the loop was made."""
        return self._now_s

    def next_number(self) -> int:
        """Return a number that was not given before."""
        self._number += 1
        return self._number

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Run `callback` behind everything that is ready."""
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run `callback` after `delay` seconds."""
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run `callback` at a time; those of one time run in the order in which they were armed."""
        handle = _Timer(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, self.next_number(), handle))
        return handle

    # Tasks and futures

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return SimulatedFuture(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        """Start a task."""
        return SimulatedTask(coro, loop=self, name=name, context=context)

    def get_debug(self) -> bool:
        """Return False: the debug mode measures real time."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Take note of what nobody handled."""
        error = context.get("exception")
        self.failures.append(error or RuntimeError(context.get("message", "unknown failure")))

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Take note of what nobody handled."""
        self.call_exception_handler(context)

    def get_exception_handler(self) -> None:
        """Return None: there is one way to handle failures."""

    # Running

    def run_until_complete(self, main: Coroutine[Any, Any, Result]) -> Result:  # type: ignore[override]
        """Run until `main` has ended, and return its result.

        Raises
        ------
        Stalled
            `main` waits for something that cannot happen any more.
        Livelock
            Time has stopped.
        """
        task = self.create_task(main, name="main")
        task.add_done_callback(lambda _: self.stop())
        self.run_forever()
        if not task.done():
            raise Stalled(f"nothing to do after {self._now_s:.3f} s of simulated time")
        result: Result = task.result()
        return result

    def run_forever(self) -> None:
        """Run until `stop`, or until nothing is left to do."""
        assert not self._is_running, "a loop runs once at a time"
        assert events._get_running_loop() is None, "no loop runs inside another"
        self._is_running, self._is_stopping = True, False
        events._set_running_loop(self)
        try:
            while self._turn():
                pass
        finally:
            self._is_running = False
            events._set_running_loop(None)

    def stop(self) -> None:
        """Let the run end after the present callback."""
        self._is_stopping = True

    def is_running(self) -> bool:
        """Tell whether the loop runs."""
        return self._is_running

    def is_closed(self) -> bool:
        """Tell whether the loop was closed."""
        return self._is_closed

    def close(self) -> None:
        """Forget everything that has not run."""
        self._ready.clear()
        self._timers.clear()
        self._is_closed = True

    async def shutdown_asyncgens(self) -> None:
        """Do nothing: asynchronous generators end with their tasks."""

    def _turn(self) -> bool:
        """Run what is ready, then let time pass; False where the run is over."""
        calls = 0
        ready = self._ready
        while ready:
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()
            calls += 1
            if self._is_stopping:
                break
            if calls > CALLS_AT_ONE_INSTANT_MAX:
                raise Livelock(f"time stands still at {self._now_s:.6f} s")
        self.steps += calls
        if self._is_stopping:
            return False
        while self._timers:
            when, _, timer = heapq.heappop(self._timers)
            if timer._cancelled:
                continue
            self._now_s = max(self._now_s, when)
            ready.append(timer)
            # One at a time: what it makes ready runs before the next timer of the same time.
            return True
        return False


class _Handle(asyncio.Handle):
    """A callback; asyncio's own, without what serves its debug mode."""

    __slots__ = ()

    _args: tuple[Any, ...]
    _callback: Callable[..., object]
    _cancelled: bool
    _context: contextvars.Context
    _loop: SimulatedLoop

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: SimulatedLoop,
        context: contextvars.Context | None,
    ) -> None:
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = contextvars.copy_context() if context is None else context
        self._cancelled = False

    def cancel(self) -> None:
        """Let nothing come of it; a timer stays in its place until its time comes."""
        self._cancelled = True

    def _run(self) -> None:
        try:
            self._context.run(self._callback, *self._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._loop.failures.append(error)


class _Timer(_Handle, asyncio.TimerHandle):
    """A callback at a time."""

    __slots__ = ()

    _when: float

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: SimulatedLoop,
        context: contextvars.Context | None,
    ) -> None:
        super().__init__(callback, args, loop, context)
        self._when = when
