"""What every HTTP service does alike: problem documents, request ids, limits."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar, NotRequired

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount
from typing_extensions import TypedDict

from hubbub_client.contracts.errors import AppError, ErrorKind
from shared.web.cors import Cors
from shared.web.origins import Origins
from shared.web.request_context import RequestContext, current_request_id

MAX_BODY_BYTES = 64 * 1024
"""The default; `body_limit` raises it for a service that accepts longer bodies."""

BYTES_A_CHARACTER = 12
"""At most: an emoji may be two `\\uXXXX` in JSON, or four `%XX` in a form."""
BYTES_BESIDE = 4096
"""In a body, for all but the values: names, indentation, unknown fields."""

STATUS_OF_KIND: dict[ErrorKind, int] = {
    ErrorKind.UNAUTHENTICATED: 401,
    ErrorKind.FORBIDDEN: 403,
    ErrorKind.NOT_FOUND: 404,
    ErrorKind.CONFLICT: 409,
    ErrorKind.INVALID: 422,
    ErrorKind.THROTTLED: 429,
    ErrorKind.UNAVAILABLE: 503,
}

CODE_OF_STATUS = {
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_long",
    422: "invalid",
    500: "internal",
}


class Misfit(TypedDict):
    """What does not fit, and where."""

    where: list[str]
    message: str


class ProblemDocument(TypedDict):
    """Why a request failed, RFC 9457."""

    type: str
    title: str
    status: int
    code: str
    """Stable, for programs."""
    detail: str
    """For people."""
    request_id: str | None
    """As in `X-Request-ID`."""
    errors: NotRequired[list[Misfit]]
    """Of a request that does not fit."""


class Problem(JSONResponse):
    """An RFC 9457 problem document with a stable ``code``."""

    media_type = "application/problem+json"
    _escaped: ClassVar = json.JSONEncoder(separators=(",", ":")).encode  # survives lone surrogates

    def render(self, content: Any) -> bytes:
        return type(self)._escaped(content).encode()


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    misfits: list[Misfit] | None = None,
) -> Problem:
    """Build the answer; ``detail`` is a sentence for the caller and holds no secret."""
    content: ProblemDocument = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "request_id": current_request_id(),
    }
    if misfits is not None:
        content["errors"] = misfits
    return Problem(content, status_code=status, headers=dict(headers or {}))


async def _app_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    headers = {}
    if error.kind is ErrorKind.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    return problem(STATUS_OF_KIND[error.kind], error.code, str(error), headers=headers)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        # Starlette names the methods of the first route only.
        error.headers = {"Allow": ", ".join(_allowed(request))}
    # FastAPI answers 400 when it can't parse a body; here a bad body is always 422.
    status = 422 if error.status_code == 400 else error.status_code
    code = CODE_OF_STATUS.get(status, "error")
    return problem(status, code, str(error.detail), headers=error.headers)


def _allowed(request: Request) -> list[str]:
    """The methods that any route answers at this path."""
    scope, routes = request.scope, request.app.router.routes
    endpoint = scope.get("endpoint")
    if any(isinstance(route, Mount) and route.app is endpoint for route in routes):
        return ["GET", "HEAD"]  # static files: the scope is the mount's, so no route matches it
    allowed = [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    return ["GET", "HEAD", *allowed[1:]] if "GET" in allowed else allowed


def defect() -> Problem:
    """An unexpected exception: it is in the log, and the caller learns nothing of it."""
    return problem(500, CODE_OF_STATUS[500], "something went wrong here")


async def _defect(_request: Request, _error: Exception) -> Response:
    answer = defect()
    # Starlette answers it outside of all middleware, so nobody else adds this.
    answer.headers["X-Request-ID"] = current_request_id() or ""
    return answer


async def _invalid_request(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    misfits: list[Misfit] = [
        {"where": [str(part) for part in found["loc"]], "message": found["msg"]}
        for found in error.errors()  # never its "input": it may be a password
    ]
    return problem(422, "invalid", "the request does not fit", misfits=misfits)


def body_limit(*bodies: type[BaseModel]) -> int:
    """How long the longest of these bodies may be if all its characters are escaped.

    Raises:
        ValueError: a field has no maximum length.
    """
    return max(MAX_BODY_BYTES, *(_longest(each) for each in bodies))


def _longest(body: type[BaseModel]) -> int:
    characters = 0
    for name, field in body.model_json_schema().get("properties", {}).items():
        longest = len(str(field["const"])) if "const" in field else field.get("maxLength")
        if longest is None:
            raise ValueError(f"{body.__name__}.{name} has no bound")
        characters += longest
    return characters * BYTES_A_CHARACTER + BYTES_BESIDE


def install_edge(
    app: FastAPI, *, max_body_bytes: int = MAX_BODY_BYTES, origins: Origins | None = None
) -> None:
    """Give the application the error answers, request ids, limits and CORS of every service."""
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(Exception, _defect)
    app.add_middleware(RequestContext, max_body_bytes=max_body_bytes)
    app.add_middleware(Cors, origins=origins or Origins())
