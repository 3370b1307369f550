"""What all requests for a WebSocket at one server have in common."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.server import ServerState

from gateway.transport.hub import Hub
from gateway.transport.request import Request, as_lines
from shared.web.peers import Peers

if TYPE_CHECKING:
    from gateway.transport.upgrade import Upgrade

Taker = Callable[["Upgrade"], None]
"""Takes the connection or refuses it, and waits for nothing."""
Endpoints = Mapping[str, Taker]
"""By the path that they are at."""


class ServerContext:
    """Made with the server's first connection; knows what none of them has to find out."""

    def __init__(
        self,
        hub: Hub,
        takers: Endpoints,
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
        self._takers = takers
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

    def taker(self, request: Request) -> Taker | None:
        return self._takers.get(unquote(request.path.decode("latin-1")))

    def client_host(self, transport: asyncio.BaseTransport, request: Request) -> str | None:
        """Who asks, or whom a proxy that we trust asks for: as in uvicorn's scopes."""
        peer = address(transport.get_extra_info("peername"))
        host = peer[0] if peer else None
        if host in self._proxies:
            told = [value for name, value in request.headers if name == b"x-forwarded-for"]
            if told:
                line = b", ".join(told).decode("latin-1")
                host = self._proxies.get_trusted_client_address(line)[0] or host
        return host

    def scope(self, transport: asyncio.BaseTransport, request: Request) -> Scope:
        """The request as ASGI has it."""
        root_path = self.config.root_path
        return {
            "type": "websocket",
            "asgi": {"version": self.config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if transport.get_extra_info("sslcontext") else "ws",
            "server": address(transport.get_extra_info("sockname")),
            "client": address(transport.get_extra_info("peername")),
            "root_path": root_path,
            "path": root_path + unquote(request.path.decode("latin-1")),
            "raw_path": root_path.encode() + request.path,
            "query_string": request.query,
            "headers": request.headers,
            "subprotocols": request.subprotocols,
            "state": self.app_state.copy(),
        }


def address(name: object) -> tuple[str, int] | None:
    """Host and port of a TCP socket's name; a Unix socket has none."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
