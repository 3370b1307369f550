"""Why a command of the API failed: the codes and messages of Centrifugo's."""

from collections.abc import Awaitable, Callable, Generator, Mapping
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


FAILURES = (ApiError, AppError, Unrecoverable)
"""With what a command may fail. All else is a defect."""


def failed(error: Exception) -> Answer:
    """What a command is answered that fails with one of `FAILURES`."""
    if isinstance(error, ApiError):
        return {"error": error.answer}
    if isinstance(error, AppError):
        detail = "" if error.kind is ErrorKind.UNAVAILABLE else str(error)
        return {"error": ApiError(CODE_OF_KIND[error.kind], detail).answer}
    return {"error": ApiError(ApiErrorCode.UNRECOVERABLE).answer}


Result = Mapping[str, Any] | Awaitable[Mapping[str, Any]]
"""Of a command: there at once, or to be waited for."""


class Begun:
    """A command that has begun; awaited, it gives its answer: a ``result`` or an ``error``."""

    __slots__ = ("_failure", "_result")

    def __init__(self, begin: Callable[..., Result], *arguments: Any) -> None:
        self._result: Result = {}
        self._failure: Exception | None = None
        try:
            self._result = begin(*arguments)
        except FAILURES as error:
            self._failure = error

    def __await__(self) -> Generator[Any, None, Answer]:
        if self._failure is not None:
            return failed(self._failure)
        result = self._result
        try:
            if isinstance(result, Awaitable):
                result = yield from result.__await__()
        except FAILURES as error:
            return failed(error)
        return {"result": result}
