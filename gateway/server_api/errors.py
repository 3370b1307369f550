"""Why a command of the API failed: the codes and messages of Centrifugo's."""

from collections.abc import Awaitable, Mapping
from enum import Enum
from http import HTTPStatus
from typing import Any

from gateway.errors import Refusal
from gateway.streams.feed import Unrecoverable
from hubbub_client.contracts.errors import AppError, ErrorKind

Answer = dict[str, Any]
"""Of a command, as JSON."""


class ApiErrorCode(Enum):
    """The codes, and what they are called."""

    INTERNAL = (100, "internal server error")
    """Also if the same command may succeed later."""
    UNKNOWN_CHANNEL = (102, "unknown channel")
    NOT_FOUND = (104, "not found")
    BAD_REQUEST = (107, "bad request")
    NOT_AVAILABLE = (108, "not available")
    UNRECOVERABLE = (112, "unrecoverable position")
    CONFLICT = (113, "conflict")


class ApiError(Exception):
    """A command that is answered with an error."""

    def __init__(self, code: ApiErrorCode, detail: str = "") -> None:
        number, message = code.value
        self.answer = {"code": number, "message": f"{message}: {detail}" if detail else message}
        super().__init__(self.answer["message"])


CODE_OF_KIND: Mapping[ErrorKind, ApiErrorCode] = {
    ErrorKind.UNAUTHENTICATED: ApiErrorCode.BAD_REQUEST,
    ErrorKind.FORBIDDEN: ApiErrorCode.BAD_REQUEST,
    ErrorKind.NOT_FOUND: ApiErrorCode.NOT_FOUND,
    ErrorKind.CONFLICT: ApiErrorCode.CONFLICT,
    ErrorKind.INVALID: ApiErrorCode.BAD_REQUEST,
    ErrorKind.THROTTLED: ApiErrorCode.INTERNAL,
    ErrorKind.UNAVAILABLE: ApiErrorCode.INTERNAL,
}

CODE_OF_REFUSAL: Mapping[Refusal, ApiErrorCode] = {
    Refusal.UNKNOWN_CHANNEL: ApiErrorCode.UNKNOWN_CHANNEL,
    Refusal.PERMISSION_DENIED: ApiErrorCode.BAD_REQUEST,
    Refusal.NOT_AVAILABLE: ApiErrorCode.NOT_AVAILABLE,
    Refusal.BAD_REQUEST: ApiErrorCode.BAD_REQUEST,
}

STATUS_OF_CODE: Mapping[int, HTTPStatus] = {
    100: HTTPStatus.INTERNAL_SERVER_ERROR,
    102: HTTPStatus.NOT_FOUND,
    104: HTTPStatus.NOT_FOUND,
    107: HTTPStatus.BAD_REQUEST,
    108: HTTPStatus.BAD_REQUEST,
    112: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    113: HTTPStatus.CONFLICT,
}
"""For those who want to be told by a status. Total: a test says so."""


async def answered(result: Awaitable[Mapping[str, Any]]) -> Answer:
    """What a command is answered: a ``result`` or an ``error``."""
    try:
        return {"result": await result}
    except ApiError as error:
        return {"error": error.answer}
    except Unrecoverable:
        return {"error": ApiError(ApiErrorCode.UNRECOVERABLE).answer}
    except AppError as error:
        detail = "" if error.kind is ErrorKind.UNAVAILABLE else str(error)
        return {"error": ApiError(CODE_OF_KIND[error.kind], detail).answer}
