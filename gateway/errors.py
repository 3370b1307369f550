"""The two ways to fail: an error answers a command, an end reason ends the connection."""

import json
from enum import Enum
from typing import ClassVar

from hubbub_client.contracts.errors import AppError, ErrorKind


class EndReason(Enum):
    """Why this gateway ends a connection; each protocol has a close code and a text for each.

    The value is its label in the metrics.
    """

    UNSUPPORTED_DATA = "binary_frame"
    INVALID_TOKEN = "invalid_token"
    TOKEN_EXPIRED = "token_expired"
    SESSION_ENDED = "session_ended"
    INVALID_CHANNEL = "invalid_room"
    RATE_LIMIT = "rate_limit"
    TOO_MANY_OF_USER = "user_limit"
    TOO_MANY_OF_ADDRESS = "address_limit"
    INTERNAL_ERROR = "internal_error"
    RESTARTING = "restarting"
    TOO_SLOW = "too_slow"
    SILENT = "silent"
    """The peer did not answer a ping."""
    NOT_READY = "not_ready"
    FULL = "process_limit"


class Refusal(Enum):
    """Why somebody may not do something in a channel; each protocol has a code for each."""

    UNKNOWN_CHANNEL = "unknown_channel"
    """It is in no namespace that there is."""
    PERMISSION_DENIED = "permission_denied"
    NOT_AVAILABLE = "not_available"
    """To nobody: the namespace has it off."""
    BAD_REQUEST = "bad_request"
    """No channel of that namespace is called so, or takes such data."""


class OtherUser(AppError):
    """A connection can't change hands: the new token is of another user."""

    kind: ClassVar[ErrorKind] = ErrorKind.FORBIDDEN
    code: ClassVar[str] = "invalid_token"


class Refused(AppError):
    """What the user may not do in a channel."""

    kind: ClassVar[ErrorKind] = ErrorKind.FORBIDDEN
    code: ClassVar[str] = "forbidden"

    def __init__(self, message: str, refusal: Refusal) -> None:
        super().__init__(message)
        self.refusal = refusal


class MayNotSubscribe(Refused):
    """The user may not listen there."""


class MayNotPublish(Refused):
    """The user may not publish there, or not that."""


class TooManyConnections(AppError):
    """The user has as many as one may."""

    kind: ClassVar[ErrorKind] = ErrorKind.FORBIDDEN
    code: ClassVar[str] = "too_many_connections"


def error_code(error: AppError) -> str:
    """The code of an error frame; what may be tried again is `unavailable`, whatever it was."""
    return "unavailable" if error.kind is ErrorKind.UNAVAILABLE else error.code


MAX_REASON_BYTES = 123
"""Of a close frame."""


def is_close_reason(text: str) -> bool:
    """Whether a close may have this reason; older SDKs read one that is JSON as advice."""
    if not text.isprintable() or len(text.encode()) > MAX_REASON_BYTES:
        return False
    try:
        json.loads(text)
    except ValueError:
        return True
    return False
