"""An HTTP connection that waits for nobody without end, and keeps nobody's bytes without bound.

Uvicorn's own has one deadline, between two requests. A peer that sends nothing, half a head
or half a body would stay for ever, and one that sends a head without an end would be kept in
memory. There is no timer here either: the server looks at its connections once a second.
"""

import asyncio
from abc import ABC, abstractmethod
from http import HTTPStatus
from typing import ClassVar, cast

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

log = structlog.get_logger(__name__)


class Peer(ABC):
    """A connection of the server, as long as it has to be looked at."""

    __slots__ = ()

    @abstractmethod
    def end_if_late(self, now: float) -> None:
        """Let go of a peer that kept us waiting. ``now`` is the loop's time."""


class BoundedHttp(Peer, HttpToolsProtocol):
    """Uvicorn's, with bounds for each request, in time and in bytes."""

    request_seconds: ClassVar[float] = 20.0
    """For a request to arrive, from the connection's start or from the request's first byte."""
    write_seconds: ClassVar[float] = 20.0
    """For what we sent to be taken by the peer."""
    max_head_bytes: ClassVar[int] = 64 * 1024
    """And what comes in one piece with them."""
    max_request_bytes: ClassVar[int] = 1024 * 1024
    """With the body, for which there is a stricter limit, and all that is beside it."""

    _due_at: float | None = None
    """When the request has to be there; None between two of them."""
    _given_up_at: float | None = None
    """When what we sent has to be taken; None if nothing waits."""
    _is_in_head = True
    _received = 0

    def connection_made(self, transport: object) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._await_request()

    def take_over(self, transport: asyncio.Transport, *, due_at: float) -> None:
        """Go on with a connection whose request somebody else has awaited."""
        self.connection_made(transport)
        self._due_at = due_at
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        if self._due_at is None:
            self._await_request()
        self._received += len(data)
        super().data_received(data)
        if self._due_at is None or self.transport.is_closing():
            return
        if self._is_in_head and self._received > self.max_head_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._received > self.max_request_bytes:
            self.transport.abort()  # what was to be said about its body, was said at its limit

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._due_at = None
        self._is_in_head = True
        self._received = 0

    def end_if_late(self, now: float) -> None:
        if self._is_given_up(now):
            self.transport.abort()
        elif self._due_at is None or now < self._due_at or self.transport.is_closing():
            return
        elif self._is_in_head and self._received:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self._end()

    def _await_request(self) -> None:
        self._due_at = self.loop.time() + self.request_seconds

    def _is_given_up(self, now: float) -> bool:
        if not self.transport.get_write_buffer_size():
            self._given_up_at = None
        elif self._given_up_at is None:
            self._given_up_at = now + self.write_seconds
        return self._given_up_at is not None and now >= self._given_up_at

    @property
    def _is_answering(self) -> bool:
        cycle = cast(RequestResponseCycle | None, self.cycle)  # there is none before the first
        return cycle is not None and not cycle.response_complete

    def _end(self) -> None:
        if self._is_answering:
            self.transport.abort()  # whoever handles the request hears of it
        else:
            self.transport.close()

    def _refuse(self, status: HTTPStatus) -> None:
        """Say why, unless an answer to an earlier request is on its way."""
        lines = (
            f"HTTP/1.1 {status.value} {status.phrase}",
            "content-length: 0",
            "connection: close",
            "\r\n",
        )
        if not self._is_answering:
            self.transport.write("\r\n".join(lines).encode())
        self._end()


def end_late_peers(state: ServerState, now: float) -> None:
    """Look at all connections of a server; to be called about once a second."""
    for connection in tuple(state.connections):
        if isinstance(connection, Peer):
            try:
                connection.end_if_late(now)
            except Exception:  # the server's own loop would end, and the process with it
                log.exception("late_peer_not_ended")
