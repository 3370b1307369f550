"""What asking the application can come to, beside its answer."""

from typing import ClassVar

from gateway.errors import Refused
from hubbub_client.contracts.errors import AppError, ErrorKind, Unavailable


class ApplicationAway(Unavailable):
    """It did not answer, not in time, or nothing that can be read."""


class TooManyAsked(AppError):
    """So much is under way that nothing more is asked now."""

    kind: ClassVar[ErrorKind] = ErrorKind.THROTTLED
    code: ClassVar[str] = "too_many_requests"


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
