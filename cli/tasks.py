"""Tasks beside each other."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

Guard = Callable[[], Coroutine[Any, Any, None]]
"""Runs beside a long piece of work until it is cancelled; raises when going on makes no sense."""


async def no_guard() -> None:
    """Guard nothing."""
    await asyncio.Event().wait()
