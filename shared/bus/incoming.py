"""What comes from a NATS server: messages go to their handlers, all else is passed on.

A task that wakes for each message, and a regular expression for each line, cost more than
all that is done with a message; so whole chunks are cut here, in the socket's own callback.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

log = structlog.get_logger(__name__)

Handler = Callable[[bytes, bytes, bytes | None, bytes], None]
"""Gets subject, payload, headers and reply subject (empty if none). Must not block."""

_NEW_LINE = b"\r\n"


class Subscribed(Protocol):
    """Who wants the messages of one subscription."""

    handler: Handler


class Incoming:
    """Cuts one connection's stream of bytes, however it was split on the way."""

    def __init__(
        self, subscriptions: Mapping[int, Subscribed], *, pass_on: Callable[[bytes], None]
    ) -> None:
        """
        Args:
            subscriptions: By their numbers; looked up anew for each message.
            pass_on: Gets all that is no message for one of them, in whole lines and whole
                messages; also what is malformed, to be judged there.
        """
        self._subscriptions = subscriptions
        self._pass_on = pass_on
        self._begun: list[bytes] = []
        self._missing = 0
        """So many bytes at least, of what was begun."""

    def take(self, data: bytes) -> None:
        """Handle all that is complete now; no handler makes this fail."""
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
            subscription = self._subscriptions.get(number)
            if subscription is None:
                self._pass_on(data[at:following])
            else:
                try:
                    subscription.handler(
                        subject, data[payload:message_end], data[body:payload] or None, reply
                    )
                except Exception:  # one bad message must not cost those behind it
                    log.exception("bus_handler_failed", subject=subject.decode(errors="replace"))
            at = following

    def _wait(self, begun: bytes, missing: int) -> None:
        self._begun.append(begun)
        self._missing = missing


def _message_line(line: bytes) -> tuple[bytes, int, bytes, int, int]:
    """Subject, subscription's number, reply subject, bytes of headers, bytes of it all.

    Raises:
        ValueError, IndexError: the line is another one, or malformed.
    """
    fields = line.split()
    operation = fields[0]
    if operation == b"HMSG":  # <subject> <number> [<reply>] <bytes of headers> <bytes of it all>
        headers_size, size, plain = int(fields[-2]), int(fields[-1]), 5
    elif operation == b"MSG":  # the same without headers
        headers_size, size, plain = 0, int(fields[-1]), 4
    else:
        raise ValueError("another operation")
    if not 0 <= headers_size <= size or not plain <= len(fields) <= plain + 1:
        raise ValueError("malformed")
    reply = fields[3] if len(fields) > plain else b""
    return fields[1], int(fields[2]), reply, headers_size, size
