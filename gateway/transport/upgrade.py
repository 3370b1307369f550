"""From a request for a WebSocket to an open connection, or to its refusal.

The endpoint at the path is called at once. It takes the connection or refuses it; a connection
that is taken keeps nothing of the request.
"""

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar, cast
from urllib.parse import unquote

import structlog
from uvicorn.config import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.server import ServerState

from gateway.transport.connection import Connection, Receiver
from gateway.transport.handshake import Request, as_lines, response, switching
from gateway.transport.hub import Hub
from gateway.transport.websocket import WebSocketConnection
from shared.web.peers import Peers

log = structlog.get_logger(__name__)

R = TypeVar("R", bound=Receiver)

Endpoint = Callable[["Upgrade"], None]
"""Takes the connection or refuses it, and waits for nothing."""
Endpoints = Mapping[str, Endpoint]
"""By the path that they are at."""


class ServerContext:
    """Made with the server's first connection; knows what none of them has to find out."""

    def __init__(
        self,
        hub: Hub,
        endpoints: Endpoints,
        *,
        config: Config,
        state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.hub = hub
        self.config = config
        self.state = state
        self.peers = cast(Peers, state.connections)  # see `shared.runtime.process.Server`
        """Whom the server ends at its end; until they are WebSockets, which the hub has."""
        self.peers.elsewhere = hub.__len__
        self.app_state = app_state
        self.loop = loop  # to ask for the running one is a system call before Python 3.12
        self._endpoints = endpoints
        self._proxies = ProxyHeadersMiddleware(
            config.loaded_app, config.forwarded_allow_ips or ""
        ).trusted_hosts
        self._headers: list[tuple[bytes, bytes]] = []
        self._lines = b""

    @property
    def default_lines(self) -> bytes:
        """The headers of every answer. Uvicorn makes a new list whenever the date changes."""
        headers = self.state.default_headers
        if headers is not self._headers:
            self._headers = headers
            self._lines = as_lines(headers)
        return self._lines

    def endpoint(self, request: Request) -> Endpoint | None:
        return self._endpoints.get(unquote(request.path.decode("latin-1")))

    def client_host(self, transport: asyncio.BaseTransport, request: Request) -> str | None:
        """Who asks, or whom a proxy that we trust asks for: as in uvicorn's scopes."""
        peer = _address(transport.get_extra_info("peername"))
        host = peer[0] if peer else None
        if host in self._proxies:
            told = [value for name, value in request.headers if name == b"x-forwarded-for"]
            if told:
                line = b", ".join(told).decode("latin-1")
                host = self._proxies.get_trusted_client_address(line)[0] or host
        return host


class Upgrade:
    """One request for a WebSocket, while its endpoint answers it."""

    __slots__ = ("_connection", "_is_answered", "_server", "_transport", "request")

    def __init__(
        self, server: ServerContext, transport: asyncio.Transport, request: Request
    ) -> None:
        self.request = request
        self._server = server
        self._transport = transport
        self._is_answered = False
        self._connection: WebSocketConnection | None = None

    def begin(self, early: bytes) -> None:
        """Have it answered; ``early`` came behind the request."""
        endpoint = self._server.endpoint(self.request)
        if endpoint is None:
            self.refuse(HTTPStatus.FORBIDDEN)
            return
        try:
            endpoint(self)
        except Exception:
            log.exception("endpoint_failed")
            if self._is_answered:
                self._transport.abort()  # nobody knows how far it came
                return
        if not self._is_answered:
            self.refuse(HTTPStatus.INTERNAL_SERVER_ERROR)
        elif early and self._connection is not None:
            self._connection.data_received(early)

    # Called by the endpoint.

    @property
    def client_host(self) -> str | None:
        """Who asks; None if that can't be known."""
        return self._server.client_host(self._transport, self.request)

    def take(self, make: Callable[[Connection], R], *, subprotocol: str | None = None) -> R:
        """Accept, and hand the connection to what ``make`` puts above it.

        Raises:
            ConnectionResetError: the peer has gone, or was refused.
        """
        transport, server = self._transport, self._server
        if self._is_answered or transport.is_closing():
            raise ConnectionResetError
        self._is_answered = True
        transport.write(
            switching(self.request.key, subprotocol=subprotocol, lines=server.default_lines)
        )
        connection = WebSocketConnection(transport, server.hub)
        receiver = make(connection)
        connection.open(receiver)
        self._connection = connection
        return receiver

    def refuse(self, status: int) -> None:
        """Answer as HTTP does, and close."""
        if not self._is_answered:
            self._is_answered = True
            self._transport.write(response(status, self._server.state.default_headers, b""))
            self._transport.close()


def _address(name: object) -> tuple[str, int] | None:
    """Host and port of a TCP socket's name; a Unix socket has none."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
