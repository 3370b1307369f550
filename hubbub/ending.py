"""The end of a process that was asked to stop: waited for, and not for ever."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


async def end_or_kill(
    ended: Coroutine[Any, Any, object], *, within_seconds: float, kill: Callable[[], None]
) -> None:
    """Wait until ``ended`` returns; ``kill`` makes it return if that is late."""
    async with asyncio.TaskGroup() as group:
        ending = group.create_task(ended)
        # Not `asyncio.timeout`: in a task that was cancelled already, as who stops mostly is,
        # early releases of Python 3.11 end it with another cancellation.
        await asyncio.wait({ending}, timeout=within_seconds)
        if not ending.done():
            kill()
