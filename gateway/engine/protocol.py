"""The WebSocket protocol that uvicorn is given: a handshake over ASGI, and then out of it.

An endpoint that is ours takes the connection with `take`: it is accepted, handed to what is
above, and from then on nothing of the request is kept. Any other ASGI endpoint accepts,
receives and sends as on uvicorn's own protocol.

Leans on uvicorn's private seam ``ws=``: the class is made with ``config``, ``server_state``
and ``app_state``, and is fed the request as bytes. Source: uvicorn 0.54,
protocols/http/httptools_impl.py, ``handle_websocket_upgrade``.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar, cast
from urllib.parse import unquote

import structlog
from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState

from gateway.engine.asgi import AsgiEndpoint
from gateway.engine.connection import LOST, Connection, Receiver
from gateway.engine.hub import Hub
from gateway.engine.upgrade import Refused, Request, read_request, refusal, response, switching
from gateway.errors import INTERNAL_ERROR, Close

log = structlog.get_logger(__name__)

R = TypeVar("R", bound=Receiver)

FINISHED = Close(1000, "")
"""An ASGI endpoint returned without a word."""

_TAKE = "hubbub.upgrade"


class Upgrade(asyncio.Protocol):
    """One request to become a WebSocket, until it is one or refused."""

    def __init__(
        self, hub: Hub, config: Config, server_state: ServerState, app_state: dict[str, Any]
    ) -> None:
        self._hub = hub
        self._config = config
        self._state = server_state
        self._known = cast(set[object], server_state.connections)
        self._app_state = app_state
        self.transport: asyncio.Transport
        self._request: Request
        self._endpoint: AsgiEndpoint | None = None
        self._timeout: asyncio.TimerHandle | None = None
        self._early = b""
        self.is_answered = False

    # Called by uvicorn and the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop has its own class
        self._known.add(self)

    def data_received(self, data: bytes) -> None:
        if self._timeout is not None or self.is_answered:
            self._keep_early(data)
            return
        if self.transport.get_write_buffer_size():
            # Answers to earlier requests lie unread. A transport may have stalled by them,
            # and would not say so to whoever comes next.
            self.transport.abort()
            return
        try:
            self._request = read_request(data)
        except Refused as refused:
            self.answer(refusal(refused, self._state.default_headers))
            return
        loop = asyncio.get_running_loop()
        self._timeout = loop.call_later(self._hub.limits.handshake_seconds, self.transport.abort)
        task = loop.create_task(self._run(self._scope()))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    def connection_lost(self, exc: Exception | None) -> None:
        self._release()
        if self._endpoint is not None:
            self._endpoint.lost(LOST)

    def shutdown(self) -> None:
        """The server ends; the endpoint has not answered yet."""
        if not self.is_answered:
            self.refuse(HTTPStatus.SERVICE_UNAVAILABLE)

    # Called by the endpoint.

    def accept(self, subprotocol: str | None = None, *headers: tuple[bytes, bytes]) -> Connection:
        """Open the WebSocket; `Connection.open` has to follow in the same step.

        Raises:
            ConnectionResetError: the peer has gone, or was refused.
        """
        if self.is_answered or self.transport.is_closing():
            raise ConnectionResetError
        self._release()
        self.transport.write(
            switching(
                self._request,
                subprotocol=subprotocol,
                headers=[*self._state.default_headers, *headers],
            )
        )
        return Connection(self.transport, self._hub)

    def take(self, make: Callable[[Connection], R], *, subprotocol: str | None = None) -> R:
        """Accept, and hand the connection to what ``make`` puts above it.

        Raises:
            ConnectionResetError: the peer has gone, or was refused.
        """
        connection = self.accept(subprotocol)
        receiver = make(connection)
        self.hand_over(connection, receiver)
        return receiver

    def hand_over(self, connection: Connection, receiver: Receiver) -> None:
        connection.open(receiver)
        if self._early:  # once whoever takes the connection has begun with it, in this step
            asyncio.get_running_loop().call_soon(connection.data_received, self._early)

    def refuse(self, status: int) -> None:
        self.answer(response(status, self._state.default_headers, b""))

    def answer(self, answer: bytes) -> None:
        """Answer as HTTP does, and close."""
        if not self.is_answered:
            self._release()
            self.transport.write(answer)
            self.transport.close()

    # Within.

    async def _run(self, scope: Scope) -> None:
        self._endpoint = endpoint = AsgiEndpoint(self, self._state.default_headers)
        try:
            await self._config.loaded_app(scope, endpoint.receive, endpoint.send)
        except ClientDisconnected:
            endpoint.end(LOST)  # what it was about to say has nobody to hear it
        except Exception:
            log.exception("endpoint_failed")
            endpoint.end(INTERNAL_ERROR)
        else:
            endpoint.end(FINISHED)
        self._endpoint = None
        if not self.is_answered:  # neither accepted nor refused
            self.refuse(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _scope(self) -> Scope:
        request, root_path = self._request, self._config.root_path
        transport = self.transport
        return {
            "type": "websocket",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if transport.get_extra_info("sslcontext") else "ws",
            "server": _address(transport.get_extra_info("sockname")),
            "client": _address(transport.get_extra_info("peername")),
            "root_path": root_path,
            "path": root_path + unquote(request.path.decode("latin-1")),
            "raw_path": root_path.encode() + request.path,
            "query_string": request.query,
            "headers": request.headers,
            "subprotocols": request.subprotocols,
            "state": self._app_state.copy(),
            "extensions": {"websocket.http.response": {}, _TAKE: self},
        }

    def _keep_early(self, data: bytes) -> None:
        """A peer should wait for the answer; what comes before it is kept, up to a limit."""
        self._early += data
        if len(self._early) > self._hub.limits.max_message_bytes:
            self.transport.abort()

    def _release(self) -> None:
        """The request is over: uvicorn need not know of it any more."""
        self.is_answered = True
        self._known.discard(self)
        if self._timeout is not None:
            self._timeout.cancel()


def _address(name: object) -> tuple[str, int] | None:
    """Host and port of a TCP socket's name; a Unix socket has none."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None


def upgrade_of(scope: Scope) -> Upgrade:
    """The request behind a WebSocket scope, for an endpoint that takes its connection."""
    upgrade: Upgrade = scope["extensions"][_TAKE]
    return upgrade


def websocket_options(hub: Hub) -> dict[str, Any]:
    """The WebSocket part of the server's configuration."""

    def protocol(config: Config, server_state: ServerState, app_state: dict[str, Any]) -> Upgrade:
        return Upgrade(hub, config, server_state, app_state)

    return {"ws": protocol}
