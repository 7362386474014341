"""Tasks beside each other, and the errors out of their groups as the plain ones that they are."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

Guard = Callable[[], Coroutine[Any, Any, None]]
"""Runs beside a long piece of work until it is cancelled; raises when going on makes no sense."""


async def no_guard() -> None:
    """Guard nothing."""
    await asyncio.Event().wait()


@contextmanager
def first_error() -> Iterator[None]:
    """Raise the first error of an `ExceptionGroup` alone: the others follow from it."""
    try:
        yield
    except BaseExceptionGroup as group:
        error = _first(group)
        raise error from error.__cause__


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
