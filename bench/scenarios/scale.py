"""How much of the load is put on, and how long a server is given to come to rest."""

from enum import Enum

from bench.measures import until_quiet

FORGET_SECONDS = 6.0
"""After which a gateway has told the others who left: the grace of presence, and some more."""


class Scale(Enum):
    """The whole load, a tenth for a first look, or so little that it only shows that it runs."""

    FULL = 1
    QUICK = 10
    TINY = 100

    def of(self, full: int) -> int:
        """The number for this scale."""
        return max(full // self.value, 1)

    async def until_quiet(self, pid: int) -> None:
        """Return when the server has nothing left to do."""
        await until_quiet(pid, window_seconds=0.05 if self is Scale.TINY else 0.5)

    async def until_forgotten(self, pid: int) -> None:
        """The same, when it has also done what it does a while after its clients have left."""
        at_least = 0.0 if self is Scale.TINY else FORGET_SECONDS
        await until_quiet(pid, window_seconds=0.5, at_least=at_least)
