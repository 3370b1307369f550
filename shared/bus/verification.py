"""Whether a follower is sure of its position, since when, and who waits for that."""

import asyncio
import time

from shared.bus.errors import BusUnavailable


class Verification:
    """Holds from a verification to the next doubt."""

    def __init__(self) -> None:
        self.began_at = 0.0
        """When the last verification began, by the monotonic clock."""
        self.doubted_at = time.monotonic()
        self.holds = False
        self._doubts = 0
        self._confirmed = asyncio.Event()
        self._next = asyncio.Event()

    @property
    def doubts(self) -> int:
        """How often there was doubt: a number to give to `check` after a wait."""
        return self._doubts

    def check(self, doubts: int) -> None:
        """See that no doubt came up since.

        Raises:
            BusUnavailable: one did, so what was learnt meanwhile is worth nothing.
        """
        if doubts != self._doubts:
            raise BusUnavailable("in doubt again")

    def doubt(self) -> None:
        self._doubts += 1
        self.doubted_at = time.monotonic()
        self.suspend()

    def suspend(self) -> None:
        """It does not hold for now, though what is being asked for stays valid."""
        self.holds = False
        self._confirmed.clear()

    def confirm(self, began_at: float) -> None:
        self.began_at = began_at
        self.holds = True
        self._confirmed.set()
        self._next.set()
        self._next = asyncio.Event()

    async def until_holds(self) -> None:
        await self._confirmed.wait()

    async def until_next(self) -> None:
        await self._next.wait()
