"""The client of nats-py, with subscriptions that need neither a task nor a queue.

A subscription of nats-py takes 4.8 KiB, a task and a queue, and 18-23 µs for each message; here
the handler is called from the socket's callback: 0.26 KiB and 2-3 µs.

This uses private names of nats-py 2.16.0, so that version is pinned;
``tests/nats/test_light_client.py`` fails when they change.
"""

import asyncio
import logging
import re
import time
from contextlib import suppress
from typing import Any

from nats.aio.client import DEFAULT_BUFFER_SIZE, Client, Srv
from nats.aio.transport import TcpTransport
from nats.errors import Error, UnexpectedEOF

from hubbub_client.log_events import LogEvent
from hubbub_client.nats.errors import BusUnavailable
from hubbub_client.nats.parser import Handler, Tap

log = logging.getLogger(__name__)

_SUBSCRIPTION_SUBJECT = re.compile(r"[!-~]{1,512}")


class Transport(TcpTransport):
    """Nats-py's, which would wait for ever to close a connection whose TLS handshake failed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    async def connect_tls(self, *arguments: Any, **named: Any) -> None:
        try:
            await super().connect_tls(*arguments, **named)
        except BaseException:  # a deadline too
            assert self._io_writer is not None
            _abort(self._io_writer)
            # These would wait for `connection_lost`, of which only the handshake is told.
            self._io_reader = self._io_writer = None
            raise


class Subscription:
    """A subscription, with the attributes that nats-py's internals use."""

    __slots__ = ("_client", "_id", "_received", "_subject")

    _queue = ""
    _max_msgs = 0
    _wait_for_msgs_task = None
    _message_iterator = None
    _pending_next_msgs_calls = None

    def __init__(self, client: "LightClient", number: int, subject: str) -> None:
        self._client = client
        self._id = number
        self._subject = subject
        self._received = 0

    def close(self) -> None:
        """Stop calling the handler."""
        self._client.unsubscribe_inline(self._id)

    async def drain(self, *, seconds: float) -> None:
        """Unsubscribe, and call the handler for what the server had sent until then.

        Whoever asks later is told at once that nobody answers, instead of waiting in vain.

        Args:
            seconds: For the server to take note of it; then the handler isn't called any more.
        """
        await self._client.drain_inline(self._id, seconds=seconds)


class LightClient(Client):
    """Adds inline subscriptions and a `send_command` that never waits."""

    def __init__(self, *, max_pending_bytes: int) -> None:
        super().__init__()
        self._inline: dict[int, Subscription] = {}
        self._handlers: dict[int, Handler] = {}
        self._max_unsent_bytes = max_pending_bytes
        self._tap: Tap | None = None
        self.is_closing = False
        """Set before its tasks are cancelled, so that they end and connect no more."""

    @property
    def server_version(self) -> str:
        """As the server says it; empty before it has said anything."""
        return str(self._server_info.get("version", ""))

    def subscribe_inline(self, subject: str, handler: Handler) -> Subscription:
        """Subscribe now, or at the next connect; it survives every reconnect."""
        if not _SUBSCRIPTION_SUBJECT.fullmatch(subject):
            raise ValueError(f"not a subject: {subject!r}")
        self._sid += 1
        subscription = Subscription(self, self._sid, subject)
        self._inline[self._sid] = subscription
        self._handlers[self._sid] = handler
        self._subs[self._sid] = subscription  # type: ignore[assignment]
        if self.is_connected:
            self.write(b"SUB %s  %d\r\n" % (subject.encode(), self._sid))
        return subscription

    def unsubscribe_inline(self, number: int) -> None:
        if self._inline.pop(number, None) is None:
            return
        self._handlers.pop(number, None)
        self._subs.pop(number, None)
        if self.is_connected:
            self.write(b"UNSUB %d\r\n" % number)

    async def drain_inline(self, number: int, *, seconds: float) -> None:
        if self._inline.pop(number, None) is None:
            return
        self._subs.pop(number, None)
        try:
            if self.is_connected and self._tap is not None:
                self.write(b"UNSUB %d\r\n" % number)
                self._tap.flush()
                with suppress(Error, TimeoutError, OSError):
                    async with asyncio.timeout(seconds):
                        await self.flush()
        finally:
            self._handlers.pop(number, None)

    def subscribe_again(self) -> None:
        """After the first connect: nats-py sends subscriptions again after later ones only.

        It forgets all of them if the first attempt fails half way.
        """
        for number, subscription in self._inline.items():
            self._subs[number] = subscription  # type: ignore[assignment]
            self.write(b"SUB %s  %d\r\n" % (subscription._subject.encode(), number))

    def send_command(self, command: bytes) -> None:
        """Queue a command, to be written with the others of this turn of the loop.

        Raises:
            BusUnavailable: not connected, or the send buffer is full.
        """
        if not self.is_connected:
            raise BusUnavailable("not connected to the bus")
        assert self._tap is not None  # since it is connected
        if self._tap.unsent_bytes + len(command) > self._max_unsent_bytes:
            raise BusUnavailable("too much is waiting to be sent to the bus")
        self._tap.write(command)

    def write(self, command: bytes) -> None:
        assert self._tap is not None, "write() is for a connected client"
        self._tap.write(command)

    async def close(self) -> None:
        self.is_closing = True
        if self._flush_queue is None:  # without connect() nats-py's close() fails
            return
        try:
            await super().close()
        finally:  # in time or not
            self.abort()

    def abort(self) -> None:
        """Close the socket, and drop what is unsent."""
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            _abort(writer)

    async def _process_connect_init(self) -> None:
        """The handshake; messages come only after the first subscription."""
        await super()._process_connect_init()
        self._stop_if_closing()
        # No other task has run since. What nats-py has read by now, such as the INFO of other
        # servers, stays with it; all later bytes come through the tap.
        transport = self._transport._io_writer.transport  # type: ignore[union-attr]
        self._tap = Tap(transport, self._handlers)

    async def _read_loop(self) -> None:
        """Nats-py's ends at any error, and the connection seems alive until pings fail."""
        await super()._read_loop()
        if self.is_connected and asyncio.current_task() is self._reading_task:
            log.warning(LogEvent("bus_read_loop_ended"))
            await self._process_op_err(UnexpectedEOF())

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Nats-py sends the password unencrypted if the server, or an impostor, asks for no TLS."""
        if initial_connection and "tls" in self.options and not info.get("tls_required"):
            raise Error("the server does not offer TLS, which is required")
        await super()._process_info(info, initial_connection)

    async def _connect_to_server(self, s: Srv) -> None:
        """Nats-py does not close the socket of an attempt that the server refused."""
        self.abort()
        self._stop_if_closing()
        if s.uri.scheme in ("nats", "tls"):
            s.last_attempt = time.monotonic()
            self._transport = Transport()
            await self._transport.connect(
                s.uri,
                buffer_size=DEFAULT_BUFFER_SIZE,
                connect_timeout=self.options["connect_timeout"],
            )
        else:
            await super()._connect_to_server(s)
        self._stop_if_closing()

    def _stop_if_closing(self) -> None:
        """Cancel the running task: asyncio.wait_for, in nats-py, may have swallowed its cancel."""
        if self.is_closing:
            self.abort()
            raise asyncio.CancelledError

    async def _attempt_reconnect(self) -> None:
        self.abort()  # close() would wait until a server that hangs has read all
        try:
            await super()._attempt_reconnect()
        except Exception:  # the task would end silently
            log.exception(LogEvent("bus_reconnect_failed"))
            self._status = Client.CLOSED
            if self._closed_cb is not None:
                await self._closed_cb()

    async def _process_pong(self) -> None:
        """A cancelled flush() leaves a finished future, which would end nats-py's read loop."""
        if self._pongs and self._pongs[0].done():
            del self._pongs[0]
            self._pings_outstanding = 0
            return
        await super()._process_pong()


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close the socket, if it isn't closed; in Python 3.11.2 asyncio's TLS may fail at that."""
    with suppress(AttributeError):
        writer.transport.abort()
