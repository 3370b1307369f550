"""The server API in the OpenAPI document."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any

from gateway.server_api.errors import STATUS_OF_CODE, ApiErrorCode
from gateway.server_api.methods import METHODS, Method
from gateway.server_api.requests import BatchRequest
from gateway.server_api.results import BatchAnswer, ErrorAnswer, ErrorBody
from shared.documents.schemas import Schema, given, taken
from shared.web.http import CODE_OF_STATUS, Problem
from shared.web.openapi import listed, problem_schema

BATCH = "batch"
DESCRIPTION = "As Centrifugo's server API has it; docs/server-api.md tells what is different."
"""Of every method."""

_PROBLEMS = {
    HTTPStatus.NOT_FOUND: "no key is configured, so there is no API",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the body is too long",
    HTTPStatus.INTERNAL_SERVER_ERROR: "something went wrong here; it is in the log",
}
_TEXT = {"type": "string"}
_ERROR_MODE = {
    "name": "X-Centrifugo-Error-Mode",
    "in": "header",
    "description": "With `transport`, an error is answered with a status, and is the whole body.",
    "schema": {"type": "string", "enum": ["transport"]},
}


class Described(Mapping[str, Any]):
    """What the document says of a method, beside what FastAPI knows.

    It is made for the first who reads it: that takes longer than all else that a router needs, and
    most processes are never asked for the document.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getitem__(self, key: str) -> Any:
        return _operation_of(self._name)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(_operation_of(self._name))

    def __len__(self) -> int:
        return len(_operation_of(self._name))


@cache
def _operation_of(name: str) -> dict[str, Any]:
    if name == BATCH:
        return _operation(taken(BatchRequest), given(BatchAnswer), ())
    method = METHODS[name]
    return _operation(taken(method.takes), _result_of(method), method.errors)


def _operation(takes: Schema, answer: Schema, codes: Iterable[ApiErrorCode]) -> dict[str, Any]:
    errors = sorted(code.value for code in (ApiErrorCode.BAD_REQUEST, *codes))
    return {
        "parameters": [_ERROR_MODE],
        "requestBody": {"required": True, "content": {"application/json": {"schema": takes}}},
        "responses": {
            "200": {
                "description": "The command was read: it has a result, or an error.\n\n"
                + listed(f"`{code}`: {message}" for code, message in errors),
                "content": {
                    "application/json": {"schema": {"oneOf": [answer, given(ErrorAnswer)]}}
                },
            },
            "401": {"description": "No key, or another one. The body is empty."},
            **_by_status(errors),
        },
    }


def _result_of(method: Method) -> Schema:
    return {
        "type": "object",
        "properties": {"result": given(method.gives)},
        "required": ["result"],
    }


def _by_status(errors: list[tuple[int, str]]) -> dict[str, Any]:
    """What is answered with a status: errors in the transport's mode, and what is no command."""
    answers = [
        (STATUS_OF_CODE[code], f"`{code}`: {message}", "application/json", given(ErrorBody))
        for code, message in errors
    ]
    answers.append((HTTPStatus.BAD_REQUEST, "the body is not JSON", "text/plain", _TEXT))
    answers += [
        (status, why, Problem.media_type, problem_schema(status, CODE_OF_STATUS[status]))
        for status, why in _PROBLEMS.items()
    ]
    return {
        str(status.value): {
            "description": listed(why for each, why, _, _ in answers if each is status),
            "content": {
                media_type: {"schema": schema}
                for each, _, media_type, schema in answers
                if each is status
            },
        }
        for status in dict.fromkeys(each for each, *_ in answers)
    }
