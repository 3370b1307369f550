"""The OpenAPI documents: what routes can answer beside what they return, and what is common."""

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from functools import cache
from http import HTTPStatus
from inspect import getdoc
from typing import Any

from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

from hubbub_client.contracts.errors import AppError
from shared.documents.schemas import Schema, given, with_schemas
from shared.documents.versions import HTTP_VERSION
from shared.web.http import CODE_OF_STATUS, STATUS_OF_KIND, Problem, ProblemDocument

Responses = dict[int | str, dict[str, Any]]
"""By status, as a route of FastAPI takes them."""
Cause = type[AppError] | int
"""An error of ours, or the status of a refusal that is FastAPI's or a limit's."""

_REFUSALS = {
    413: "the body is too long",
    422: "the request does not fit",
    500: "something went wrong here; it is in the log",
}
"""What requests are answered without an error of ours."""

_DESCRIPTION = (
    "Errors are problem documents (RFC 9457) with a stable `code`. A newer server may have more"
    " codes, and more members in objects. A request that is no proper HTTP is answered 400, 408,"
    " 431 or 501, and reaches no operation."
)

_REQUEST_ID = {
    "description": "The request's id: the caller's, or one made up; it is in the log.",
    "schema": {"type": "string"},
}
_SECONDS = {"description": "Seconds after which to try again.", "schema": {"type": "integer"}}
_CHALLENGE = {"schema": {"type": "string"}}


def problems(*causes: Cause) -> Responses:
    """The problem documents that a route may answer with: ``responses=problems(…)``."""
    codes: dict[int, dict[str, str]] = {}
    for cause in causes:
        if isinstance(cause, int):
            codes.setdefault(cause, {})[CODE_OF_STATUS[cause]] = _REFUSALS[cause]
        else:
            status = STATUS_OF_KIND[cause.kind]
            codes.setdefault(status, {})[cause.code] = _first_sentence(cause)
    return {status: _response(status, codes[status]) for status in sorted(codes)}


def openapi_document(title: str, routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """The document of an application with these routes."""
    # A copy, since it shares what the routes have.
    document = deepcopy(
        get_openapi(title=title, version=HTTP_VERSION, description=_DESCRIPTION, routes=routes)
    )
    internal = {"$ref": "#/components/responses/Internal"}
    for path in document["paths"].values():
        for operation in path.values():
            responses = {"500": internal} | operation["responses"]
            operation["responses"] = dict(sorted(responses.items()))
    document["components"] |= {
        "responses": {"Internal": _response(500, {CODE_OF_STATUS[500]: _REFUSALS[500]})},
        "headers": {"RequestId": _REQUEST_ID},
    }
    for response in _responses(document):
        headers = response.setdefault("headers", {})
        headers["X-Request-ID"] = {"$ref": "#/components/headers/RequestId"}
    _drop_titles(document)
    return with_schemas(document)


def _responses(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All that are no references."""
    yield from document["components"]["responses"].values()
    for path in document["paths"].values():
        for operation in path.values():
            yield from (each for each in operation["responses"].values() if "$ref" not in each)


def _first_sentence(cause: type[AppError]) -> str:
    text = " ".join((getdoc(cause) or "").split())
    return text.partition(". ")[0].removesuffix(".")


def listed(lines: Iterable[str]) -> str:
    """One below the other, in Markdown."""
    return "\n".join(f"- {line}" for line in lines)


@cache  # many routes have the same
def problem_schema(status: int, *codes: str) -> Schema:
    """Of a problem document with one of these codes."""
    return {
        "allOf": [
            given(ProblemDocument),
            {"properties": {"status": {"const": status}, "code": {"enum": sorted(codes)}}},
        ]
    }


def _response(status: int, codes: dict[str, str]) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = _CHALLENGE
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers["Retry-After"] = _SECONDS
    return {
        "description": listed(f"`{code}`: {why}" for code, why in sorted(codes.items())),
        "headers": headers,
        "content": {Problem.media_type: {"schema": problem_schema(status, *codes)}},
    }


def _drop_titles(value: Any) -> None:
    """FastAPI titles each field and parameter with its name."""
    if isinstance(value, list):
        for each in value:
            _drop_titles(each)
    elif isinstance(value, dict):
        for field in value.get("properties", {}).values():
            field.pop("title", None)
        if "in" in value and "schema" in value:
            value["schema"].pop("title", None)
        for each in value.values():
            _drop_titles(each)
