"""What carries a connection today: a WebSocket of Starlette, one endpoint and one writer each."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway.engine.connection import Connection, Receiver
from gateway.engine.limits import Limits
from gateway.engine.uvicorn_protocol import transport_of
from gateway.errors import BINARY_FRAME, INTERNAL_ERROR, Close

log = structlog.get_logger(__name__)

LOST = Close(1006, "")


class AsgiSocket:
    """One accepted WebSocket: a task that reads, which is the endpoint's, and one that writes."""

    def __init__(self, websocket: WebSocket, group: asyncio.TaskGroup, limits: Limits) -> None:
        self.connection = Connection(self, limits)
        self._websocket = websocket
        self._transport = transport_of(websocket.scope)
        self._group = group
        self._work: set[asyncio.Task[None]] = set()
        self._writable = asyncio.Event()
        self._readable = asyncio.Event()

    def wake(self) -> None:
        self._writable.set()
        self._readable.set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._group.create_task(self._survive(work))
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    def abort(self) -> None:
        self._transport.abort()
        for task in self._work:
            task.cancel()

    async def run(self, receiver: Receiver) -> Close:
        """Carry frames in both directions until the connection is over; say how it ended."""
        writer = self._group.create_task(self._write())
        close = LOST
        try:
            close = await self._read(receiver)
        finally:
            close = self.connection.closing or close
            self.connection.mark_lost()
            writer.cancel()
            self._call(receiver.lost, close)
        return close

    async def _read(self, receiver: Receiver) -> Close:
        connection = self.connection
        while True:
            while not connection.may_read and connection.is_open:
                self._readable.clear()
                await self._readable.wait()
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return Close(message["code"], message.get("reason") or "")
            if not connection.is_open:
                continue  # the peer does not know it yet
            text = message.get("text")
            if text is None:
                connection.close(*BINARY_FRAME)
            else:
                self._call(receiver.received, text)

    async def _write(self) -> None:
        connection = self.connection
        try:
            while True:
                while (frame := connection.next_frame()) is not None:
                    await self._websocket.send_text(frame)
                    connection.wrote(frame)
                if connection.closing is not None:
                    await self._websocket.close(*connection.closing)
                    return
                self._writable.clear()
                await self._writable.wait()
        except WebSocketDisconnect:
            return  # the reader hears of it too

    def _call(self, callback: Callable[..., None], *arguments: Any) -> None:
        """What is above must not fail; if it does, it costs this connection and no other."""
        try:
            callback(*arguments)
        except Exception:
            log.exception("receiver_failed")
            self.connection.close(*INTERNAL_ERROR)

    async def _survive(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            log.exception("connection_work_failed")
            self.connection.close(*INTERNAL_ERROR)
