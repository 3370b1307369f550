"""How much may be asked of the application: what is too much is refused, and nobody waits."""

from collections import Counter
from collections.abc import Generator, Hashable
from contextlib import contextmanager
from dataclasses import dataclass

from gateway.proxies.errors import TooManyAsked


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyLimits:
    """Units are in the names."""

    timeout_seconds: float
    refresh_retry_seconds: float
    """Between two questions whether somebody may stay, if there was no answer to the first."""
    max_reply_bytes: int
    max_connects: int
    """Under way at a time, for those who have shown nothing yet."""
    max_connects_per_address: int
    max_requests: int
    """Under way at a time, for those who are connected."""
    max_requests_per_user: int


class UnderWay:
    """Counts the questions that are, in all and of each of those who ask."""

    def __init__(self, *, at_most: int, at_most_each: int) -> None:
        self._at_most = at_most
        self._at_most_each = at_most_each
        self._count = 0
        self._of_each: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return self._count

    @contextmanager
    def one_more(self, whose: Hashable) -> Generator[None]:
        """Count one during the body.

        Raises:
            TooManyAsked: there are enough, of all or of this one.
        """
        if self._count >= self._at_most or self._of_each[whose] >= self._at_most_each:
            raise TooManyAsked("the application is asked enough already")
        self._count += 1
        self._of_each[whose] += 1
        try:
            yield
        finally:
            self._count -= 1
            self._of_each[whose] -= 1
            if not self._of_each[whose]:  # else one would stay for everybody ever seen
                del self._of_each[whose]
