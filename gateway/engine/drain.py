"""The pace at which connections are asked to leave."""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from typing import TypeVar

T = TypeVar("T")

_TICK_SECONDS = 0.05


async def paced(
    items: Sequence[T], *, per_second: float, within_seconds: float
) -> AsyncGenerator[T]:
    """Give the items evenly, in no order that anybody could foresee.

    Those who leave together come back together, to the few gateways that are left.

    Args:
        per_second: More if ``within_seconds`` would not suffice.
    """
    waiting = random.sample(items, len(items))
    pace = max(per_second, len(waiting) / max(within_seconds, _TICK_SECONDS))
    loop = asyncio.get_running_loop()
    began, given = loop.time(), 0
    while waiting:
        due = min((loop.time() - began) * pace + 1 - given, len(waiting))
        for _ in range(round(due)):
            given += 1
            yield waiting.pop()
        await asyncio.sleep(_TICK_SECONDS * random.uniform(0.5, 1.5) if waiting else 0)
