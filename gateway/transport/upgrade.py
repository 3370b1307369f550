"""A request to become a WebSocket, until it is one or refused.

An endpoint that is ours, and waits for nothing, is called at once and *takes* the connection:
it is accepted, handed to what is above, and from then on nothing of the request is kept. Any
other is an ASGI endpoint: it accepts, receives and sends as on uvicorn's own protocol, or
takes the connection when it has what it waited for.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

import structlog
from starlette.types import Scope
from uvicorn.protocols.utils import ClientDisconnected

from gateway.transport.asgi import AsgiEndpoint
from gateway.transport.connection import LOST, Connection, Receiver
from gateway.transport.frames import Close
from gateway.transport.request import Request, as_lines, response, switching
from gateway.transport.server_context import ServerContext, Taker

log = structlog.get_logger(__name__)

R = TypeVar("R", bound=Receiver)

FINISHED = Close(1000, "")
"""An ASGI endpoint returned without a word."""

_TAKE = "hubbub.upgrade"


class Upgrade(asyncio.Protocol):
    """One request; the transport's protocol only while an ASGI endpoint lets it wait."""

    __slots__ = (
        "_connection", "_early", "_endpoint", "_entrance", "_timeout", "is_answered", "request",
        "transport",
    )  # fmt: skip

    def __init__(
        self, entrance: ServerContext, transport: asyncio.Transport, request: Request
    ) -> None:
        self.request = request
        self.transport = transport
        self.is_answered = False
        self._entrance = entrance
        self._early = b""
        self._connection: Connection | None = None
        self._endpoint: AsgiEndpoint | None = None
        self._timeout: asyncio.TimerHandle | None = None

    def begin(self, early: bytes) -> None:
        """Have it answered; ``early`` came behind the request."""
        taker = self._entrance.taker(self.request)
        if taker is not None:
            self._be_taken(taker, early)
        else:
            self._wait(early)

    # Called by the transport and the server, while it waits.

    def data_received(self, data: bytes) -> None:
        """A peer should wait for the answer; what comes before it is kept, up to a limit."""
        self._early += data
        if len(self._early) > self._entrance.hub.limits.max_message_bytes:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._release()
        if self._endpoint is not None:
            self._endpoint.lost(LOST)

    def shutdown(self) -> None:
        """The server ends; the endpoint has not answered yet."""
        if not self.is_answered:
            self.refuse(HTTPStatus.SERVICE_UNAVAILABLE)

    # Called by the endpoint.

    @property
    def client_host(self) -> str | None:
        """Who asks; None if that can't be known."""
        return self._entrance.client_host(self.transport, self.request)

    def accept(self, subprotocol: str | None = None, *headers: tuple[bytes, bytes]) -> Connection:
        """Open the WebSocket; `Connection.open` has to follow in the same step.

        Raises:
            ConnectionResetError: the peer has gone, or was refused.
        """
        if self.is_answered or self.transport.is_closing():
            raise ConnectionResetError
        self._release()
        lines = self._entrance.default_lines
        if headers:
            lines += as_lines(headers)
        self.transport.write(switching(self.request.key, subprotocol=subprotocol, lines=lines))
        return Connection(self.transport, self._entrance.hub)

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
        self._connection = connection
        connection.came_early(self._early)  # who takes it has to begin with it first, in this step

    def refuse(self, status: int) -> None:
        self.answer(response(status, self._entrance.state.default_headers, b""))

    def answer(self, answer: bytes) -> None:
        """Answer as HTTP does, and close."""
        if not self.is_answered:
            self._release()
            self.transport.write(answer)
            self.transport.close()

    # Within.

    def _be_taken(self, taker: Taker, early: bytes) -> None:
        try:
            taker(self)
        except Exception:
            log.exception("endpoint_failed")
            if self.is_answered:
                self.transport.abort()  # nobody knows how far it came
                return
        if not self.is_answered:
            self.refuse(HTTPStatus.INTERNAL_SERVER_ERROR)
        elif early and self._connection is not None:
            self._connection.data_received(early)

    def _wait(self, early: bytes) -> None:
        """For an endpoint of the application."""
        entrance, transport = self._entrance, self.transport
        entrance.peers.add(self)
        transport.set_protocol(self)
        self.data_received(early)
        self._timeout = entrance.loop.call_later(
            entrance.hub.limits.handshake_seconds, transport.abort
        )
        scope = entrance.scope(transport, self.request)
        scope["extensions"] = {"websocket.http.response": {}, _TAKE: self}
        # Before the task begins: the peer may leave before that.
        self._endpoint = endpoint = AsgiEndpoint(self, entrance.state.default_headers)
        task = entrance.loop.create_task(self._run(scope, endpoint))
        entrance.state.tasks.add(task)
        task.add_done_callback(entrance.state.tasks.discard)

    async def _run(self, scope: Scope, endpoint: AsgiEndpoint) -> None:
        try:
            await self._entrance.config.loaded_app(scope, endpoint.receive, endpoint.send)
        except ClientDisconnected:
            endpoint.end(LOST)  # what it was about to say has nobody to hear it
        except Exception:
            log.exception("endpoint_failed")
            endpoint.end(Close(1011, "internal error"))
        else:
            endpoint.end(FINISHED)
        self._endpoint = None
        if not self.is_answered:  # neither accepted nor refused
            self.refuse(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _release(self) -> None:
        """The request is over: the server need not know of it any more."""
        self.is_answered = True
        if self._timeout is not None:
            self._timeout.cancel()
            self._entrance.peers.discard(self)


def upgrade_of(scope: Scope) -> Upgrade:
    """The request behind a WebSocket scope, for an ASGI endpoint that takes its connection."""
    upgrade: Upgrade = scope["extensions"][_TAKE]
    return upgrade
