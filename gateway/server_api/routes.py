"""The API over HTTP, as Centrifugo's clients expect it.

A command is answered with 200 and a ``result`` or an ``error``; a request without a valid command
or key gets another status. Who asks for it is told of errors by a status too.

Requests come by the routes of the application, or before it by a shortcut, which takes a tenth of
the time. They are answered by the same function.
"""

import hmac
from functools import cache, partial
from typing import NamedTuple

import structlog
from fastapi import FastAPI, HTTPException, Request, Response, Security
from fastapi.security import APIKeyHeader, APIKeyQuery
from fastapi.security.http import HTTPBase
from pydantic import SecretStr
from pydantic_core import to_json

from gateway.server_api.api import Api
from gateway.server_api.described import BATCH, DESCRIPTION, Described
from gateway.server_api.errors import STATUS_OF_CODE
from gateway.server_api.methods import METHODS
from gateway.transport.exchange import NO_SHORTCUTS, HttpExchange, Shortcuts
from hubbub_client.contracts.json_values import read_json
from hubbub_client.exchange import MAX_REQUEST_BYTES
from shared.web.http import defect
from shared.web.query import read_query
from shared.web.request_context import begin_request
from shared.web.router import Router

log = structlog.get_logger(__name__)

NAMES = (*METHODS, BATCH)

# For the document: whether it is the right key, `_has_key` checks.
_KEY_PLACES = (
    APIKeyHeader(name="X-API-Key", scheme_name="apiKey", auto_error=False),
    APIKeyQuery(name="api_key", scheme_name="apiKeyInQuery", auto_error=False),
    HTTPBase(
        scheme="apikey",
        scheme_name="apiKeyAuthorization",
        description="`Authorization: apikey <key>`",
        auto_error=False,
    ),
)

_JSON = "application/json"


class _Asked(NamedTuple):
    """What an answer depends on, besides the method's name."""

    headers: dict[bytes, bytes]
    query: bytes
    body: bytes

    def header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")


class _Response(NamedTuple):
    status: int
    content_type: str | None = None
    body: bytes = b""


class _Served(NamedTuple):
    """What an application answers with."""

    api: Api
    api_key: SecretStr | None


def add_api(app: FastAPI, api: Api, *, api_key: SecretStr | None) -> None:
    """Let the application answer below ``/api``; if no key is configured, with 404."""
    app.state.server_api = _Served(api, api_key)
    _router().add_to(app)


@cache
def _router() -> Router:
    router = Router(tags=["server API"], dependencies=[Security(each) for each in _KEY_PLACES])
    for name in NAMES:
        router.add_api_route(
            f"/api/{name}",
            partial(_call, name),
            methods=["POST"],
            name=f"api_{name}",
            summary=name,
            description=DESCRIPTION,
            openapi_extra=Described(name),  # type: ignore[arg-type]  # it is only read
        )

    @router.post("/api/{method}", include_in_schema=False)
    async def unknown(method: str, request: Request) -> Response:
        return await _call(method, request)

    return router


def api_shortcuts(api: Api, *, api_key: SecretStr | None) -> Shortcuts:
    """The same, for requests that the application need not see."""
    if api_key is None:
        return NO_SHORTCUTS
    return Shortcuts(
        {f"/api/{name}": partial(_take_shortcut, api, api_key, name) for name in NAMES},
        MAX_REQUEST_BYTES,
    )


async def _call(name: str, request: Request) -> Response:
    served: _Served = request.app.state.server_api
    if served.api_key is None:
        raise HTTPException(404, "Not Found")
    body = await request.body()
    if len(body) > MAX_REQUEST_BYTES:  # one process may serve others, whose bodies may be longer
        raise HTTPException(413, f"a body has at most {MAX_REQUEST_BYTES} bytes")
    asked = _asked(request.scope["headers"], request.scope["query_string"], body)
    status, content_type, answer = await _answer(served.api, served.api_key, name, asked)
    return Response(answer, status, media_type=content_type)


def _take_shortcut(api: Api, api_key: SecretStr, name: str, exchange: HttpExchange) -> None:
    exchange.start(_respond(api, api_key, name, exchange))


async def _respond(api: Api, api_key: SecretStr, name: str, exchange: HttpExchange) -> None:
    request = exchange.request
    asked = _asked(request.headers, request.query, request.body)
    request_id = begin_request(asked.header(b"x-request-id"))
    structlog.contextvars.bind_contextvars(request_id=request_id)
    try:
        status, content_type, body = await _answer(api, api_key, name, asked)
    except Exception:
        log.exception("request_failed")
        failed = defect()
        status, content_type, body = failed.status_code, failed.media_type, bytes(failed.body)
    headers = [(b"x-request-id", request_id.encode())]
    if content_type is not None:
        headers.append((b"content-type", content_type.encode()))
    exchange.respond(status, headers, body)


async def _answer(api: Api, api_key: SecretStr, name: str, asked: _Asked) -> _Response:
    if not _has_key(asked, api_key):
        return _Response(401)
    try:
        body = read_json(asked.body)
    except ValueError:
        return _Response(400, "text/plain; charset=utf-8", b"the body is not JSON")
    answer = await (api.batch(body) if name == BATCH else api.call(name, body))
    error = answer.get("error")
    if error is not None and asked.header(b"x-centrifugo-error-mode") == "transport":
        return _Response(STATUS_OF_CODE[error["code"]], _JSON, to_json(error))
    return _Response(200, _JSON, to_json(answer))


def _asked(headers: list[tuple[bytes, bytes]], query: bytes, body: bytes) -> _Asked:
    return _Asked(dict(reversed(headers)), query, body)  # of several of one name the first counts


def _has_key(asked: _Asked, api_key: SecretStr) -> bool:
    """Whether one of the three places has the key, compared in constant time."""
    offered = [asked.header(b"x-api-key")]
    if b"authorization" in asked.headers:
        scheme, _, credentials = asked.header(b"authorization").partition(" ")
        offered.append(credentials.strip() if scheme.lower() == "apikey" else "")
    if asked.query:
        offered.append(read_query(asked.query).get("api_key", ""))
    expected = api_key.get_secret_value().encode()
    # All are compared, so that the time says nothing; as bytes, since a header may hold any.
    matches = [
        hmac.compare_digest(each.encode(errors="surrogatepass"), expected)
        for each in offered
        if each
    ]
    return bool(expected) and any(matches)
