"""What belongs to one HTTP request: its id, its trace context, and how long it may be."""

import random
import re
import secrets
from contextvars import ContextVar

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
_traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)


def current_request_id() -> str | None:
    """The id of the request being answered, as its caller sees it in ``X-Request-ID``."""
    return _request_id.get()


def current_traceparent() -> str | None:
    """The W3C trace context to hand on to what this request causes."""
    return _traceparent.get()


def child_traceparent(incoming: str | None) -> str:
    """Continue the caller's trace under a new span, or begin one.

    Source: W3C Trace Context, https://www.w3.org/TR/trace-context/#traceparent-header
    """
    found = _TRACEPARENT.fullmatch(incoming or "")
    trace_id, flags = found.groups() if found else (secrets.token_hex(16), "01")
    return f"00-{trace_id}-{secrets.token_hex(8)}-{flags}"


def begin_request(given_id: str) -> str:
    """Name the request in the context in which it is answered; return its id."""
    # It is no secret: random numbers of the system's would cost a call of it.
    request_id = given_id if _REQUEST_ID.fullmatch(given_id) else f"{random.getrandbits(64):016x}"
    _request_id.set(request_id)
    return request_id


class RequestContext:
    """Middleware: ids for logs and answers, 413 for a body that is too long, HEAD like GET."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # the server leaves the body of the answer out
        headers = Headers(scope=scope)
        request_id = begin_request(headers.get("x-request-id", ""))
        _traceparent.set(child_traceparent(headers.get("traceparent")))

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._app(scope, self._bounded(receive), send_with_id)

    def _bounded(self, receive: Receive) -> Receive:
        received = 0

        async def receive_bounded() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self._max_body_bytes:
                    raise HTTPException(413, f"a body has at most {self._max_body_bytes} bytes")
            return message

        return receive_bounded
