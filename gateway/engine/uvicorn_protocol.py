"""Uvicorn's WebSocket protocol, with what a hostile peer could make of it mended."""

import asyncio
from http import HTTPStatus
from typing import Any, cast

from starlette.types import Scope
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode
from websockets.http11 import Request

_TRANSPORT = "hubbub.transport"

MAX_UNREAD_PONG_BYTES = 64 * 1024
"""Answers to pings since the peer last kept up; past it the connection is dropped."""


class GatewayProtocol(WebSocketsSansIOProtocol):
    """Gives the endpoint its transport, and logs no traceback for what a peer sends."""

    _unread_pong_bytes = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(b"".join(self.conn.data_to_send()))  # else it hangs unanswered
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            # The endpoint's task was just made and has not run yet.
            extensions = cast(dict[str, Any], self.scope["extensions"])
            extensions[_TRANSPORT] = self.transport

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self.conn.fail(CloseCode.INVALID_DATA, "not UTF-8")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    async def send(self, message: ASGISendEvent) -> None:
        """A close that the protocol sent is to the endpoint a peer that is gone, not a mistake."""
        await self.writable.wait()  # the close may be sent meanwhile
        if self.close_sent:
            raise ClientDisconnected
        await super().send(message)

    def handle_ping(self) -> None:
        """Answer a ping, unless the peer leaves too many answers unread.

        Only pongs count: an honest peer may ping while much else is on its way to it.
        """
        if self.transport.is_closing():
            return
        if not self.transport.get_write_buffer_size():
            self._unread_pong_bytes = 0
        pongs = b"".join(self.conn.data_to_send())  # to all pings that came together
        self._unread_pong_bytes += len(pongs)
        if self._unread_pong_bytes > MAX_UNREAD_PONG_BYTES:
            self.transport.abort()
        else:
            self.transport.write(pongs)

    def keepalive_timeout(self) -> None:
        """A silent peer is gone: what it has not taken by now, it never will."""
        super().keepalive_timeout()
        if self.transport.get_write_buffer_size():
            self.transport.abort()


def transport_of(scope: Scope) -> asyncio.Transport:
    """The transport under an ASGI connection that `GatewayProtocol` serves."""
    transport: asyncio.Transport = scope["extensions"][_TRANSPORT]
    return transport


def websocket_options(
    *, max_frame_bytes: int, ping_seconds: float, pong_seconds: float
) -> dict[str, Any]:
    """The WebSocket part of the server's configuration.

    A peer that has gone silent is noticed after at most both times together.
    Compression is off: every connection would pay for a window of its own.
    """
    return {
        "ws": GatewayProtocol,
        "ws_max_size": max_frame_bytes,
        "ws_ping_interval": ping_seconds,
        "ws_ping_timeout": pong_seconds,
        "ws_per_message_deflate": False,
    }
