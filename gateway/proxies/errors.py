"""What asking the application can come to, beside its answer, and how the log tells of it."""

import time
from collections.abc import Callable
from typing import ClassVar

import structlog

from gateway.errors import Refused
from hubbub_client.contracts.errors import AppError, ErrorKind, Unavailable

log = structlog.get_logger(__name__)

_LINE_SECONDS = 1.0
"""Between two lines of one kind."""


class ApplicationAway(Unavailable):
    """It did not answer, not in time, or nothing that can be read."""


class TooManyAsked(AppError):
    """So much is under way that nothing more is asked now."""

    kind: ClassVar[ErrorKind] = ErrorKind.THROTTLED
    code: ClassVar[str] = "too_many_requests"


class CannotBeAsked(AppError):
    """What the client said can't be passed on as JSON: a number is too large, or it is nested too
    deep."""

    kind: ClassVar[ErrorKind] = ErrorKind.INVALID
    code: ClassVar[str] = "bad_request"


class ApplicationRefuses(Exception):
    """The application's own error, for the client."""

    def __init__(self, code: int, message: str, *, temporary: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.temporary = temporary


class ApplicationDisconnects(Exception):
    """The application wants the connection to end so."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class BadMethod(ValueError):
    """No method can be called so."""


class NobodyServes(Refused):
    """The method is nobody's, now."""


class FailureLog:
    """Tells why asking fails: of the first time, and then once a second for each kind of question.
    So one sees what is wrong, however often it is."""

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
