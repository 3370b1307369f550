"""The two ways to fail: an error answers a command, a close ends the connection."""

from enum import IntEnum
from typing import ClassVar, NamedTuple

from shared.contracts.errors import AppError, ErrorKind


class CloseCode(IntEnum):
    """The codes with which this gateway ends a connection. Source: RFC 6455, section 7.4."""

    UNSUPPORTED_DATA = 1003
    POLICY_VIOLATION = 1008
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013


class Close(NamedTuple):
    """Why a connection ends, as its peer reads it."""

    code: int
    reason: str


BINARY_FRAME = Close(CloseCode.UNSUPPORTED_DATA, "binary frames are not understood")
INVALID_TOKEN = Close(CloseCode.POLICY_VIOLATION, "Invalid token")
TOKEN_EXPIRED = Close(CloseCode.POLICY_VIOLATION, "Token expired")
SESSION_ENDED = Close(CloseCode.POLICY_VIOLATION, "Session ended")
INVALID_ROOM = Close(CloseCode.POLICY_VIOLATION, "Invalid room")
RATE_LIMIT = Close(CloseCode.POLICY_VIOLATION, "Rate limit")
TOO_MANY_OF_USER = Close(CloseCode.POLICY_VIOLATION, "Too many connections of this user")
TOO_MANY_OF_ADDRESS = Close(CloseCode.POLICY_VIOLATION, "Too many connections from this address")
INTERNAL_ERROR = Close(CloseCode.INTERNAL_ERROR, "internal error")
RESTARTING = Close(CloseCode.SERVICE_RESTART, "restarting")
TOO_SLOW = Close(CloseCode.TRY_AGAIN_LATER, "too slow")
NOT_READY = Close(CloseCode.TRY_AGAIN_LATER, "not ready")
FULL = Close(CloseCode.TRY_AGAIN_LATER, "too many connections")

CLOSES = (
    BINARY_FRAME, INVALID_TOKEN, TOKEN_EXPIRED, SESSION_ENDED, INVALID_ROOM, RATE_LIMIT,
    TOO_MANY_OF_USER, TOO_MANY_OF_ADDRESS, INTERNAL_ERROR, RESTARTING, TOO_SLOW, NOT_READY, FULL,
)  # fmt: skip
"""All by which this gateway ends a connection of its own accord."""


class OtherUser(AppError):
    """A connection can't change hands: the new token is of another user."""

    kind: ClassVar[ErrorKind] = ErrorKind.FORBIDDEN
    code: ClassVar[str] = "invalid_token"


class MayNotSubscribe(AppError):
    """The user may not listen there."""

    kind: ClassVar[ErrorKind] = ErrorKind.FORBIDDEN
    code: ClassVar[str] = "forbidden"


class MayNotPublish(AppError):
    """Only services publish there."""

    kind: ClassVar[ErrorKind] = ErrorKind.FORBIDDEN
    code: ClassVar[str] = "forbidden"


class TooManyConnections(AppError):
    """The user has as many as one may."""

    kind: ClassVar[ErrorKind] = ErrorKind.FORBIDDEN
    code: ClassVar[str] = "too_many_connections"


def error_code(error: AppError) -> str:
    """The code of an error frame; what may be tried again is `unavailable`, whatever it was."""
    return "unavailable" if error.kind is ErrorKind.UNAVAILABLE else error.code
