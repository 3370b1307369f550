"""Whether anybody may be let in now, found out once for all who come in one turn of the loop."""

from collections.abc import Callable


class Readiness:
    """The same answer for all who ask in one turn, if it is that nothing stands in the way.

    To find it out takes some forty calls, and in a storm several connections ask in each turn.

    Whoever comes after something came up in the same turn is let in as if they had come just before
    it. Nothing is lost by that: a sign-in looks by itself whether keys and revocations are known,
    and a drain closes whoever came meanwhile, too.
    """

    def __init__(
        self, find_out: Callable[[], list[str]], schedule: Callable[[Callable[[], None]], object]
    ) -> None:
        """
        Args:
            find_out: What stands in the way of serving; empty when nothing does.
            schedule: Calls what it is given in the next turn.
        """
        self._find_out = find_out
        self._schedule = schedule
        self._is_ready = False

    def not_ready(self) -> list[str]:
        """What stands in the way of serving, or did as this turn began; empty when nothing does."""
        if self._is_ready:
            return []
        reasons = self._find_out()
        if not reasons:
            self._is_ready = True
            self._schedule(self._forget)
        return reasons

    def _forget(self) -> None:
        self._is_ready = False
