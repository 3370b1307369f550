"""The protocol that uvicorn is given for its sockets: it tells WebSockets from other requests.

Most clients of a gateway ask for a WebSocket, with a request that arrives in one piece. The
sniffer reads it, once, and the connection never passes through uvicorn. All other bytes are handed
to uvicorn's HTTP protocol. A client can still ask for a WebSocket there: after other requests, or
with a request that comes in pieces. Requests at paths of our own never reach the application.

Depends on a private interface of uvicorn: ``http=`` may be any callable that takes ``config``,
``server_state``, ``app_state`` and ``_loop``. Source: uvicorn 0.54, server.py, ``startup``.
"""

import asyncio
from contextvars import Context, copy_context
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, NamedTuple, cast
from urllib.parse import unquote

from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.transport.exchange import NO_SHORTCUTS, HttpEndpoints, RoutedHttp, Shortcuts
from gateway.transport.handshake import (
    InvalidHandshake,
    asks_for_websocket,
    read_head,
    read_request,
    rejection,
)
from gateway.transport.hub import Hub
from gateway.transport.server_context import ServerContext
from gateway.transport.upgrade import Endpoints, Upgrade
from shared.web.origins import Origins
from shared.web.peers import Peer


class Paths(NamedTuple):
    """What is answered below the application."""

    websockets: Endpoints
    requests: HttpEndpoints
    shortcuts: Shortcuts


class ProtocolSniffer(Peer, asyncio.Protocol):
    """A socket until its first bytes have come."""

    __slots__ = ("_due_at", "_http", "_paths", "_server", "transport")

    def __init__(self, server: ServerContext, paths: Paths, http: "type[UpgradingHttp]") -> None:
        self._server = server
        self._paths = paths
        self._http = http
        self._due_at = 0.0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop has its own class
        self._due_at = self._server.loop.time() + self._http.request_seconds
        if not self._server.peers.enter(self):
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._server.peers.discard(self)
        head = read_head(data, max_bytes=self._http.max_head_bytes)
        if head is None:
            http = self._http(self._server, self._paths)
            http.take_over(self.transport, due_at=self._due_at)
            http.data_received(data)
        else:
            early = data[head.length :]
            endpoints = self._paths.websockets
            answer_upgrade(
                self._server, endpoints, self.transport, b"GET", head.target, head.headers, early
            )

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.peers.discard(self)

    def shutdown(self) -> None:
        self.transport.close()

    def end_if_late(self, now: float) -> None:
        if now >= self._due_at:
            self.transport.close()

    def give_way(self) -> None:
        self.transport.close()


class UpgradingHttp(RoutedHttp):
    """Uvicorn's HTTP protocol, but a request for a WebSocket is answered by us too.

    It is answered after the requests that came before it on the same connection.
    """

    _early: bytes | None = None
    """What came after a request for a WebSocket; None before there was one."""
    _upgrade_context: Context

    def __init__(self, server: ServerContext, paths: Paths) -> None:
        super().__init__(server, paths.requests, paths.shortcuts)
        self._websockets = paths.websockets

    def data_received(self, data: bytes) -> None:
        if self._early is None:
            super().data_received(data)
        else:
            self._early += data
            if len(self._early) > self._server.hub.limits.max_message_bytes:
                self.transport.abort()

    def take_upgrade(self, rest: memoryview) -> bool:
        if not asks_for_websocket(self.headers):
            return False
        self._early = bytes(rest)
        if self._is_answering:
            self._upgrade_context = copy_context()  # not that of the request before it
        else:
            self._upgrade()
        return True

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._early is not None and not self._is_answering:
            self.loop.call_soon(self._upgrade, context=self._upgrade_context)

    def _upgrade(self) -> None:
        if self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size():
            # The peer has not read earlier responses. They may have stalled the transport,
            # which would not tell that to its next protocol.
            self.transport.abort()
            return
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        method = self.parser.get_method()
        early, self._early = self._early or b"", b""
        endpoints = self._websockets
        answer_upgrade(
            self._server, endpoints, self.transport, method, self.url, self.headers, early
        )


def answer_upgrade(
    server: ServerContext,
    endpoints: Endpoints,
    transport: asyncio.Transport,
    method: bytes,
    target: bytes,
    headers: list[tuple[bytes, bytes]],
    early: bytes,
) -> None:
    """Answer a request for a WebSocket."""
    try:
        request = read_request(method, target, headers)
    except InvalidHandshake as invalid:
        transport.write(rejection(invalid, server.state.default_headers))
        transport.close()
    else:
        path = unquote(request.path.decode("latin-1"))
        upgrade = Upgrade(server, transport, request)
        if server.admits(headers, path):
            upgrade.begin(endpoints.get(path), early)
        else:
            upgrade.reject(HTTPStatus.FORBIDDEN)


def websocket_options(
    hub: Hub,
    endpoints: Endpoints,
    requests: HttpEndpoints = MappingProxyType({}),
    shortcuts: Shortcuts = NO_SHORTCUTS,
    *,
    origins: Origins | None = None,
    compresses: bool = False,
    http: type[UpgradingHttp] = UpgradingHttp,
) -> dict[str, Any]:
    """Return the options that uvicorn needs to serve WebSockets, and streams over HTTP.

    Args:
        endpoints: By path; at any other path a request for a WebSocket is answered with 403.
        requests: By path and method; at any other path a request is the application's.
        shortcuts: Requests at its paths that it need not see.
        origins: Whose pages may ask.
        compresses: Whether messages are compressed, with clients that offer it.
    """
    paths = Paths(endpoints, requests, shortcuts)
    servers: list[ServerContext] = []

    def sniffer(
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> ProtocolSniffer:
        if not servers or servers[0].state is not server_state:
            servers[:] = [
                ServerContext(
                    hub,
                    origins or Origins(),
                    compresses=compresses,
                    config=config,
                    state=server_state,
                    app_state=app_state,
                    loop=_loop or asyncio.get_running_loop(),
                )
            ]
        return ProtocolSniffer(servers[0], paths, http)

    return {"http": sniffer, "ws": Upgrade}  # uvicorn only asks whether there is one
