"""From an opening handshake to an open connection, or to its rejection.

The endpoint at the path is called at once. It accepts the connection or rejects it. An accepted
connection keeps nothing of the request.
"""

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TypeVar

import structlog

from gateway.transport.connection import Connection
from gateway.transport.deflate import negotiate
from gateway.transport.handshake import (
    Request,
    header_lines,
    header_of,
    response,
    switching_protocols,
)
from gateway.transport.receiver import Receiver
from gateway.transport.server_context import ServerContext
from gateway.transport.websocket import DeflatingConnection, WebSocketConnection

log = structlog.get_logger(__name__)

R = TypeVar("R", bound=Receiver)

Endpoint = Callable[["Upgrade"], None]
"""Accepts the connection or rejects it, and waits for nothing."""
Endpoints = Mapping[str, Endpoint]
"""By path."""


class Upgrade:
    """One opening handshake, while its endpoint answers it."""

    __slots__ = ("_connection", "_is_answered", "_server", "_transport", "request")

    def __init__(
        self, server: ServerContext, transport: asyncio.Transport, request: Request
    ) -> None:
        self.request = request
        self._server = server
        self._transport = transport
        self._is_answered = False
        self._connection: WebSocketConnection | None = None

    def begin(self, endpoint: Endpoint | None, early: bytes) -> None:
        """Let the endpoint answer it.

        Args:
            endpoint: None if there is none at the path.
            early: What came after the request.
        """
        if endpoint is None:
            self.reject(HTTPStatus.FORBIDDEN)
            return
        try:
            endpoint(self)
        except Exception:
            log.exception("endpoint_failed")
            if self._is_answered:
                self._transport.abort()  # it may have failed anywhere
                return
        if not self._is_answered:
            self.reject(HTTPStatus.INTERNAL_SERVER_ERROR)
        elif early and self._connection is not None:
            self._connection.data_received(early)

    # Called by the endpoint.

    @property
    def client_host(self) -> str | None:
        """The client's address; None if that can't be known."""
        return self._server.client_host(self._transport, self.request.headers)

    def accept(self, make: Callable[[Connection], R], *, subprotocol: str | None = None) -> R:
        """Open the connection, and return the receiver that ``make`` puts above it.

        Raises:
            ConnectionResetError: the peer is gone, or was answered before.
        """
        transport, server = self._transport, self._server
        if self._is_answered or transport.is_closing():
            raise ConnectionResetError
        self._is_answered = True
        key, lines = self.request.key, server.default_lines
        kind, extension = WebSocketConnection, self._negotiated()
        if extension is not None:
            kind = DeflatingConnection
            lines += header_lines([(b"sec-websocket-extensions", extension)])
        transport.write(switching_protocols(key, subprotocol=subprotocol, lines=lines))
        hub = server.hub
        connection = kind(transport, hub.shared, hub.reading)
        receiver = make(connection)
        connection.open(receiver)
        self._connection = connection
        return receiver

    def _negotiated(self) -> bytes | None:
        """RFC 6455, section 9.1."""
        if not self._server.compresses:
            return None
        offered = header_of(self.request.headers, b"sec-websocket-extensions")
        return None if offered is None else negotiate(offered)

    def reject(self, status: int) -> None:
        """Respond with an HTTP status, and close."""
        if not self._is_answered:
            self._is_answered = True
            self._transport.write(response(status, self._server.state.default_headers, b""))
            self._transport.close()
