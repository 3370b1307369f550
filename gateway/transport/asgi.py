"""What an ordinary ASGI endpoint sees of a WebSocket: accept, receive, send, close."""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import ClassVar, Protocol

from starlette.types import Message
from uvicorn.protocols.utils import ClientDisconnected

from gateway.errors import EndReason
from gateway.transport.connection import Connection, Receiver
from gateway.transport.frames import Close, binary_frame, text_frame
from gateway.transport.request import response


class Handshake(Protocol):
    """The request, as far as its answer is concerned."""

    def accept(self, subprotocol: str | None, *headers: tuple[bytes, bytes]) -> Connection: ...

    def hand_over(self, connection: Connection, receiver: Receiver) -> None: ...

    def refuse(self, status: int) -> None: ...

    def answer(self, answer: bytes) -> None: ...


class AsgiEndpoint:
    """Receives for an endpoint: what comes waits for its `receive`, one message at a time."""

    close_codes: ClassVar[Mapping[EndReason, Close]] = {
        EndReason.RATE_LIMIT: Close(1008, "Rate limit"),
        EndReason.INTERNAL_ERROR: Close(1011, "internal error"),
        EndReason.RESTARTING: Close(1012, "restarting"),
        EndReason.TOO_SLOW: Close(1013, "too slow"),
    }

    def __init__(self, handshake: Handshake, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._handshake = handshake
        self._headers = headers
        self._connection: Connection | None = None
        self._events: deque[Message] = deque([{"type": "websocket.connect"}])
        self._came = asyncio.Event()
        self._came.set()
        self._response: Message | None = None
        self._body = b""

    # As its connection knows it.

    def received(self, message: str | bytes) -> None:
        kind = "text" if isinstance(message, str) else "bytes"
        self._put({"type": "websocket.receive", kind: message})
        if self._connection is not None:
            self._connection.pause_reading()

    def lost(self, close: Close) -> None:
        self._put({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})

    # As the endpoint knows it.

    async def receive(self) -> Message:
        await self._came.wait()
        event = self._events.popleft()
        if event["type"] == "websocket.disconnect":
            self._events.append(event)  # for whoever asks again
        elif not self._events:
            self._came.clear()
            if self._connection is not None:
                self._connection.resume_reading()
        return event

    async def send(self, message: Message) -> None:
        """
        Raises:
            ClientDisconnected: the peer has gone.
            RuntimeError: the message does not come in its turn.
        """
        if self._connection is None:
            self._answer(message)
        elif message["type"] == "websocket.send":
            await self._send(self._connection, message)
        elif message["type"] == "websocket.close":
            self._connection.close(Close(message.get("code", 1000), message.get("reason") or ""))
        else:
            raise RuntimeError(f"{message['type']} after the connection was accepted")

    def end(self, close: Close) -> None:
        """The endpoint has returned or raised: whatever it accepted is over."""
        if self._connection is not None:
            self._connection.close(close)

    def _answer(self, message: Message) -> None:
        match message["type"]:
            case "websocket.accept":
                try:
                    connection = self._handshake.accept(
                        message.get("subprotocol"), *message.get("headers", ())
                    )
                except ConnectionResetError as gone:
                    raise ClientDisconnected from gone
                self._connection = connection
                self._handshake.hand_over(connection, self)
            case "websocket.close":
                self._handshake.refuse(HTTPStatus.FORBIDDEN)
                self.lost(Close(1006, ""))
            case "websocket.http.response.start":
                self._response = message
            case "websocket.http.response.body" if self._response is not None:
                self._body += message.get("body", b"")
                if not message.get("more_body", False):
                    headers = [
                        (name, value)
                        for name, value in [*self._headers, *self._response.get("headers", ())]
                        if name.lower() not in (b"content-length", b"connection")
                    ]
                    self._handshake.answer(response(self._response["status"], headers, self._body))
            case other:
                raise RuntimeError(f"{other} before the connection was accepted")

    async def _send(self, connection: Connection, message: Message) -> None:
        if not connection.is_open:
            raise ClientDisconnected
        text = message.get("text")
        if text is not None:
            connection.send(text_frame(text.encode()))
        else:
            connection.send(binary_frame(message["bytes"]))
        await connection.until_drained()

    def _put(self, event: Message) -> None:
        self._events.append(event)
        self._came.set()
