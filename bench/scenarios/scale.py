"""How much of the load is put on."""

from enum import Enum


class Scale(Enum):
    """The whole load, a tenth for a first look, or so little that it only shows that it runs."""

    FULL = 1
    QUICK = 10
    TINY = 100

    def of(self, full: int, *, at_least: int = 1) -> int:
        """The number for this scale."""
        return max(full // self.value, at_least)

    @property
    def settle_seconds(self) -> float:
        """For what a gateway does a while after it was left: the grace of presence, and more."""
        return 0.0 if self is Scale.TINY else 6.0
