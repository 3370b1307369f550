"""The client of nats-py with subscriptions that cost neither a task nor a queue.

A subscription of nats-py's own takes 4.8 KiB, a task and a queue, and 18-23 µs a
message; here the handler is called from the socket's callback: 0.26 KiB and 2-3 µs.

This leans on private names of nats-py 2.16.0, which is why that version is pinned;
``tests/shared/nats/test_light_client.py`` fails when they move.
"""

import asyncio
import re
import time
from contextlib import suppress
from typing import Any

import structlog
from nats.aio.client import DEFAULT_BUFFER_SIZE, Client, Srv
from nats.aio.transport import TcpTransport
from nats.errors import Error, UnexpectedEOF

from shared.nats.errors import BusUnavailable
from shared.nats.parser import Handler, Tap

log = structlog.get_logger(__name__)

_SUBSCRIPTION_SUBJECT = re.compile(r"[!-~]{1,512}")


class Transport(TcpTransport):
    """Nats-py's waits for ever for the end of a connection whose TLS handshake failed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    async def connect_tls(self, *arguments: Any, **named: Any) -> None:
        try:
            await super().connect_tls(*arguments, **named)
        except BaseException:  # as a deadline, too
            assert self._io_writer is not None
            _abort(self._io_writer)
            # Its end is told to the handshake, and never to these.
            self._io_reader = self._io_writer = None
            raise


class Subscription:
    """What nats-py's internals touch of a subscription."""

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
        """Call the handler no more."""
        self._client.unsubscribe_inline(self._id)


class LightClient(Client):
    """Adds inline subscriptions and a `send_command` that never waits."""

    def __init__(self, *, max_pending_bytes: int) -> None:
        super().__init__()
        self._inline: dict[int, Subscription] = {}
        self._handlers: dict[int, Handler] = {}
        self._max_unsent_bytes = max_pending_bytes
        self._tap: Tap | None = None

    def subscribe_inline(self, subject: str, handler: Handler) -> Subscription:
        """Subscribe now, or with the next connection; survives every reconnect."""
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

    def subscribe_again(self) -> None:
        """After the first connection: nats-py replays subscriptions on later ones only.

        It forgets all of them when a first attempt fails half way.
        """
        for number, subscription in self._inline.items():
            self._subs[number] = subscription  # type: ignore[assignment]
            self.write(b"SUB %s  %d\r\n" % (subscription._subject.encode(), number))

    def send_command(self, command: bytes) -> None:
        """Let a command leave with the others of this turn of the loop.

        Raises:
            BusUnavailable: not connected, or too much is unsent already.
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
        if self._flush_queue is not None:  # else connect() never began, and nats-py would fail
            await super().close()

    def abort(self) -> None:
        """Close the socket, and drop what is unsent."""
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            _abort(writer)

    async def _process_connect_init(self) -> None:
        """The handshake; messages come only after the first subscription."""
        await super()._process_connect_init()
        # No other task has run since. What nats-py has read by then, such as INFO of other
        # servers, stays with it; what follows comes through the tap.
        transport = self._transport._io_writer.transport  # type: ignore[union-attr]
        self._tap = Tap(transport, self._handlers)

    async def _read_loop(self) -> None:
        """Nats-py's ends at any surprise, and the connection seems alive until pings fail."""
        await super()._read_loop()
        if self.is_connected and asyncio.current_task() is self._reading_task:
            log.warning("bus_read_loop_ended")
            await self._process_op_err(UnexpectedEOF())

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Nats-py signs in unencrypted if the server, or an impostor, asks for no TLS."""
        if initial_connection and "tls" in self.options and not info.get("tls_required"):
            raise Error("the server does not ask for TLS, without which nothing is said to it")
        await super()._process_info(info, initial_connection)

    async def _connect_to_server(self, s: Srv) -> None:
        """Nats-py forgets to close the socket of an attempt that the server refused."""
        self.abort()
        if s.uri.scheme not in ("nats", "tls"):
            await super()._connect_to_server(s)
            return
        s.last_attempt = time.monotonic()
        self._transport = Transport()
        await self._transport.connect(
            s.uri,
            buffer_size=DEFAULT_BUFFER_SIZE,
            connect_timeout=self.options["connect_timeout"],
        )

    async def _attempt_reconnect(self) -> None:
        self.abort()  # closing would first wait for a server that hangs to read what is unsent
        try:
            await super()._attempt_reconnect()
        except Exception:  # the task would end without a word
            log.exception("bus_reconnect_failed")
            self._status = Client.CLOSED
            if self._closed_cb is not None:
                await self._closed_cb()

    async def _process_pong(self) -> None:
        """A cancelled flush() leaves a finished future, on which nats-py's read loop would die."""
        if self._pongs and self._pongs[0].done():
            del self._pongs[0]
            self._pings_outstanding = 0
            return
        await super()._process_pong()


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close the socket, if it isn't closed; asyncio's TLS fails at that in Python 3.11.2."""
    with suppress(AttributeError):
        writer.transport.abort()
