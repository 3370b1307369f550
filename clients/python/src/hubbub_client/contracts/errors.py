"""What can go wrong, by kind; each edge maps every kind to its own answer."""

from enum import Enum
from typing import ClassVar

from hubbub_client import errors


class ErrorKind(Enum):
    """How a failure looks to whoever asked."""

    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    INVALID = "invalid"
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"


class AppError(errors.HubbubError):
    """A failure that the caller is told of, with a stable code.

    ``str(error)`` is the sentence for the caller: it holds no secret.
    """

    kind: ClassVar[ErrorKind]
    code: ClassVar[str]
    retry_after_seconds: int | None = None


class Unavailable(AppError, errors.Unavailable):
    """A dependency does not answer now; the same request may succeed later."""

    kind = ErrorKind.UNAVAILABLE
    code = "unavailable"
