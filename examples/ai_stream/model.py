"""A stand-in for a model: it yields words, at the pace of one that thinks."""

import asyncio
import re
from collections.abc import AsyncGenerator

WORD_SECONDS = 0.01
UNASKED_WORDS = 300


async def words(question: str) -> AsyncGenerator[str]:
    """Count as far as the question says: "Count to 100"."""
    said = re.search(r"\d+", question)
    for number in range(1, (int(said[0]) if said else UNASKED_WORDS) + 1):
        await asyncio.sleep(WORD_SECONDS)
        yield f"{number} "
