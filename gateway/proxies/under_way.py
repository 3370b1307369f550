"""How many questions may be under way: who comes too many is told so at once, and nobody waits."""

from collections import Counter
from collections.abc import Generator, Hashable
from contextlib import contextmanager

from gateway.proxies.errors import TooManyAsked


class UnderWay:
    """Counts them, in all and of each of those who ask."""

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
