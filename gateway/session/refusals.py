"""Why tokens are refused, in the log: enough to see what is wrong, however many come."""

import time
from collections.abc import Callable

import structlog

from shared.tokens.errors import InvalidToken

log = structlog.get_logger(__name__)

REFUSALS_TOLD_A_SECOND = 5


class RefusalLog:
    """Tells why tokens are refused within it, and of some of a flood; never of the token."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._begins_anew_at = monotonic()
        self._told = 0
        """In the second that goes on until then."""
        self._untold = 0
        """Since the last that was told."""

    def __enter__(self) -> None:
        """What is raised until `__exit__` goes on."""

    def __exit__(self, _kind: object, error: BaseException | None, _where: object) -> None:
        if isinstance(error, InvalidToken):
            self._tell(error)

    def _tell(self, refusal: InvalidToken) -> None:
        now = self._monotonic()
        if now >= self._begins_anew_at:
            self._begins_anew_at, self._told = now + 1.0, 0
        if self._told >= REFUSALS_TOLD_A_SECOND:
            self._untold += 1
            return
        self._told += 1
        others = {"untold": self._untold} if self._untold else {}
        self._untold = 0
        log.info("token_refused", reason=str(refusal), **others)
