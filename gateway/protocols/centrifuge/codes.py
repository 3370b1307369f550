"""The codes of the protocol: of errors that answer a command, of disconnects, of unsubscribes.

Source: centrifugal/centrifuge, errors.go, disconnect.go and unsubscribe.go. The texts belong to it.
"""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from gateway.errors import EndReason, Refusal
from gateway.transport.frames import Close
from hubbub_client.contracts.errors import AppError, ErrorKind
from shared.tokens.errors import GrantExpired, InvalidToken, TokenExpired
from shared.web.user_rates import TooFast


class ErrorCode(NamedTuple):
    """As an error is answered."""

    code: int
    message: str
    temporary: bool = False


class Errors(Enum):
    """What a command may be answered with."""

    INTERNAL = ErrorCode(100, "internal server error", temporary=True)
    UNKNOWN_CHANNEL = ErrorCode(102, "unknown channel")
    PERMISSION_DENIED = ErrorCode(103, "permission denied")
    METHOD_NOT_FOUND = ErrorCode(104, "method not found")
    ALREADY_SUBSCRIBED = ErrorCode(105, "already subscribed")
    LIMIT_EXCEEDED = ErrorCode(106, "limit exceeded")
    BAD_REQUEST = ErrorCode(107, "bad request")
    NOT_AVAILABLE = ErrorCode(108, "not available")
    TOKEN_EXPIRED = ErrorCode(109, "token expired")
    EXPIRED = ErrorCode(110, "expired")
    TOO_MANY_REQUESTS = ErrorCode(111, "too many requests", temporary=True)
    UNRECOVERABLE_POSITION = ErrorCode(112, "unrecoverable position")


class Refused(Exception):
    """A command that is answered with an error."""

    def __init__(self, error: Errors) -> None:
        super().__init__(error.value.message)
        self.error = error


class Disconnected(Exception):
    """A command that ends the connection."""

    def __init__(self, close: Close) -> None:
        super().__init__(close.reason)
        self.close = close


ERROR_OF_REFUSAL: Mapping[Refusal, Errors] = {
    Refusal.UNKNOWN_CHANNEL: Errors.UNKNOWN_CHANNEL,
    Refusal.PERMISSION_DENIED: Errors.PERMISSION_DENIED,
    Refusal.NOT_AVAILABLE: Errors.NOT_AVAILABLE,
    Refusal.BAD_REQUEST: Errors.BAD_REQUEST,
}
"""Total: a test says so."""

ERROR_OF_KIND: Mapping[ErrorKind, Errors] = {
    ErrorKind.UNAUTHENTICATED: Errors.PERMISSION_DENIED,
    ErrorKind.FORBIDDEN: Errors.PERMISSION_DENIED,
    ErrorKind.NOT_FOUND: Errors.UNKNOWN_CHANNEL,
    ErrorKind.CONFLICT: Errors.BAD_REQUEST,
    ErrorKind.INVALID: Errors.BAD_REQUEST,
    ErrorKind.THROTTLED: Errors.TOO_MANY_REQUESTS,
    ErrorKind.UNAVAILABLE: Errors.INTERNAL,
}
"""Total: a test says so."""


def error_of(error: AppError) -> Errors:
    """What a command is answered that failed for this."""
    refusal = getattr(error, "refusal", None)
    if isinstance(refusal, Refusal):
        return ERROR_OF_REFUSAL[refusal]
    if isinstance(error, TokenExpired):
        return Errors.TOKEN_EXPIRED
    if isinstance(error, GrantExpired):
        return Errors.EXPIRED
    return ERROR_OF_KIND[error.kind]


# A client comes back after all but 3500 to 3999 and 4500 to 4999.
SHUTDOWN = Close(3001, "shutdown")
INTERNAL_ERROR = Close(3004, "internal server error")
CONNECTION_EXPIRED = Close(3005, "connection expired")
SUBSCRIPTION_EXPIRED = Close(3006, "subscription expired")
SLOW = Close(3008, "slow")
INSUFFICIENT_STATE = Close(3010, "insufficient state")
FORCE_RECONNECT = Close(3011, "force reconnect")
NO_PONG = Close(3012, "no pong")
TOO_MANY_REQUESTS = Close(3013, "too many requests")
INVALID_TOKEN = Close(3500, "invalid token")
BAD_REQUEST = Close(3501, "bad request")
STALE = Close(3502, "stale")
FORCE_DISCONNECT = Close(3503, "force disconnect")
CONNECTION_LIMIT = Close(3504, "connection limit")
CHANNEL_LIMIT = Close(3505, "channel limit")
INAPPROPRIATE_PROTOCOL = Close(3506, "inappropriate protocol")

PERMISSION_DENIED = Close(3507, "permission denied")

DISCONNECT_OF_ERROR: Mapping[Errors, Close] = {
    Errors.TOKEN_EXPIRED: CONNECTION_EXPIRED,
    Errors.EXPIRED: CONNECTION_EXPIRED,
    Errors.TOO_MANY_REQUESTS: TOO_MANY_REQUESTS,
    Errors.PERMISSION_DENIED: PERMISSION_DENIED,
}
"""Where nobody reads an error, on unidirectional transports; for all others it is internal."""

CLOSE_CODES: Mapping[EndReason, Close] = {
    EndReason.UNSUPPORTED_DATA: INAPPROPRIATE_PROTOCOL,
    EndReason.INVALID_TOKEN: STALE,  # none came in time; one that is not taken says so itself
    EndReason.TOKEN_EXPIRED: CONNECTION_EXPIRED,
    EndReason.SESSION_ENDED: INVALID_TOKEN,
    EndReason.INVALID_CHANNEL: BAD_REQUEST,
    EndReason.RATE_LIMIT: TOO_MANY_REQUESTS,
    EndReason.TOO_MANY_OF_USER: CONNECTION_LIMIT,
    EndReason.TOO_MANY_OF_ADDRESS: CONNECTION_LIMIT,
    EndReason.INTERNAL_ERROR: INTERNAL_ERROR,
    EndReason.RESTARTING: SHUTDOWN,
    EndReason.TOO_SLOW: SLOW,
    EndReason.SILENT: NO_PONG,
    EndReason.NOT_READY: INTERNAL_ERROR,
    EndReason.FULL: INTERNAL_ERROR,
}
"""Total: a test says so."""


class Unsubscribe(NamedTuple):
    """Why the server ended a subscription; from 2500 on the client subscribes again."""

    code: int
    reason: str


SERVER_UNSUBSCRIBE = Unsubscribe(2000, "server unsubscribe")
SUBSCRIPTION_OVER = Unsubscribe(2501, "subscription expired")


def close_of(error: AppError) -> Close:
    """How a connection ends that is refused for this before it is connected."""
    if isinstance(error, InvalidToken):
        return INVALID_TOKEN
    if isinstance(error, TooFast):
        return TOO_MANY_REQUESTS
    if error.kind is ErrorKind.UNAVAILABLE:
        return INTERNAL_ERROR
    return CONNECTION_LIMIT
