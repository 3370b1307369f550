"""What the connections of one server need to know of it."""

import asyncio
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.server import ServerState

from gateway.transport.handshake import Headers, header_lines, header_of
from gateway.transport.hub import Hub
from shared.web.origins import Origins
from shared.web.peers import Peers

_FROM_ELSEWHERE = frozenset({"cross-site", "same-site"})
"""What a browser says of pages of another origin than ours."""


class ServerContext:
    """A server, as its connections see it; made for the first of them."""

    def __init__(
        self,
        hub: Hub,
        origins: Origins,
        *,
        compresses: bool,
        config: Config,
        state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.hub = hub
        self.origins = origins
        self.compresses = compresses
        """Whether messages of WebSockets are, where their clients can read that."""
        self.config = config
        self.state = state
        self.peers = cast(Peers, state.connections)  # see `shared.runtime.process.Server`
        """The connections that the server closes when it ends: not those that are the hub's."""
        self.peers.elsewhere = hub.__len__
        self.app_state = app_state
        self.loop = loop
        self._proxies = ProxyHeadersMiddleware(
            config.loaded_app, config.forwarded_allow_ips or ""
        ).trusted_hosts
        self._headers: list[tuple[bytes, bytes]] = []
        self._lines = b""

    @property
    def default_lines(self) -> bytes:
        """The headers of every response. Uvicorn makes a new list whenever the date changes."""
        headers = self.state.default_headers
        if headers is not self._headers:
            self._headers = headers
            self._lines = header_lines(headers)
        return self._lines

    def admits(self, headers: Headers, path: str) -> bool:
        """Whether the request may be answered, as far as the page goes that it comes from."""
        origin = header_of(headers, b"origin")
        if origin is not None:
            return self.origins.admit(origin, header_of(headers, b"host") or "", path)
        # Browsers leave it out where a page shows us as an image, and send their cookies.
        return header_of(headers, b"sec-fetch-site") not in _FROM_ELSEWHERE

    def client_host(self, transport: asyncio.BaseTransport, headers: Headers) -> str | None:
        """The client's address; through a proxy that we trust, the one it forwards for.

        It is what uvicorn would put into a scope.
        """
        peer = transport.get_extra_info("peername")
        host = str(peer[0]) if isinstance(peer, tuple) else None  # a Unix socket has no address
        if host in self._proxies:
            forwarded = [value for name, value in headers if name == b"x-forwarded-for"]
            if forwarded:
                line = b", ".join(forwarded).decode("latin-1")
                host = self._proxies.get_trusted_client_address(line)[0] or host
        return host
