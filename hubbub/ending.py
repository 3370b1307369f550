"""Waiting for a process that was asked to stop, and killing it if it takes too long."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


async def end_or_kill(
    ended: Coroutine[Any, Any, object], *, within_seconds: float, kill: Callable[[], None]
) -> None:
    """Wait until ``ended`` returns; after ``within_seconds`` call ``kill``."""
    async with asyncio.TaskGroup() as group:
        ending = group.create_task(ended)
        # Not `asyncio.timeout`: early releases of Python 3.11 cancel a task again that was
        # cancelled before, and the caller mostly was.
        await asyncio.wait({ending}, timeout=within_seconds)
        if not ending.done():
            kill()
