"""Between a connection's socket and nats-py: messages and commands bypass nats-py.

Messages are parsed as they arrive, and all commands of one turn of the loop are written at once.
The rest is left to nats-py: the handshake, pings, errors, reconnecting.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import cast

from hubbub_client.log_events import LogEvent

log = logging.getLogger(__name__)

Handler = Callable[[bytes, bytes, bytes | None, bytes], None]
"""Gets subject, payload, headers and reply subject (empty if none). Must not block."""

_NEW_LINE = b"\r\n"


class NatsParser:
    """Parses a connection's bytes, however they were split on the way."""

    def __init__(
        self, handlers: Mapping[int, Handler], *, pass_on: Callable[[bytes], None]
    ) -> None:
        """
        Args:
            handlers: By the numbers of their subscriptions; looked up for each message.
            pass_on: Gets everything but messages for a handler, in whole lines and messages;
                malformed lines too.
        """
        self._handlers = handlers
        self._pass_on = pass_on
        self._begun: list[bytes] = []
        self._missing = 0
        """At least so many bytes of the message in ``_begun``."""

    def take(self, data: bytes) -> None:
        """Handle all that is complete; a failing handler is logged."""
        if self._begun:
            self._begun.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._begun)
            self._begun.clear()
        at, end = 0, len(data)
        while at < end:
            line_end = data.find(_NEW_LINE, at)
            if line_end < 0:
                self._wait(data[at:], 1)
                return
            body = line_end + 2
            try:
                subject, number, reply, headers_size, size = _message_line(data[at:line_end])
            except (ValueError, IndexError):
                self._pass_on(data[at:body])
                at = body
                continue
            payload, message_end = body + headers_size, body + size
            following = message_end + 2
            if following > end:
                self._wait(data[at:], following - end)
                return
            handler = self._handlers.get(number)
            if handler is None:
                self._pass_on(data[at:following])
            else:
                try:
                    handler(subject, data[payload:message_end], data[body:payload] or None, reply)
                except Exception:  # a bad message must not harm the following ones
                    log.exception(
                        LogEvent("bus_handler_failed", subject=subject.decode(errors="replace"))
                    )
            at = following

    def _wait(self, begun: bytes, missing: int) -> None:
        self._begun.append(begun)
        self._missing = missing


def _message_line(line: bytes) -> tuple[bytes, int, bytes, int, int]:
    """Subject, subscription's number, reply subject, bytes of headers, bytes in total.

    Raises:
        ValueError, IndexError: the line is not a message's, or malformed.
    """
    fields = line.split()
    operation = fields[0]
    if operation == b"HMSG":  # <subject> <number> [<reply>] <bytes of headers> <bytes in total>
        headers_size, size, plain = int(fields[-2]), int(fields[-1]), 5
    elif operation == b"MSG":  # the same without headers
        headers_size, size, plain = 0, int(fields[-1]), 4
    else:
        raise ValueError("another operation")
    if not 0 <= headers_size <= size or not plain <= len(fields) <= plain + 1:
        raise ValueError("malformed")
    reply = fields[3] if len(fields) > plain else b""
    return fields[1], int(fields[2]), reply, headers_size, size


class Tap(asyncio.Protocol):
    """The protocol of a connection, from the end of its handshake on."""

    def __init__(self, transport: asyncio.Transport, handlers: Mapping[int, Handler]) -> None:
        """Replace the transport's protocol, and pass on to it what is not ours."""
        self._transport = transport
        self._loop = asyncio.get_running_loop()  # asking for it can cost a system call
        self._behind = cast(asyncio.Protocol, transport.get_protocol())
        self._incoming = NatsParser(handlers, pass_on=self._behind.data_received)
        self._commands: list[bytes] = []
        self._is_paused = False
        self.unsent_bytes = 0
        """Of commands that wait for the socket."""
        transport.set_protocol(self)

    def write(self, command: bytes) -> None:
        """Queue the command, to be written with all others of this turn of the loop."""
        if not self._commands:
            self._loop.call_soon(self.flush)
        self._commands.append(command)
        self.unsent_bytes += len(command)

    def flush(self) -> None:
        """Write all queued commands now, unless the server does not read."""
        if self._commands and not self._is_paused:
            commands, self._commands = self._commands, []
            self.unsent_bytes = 0
            if not self._transport.is_closing():  # if it is, the publisher sends them again
                self._transport.write(b"".join(commands))

    # As the transport's protocol.

    def data_received(self, data: bytes) -> None:
        self._incoming.take(data)

    def eof_received(self) -> bool | None:
        return self._behind.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._behind.connection_lost(exc)

    def pause_writing(self) -> None:
        self._is_paused = True
        self._behind.pause_writing()

    def resume_writing(self) -> None:
        self._is_paused = False
        self._behind.resume_writing()
        self.flush()
