"""The size of the load, and how long a server may take to become idle."""

from enum import Enum

from bench.measures import until_quiet

FORGET_SECONDS = 6.0
"""Until presence reports users who have left: the grace, and some more."""


class Scale(Enum):
    """The whole load, a tenth for a first look, or a hundredth to test that it runs."""

    FULL = 1
    QUICK = 10
    TINY = 100

    def of(self, full: int) -> int:
        """Scale a number down."""
        return max(full // self.value, 1)

    async def until_quiet(self, pid: int) -> None:
        """Return when the server is idle."""
        await until_quiet(pid, window_seconds=0.05 if self is Scale.TINY else 0.5)

    async def until_forgotten(self, pid: int) -> None:
        """Return when the server is idle and has also reported that its users left."""
        at_least = 0.0 if self is Scale.TINY else FORGET_SECONDS
        await until_quiet(pid, window_seconds=0.5, at_least=at_least)
