"""Why asking fails, in the log: enough to see what is wrong, however often it does."""

import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

_LINE_SECONDS = 1.0
"""Between two lines of one kind."""


class FailureLog:
    """Tells of the first failure, and then of one a second of each kind of question."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._next_line: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def tell(self, kind: str, reason: str) -> None:
        now = self._monotonic()
        if now < self._next_line.get(kind, now):
            self._untold[kind] = self._untold.get(kind, 0) + 1
            return
        self._next_line[kind] = now + _LINE_SECONDS
        untold = self._untold.pop(kind, 0)
        others = {"untold": untold} if untold else {}
        log.warning("application_not_asked", question=kind, reason=reason, **others)
