"""A server without sockets, and peers whose bytes arrive in the pieces that a test wants."""

import asyncio
from collections.abc import Iterable
from typing import Any, cast

from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from gateway.transport.connection import Connection
from gateway.transport.hub import Hub
from gateway.transport.sniffer import websocket_options
from gateway.transport.upgrade import Upgrade
from shared.runtime.process import server_config
from shared.web.http_protocol import BoundedHttp
from shared.web.peers import Peers
from tests.gateway.serving import until
from tests.gateway.transport.exchanges import Endpoints
from tests.gateway.transport.sockets import Echo
from tests.gateway.transport.transports import ATransport, some_limits


class MemoryPeer(ATransport):
    """A peer, and the transport that the server knows it by."""

    def __init__(self, **known: object) -> None:
        super().__init__()
        self._known = known

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._known.get(name, default)

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            if not self.is_closing():
                cast(asyncio.Protocol, self.protocol).data_received(piece)

    def leave(self) -> None:
        self.closed = True
        assert self.protocol is not None
        self.protocol.connection_lost(None)

    @property
    def got(self) -> bytes:
        return b"".join(self.written)

    @property
    def statuses(self) -> list[int]:
        """Of the answers so far."""
        return [int(rest[:3]) for rest in self.got.split(b"HTTP/1.1 ")[1:]]

    async def answered(self, times: int = 1) -> list[int]:
        await until(lambda: len(self.statuses) >= times or self.is_closing())
        return self.statuses


class MemoryServer:
    """``/`` accepts connections; over HTTP answers are 200, once `let` is set, or `streams`'."""

    def __init__(
        self,
        *,
        proxies: str = "",
        keep_alive_seconds: float = 5,
        max_sockets: int | None = None,
        **limits: float,
    ) -> None:
        self.hub = Hub(some_limits(**limits))
        self.echoes: list[Echo] = []
        self.streams = Endpoints()
        self.hosts: list[str | None] = []
        """Of clients that asked for a WebSocket, as the endpoint saw them."""
        self.clients: list[str | None] = []
        """Of requests over HTTP."""
        self.state = ServerState()
        self.state.connections = Peers(max_sockets=max_sockets)  # type: ignore[assignment]
        self.let = asyncio.Event()
        self.let.set()
        options = websocket_options(
            self.hub,
            {"/": self._take, "/fails": self._fail},
            self.streams.by_path,
            self.streams.shortcuts,
        )
        self._config = server_config(
            self, forwarded_allow_ips=proxies, timeout_keep_alive=keep_alive_seconds, **options
        )
        self._config.load()

    def peer(self, **known: object) -> MemoryPeer:
        """A peer that has just connected."""
        peer = MemoryPeer(**known)
        make = cast(Any, self._config.http_protocol_class)
        sniffer = make(config=self._config, server_state=self.state, app_state={}, _loop=None)
        peer.set_protocol(sniffer)
        sniffer.connection_made(peer)
        return peer

    @property
    def known(self) -> Iterable[object]:
        """The sockets that the server closes when it ends."""
        return set(self.state.connections)

    def _take(self, upgrade: Upgrade) -> None:
        self.hosts.append(upgrade.client_host)
        upgrade.accept(self._echo)

    def _fail(self, upgrade: Upgrade) -> None:
        if upgrade.request.query == b"late":
            upgrade.accept(self._echo)
        raise RuntimeError("an endpoint that fails")

    def _echo(self, connection: Connection) -> Echo:
        self.echoes.append(Echo(connection))
        return self.echoes[-1]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.let.wait()
        self.clients.append(scope["client"][0] if scope["client"] else None)
        length = (b"content-length", b"0")
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": b""})


def is_uvicorns(peer: MemoryPeer) -> bool:
    """Whether the peer was handed on to uvicorn's protocol."""
    return isinstance(peer.protocol, BoundedHttp)
