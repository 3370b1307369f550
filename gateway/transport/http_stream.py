"""A connection that is an HTTP response without an end: frames go out, and nothing comes in.

Its body ends where the connection ends (RFC 9112, section 6.3): so a frame is the same bytes for
every connection, HTTP/1.0 proxies can carry it, and no chunk has to be made for each of them.
"""

import asyncio
import socket
from collections import deque

from gateway.transport.connection import LOST, Connection
from gateway.transport.frames import Close
from gateway.transport.shared_state import SharedState

_MAX_IGNORED_BYTES = 4096
"""Of what comes after the request. An honest client sends nothing."""
_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)  # not on every platform


class HttpStreamConnection(Connection):
    """A connection of frames, whose peer may send messages with other requests: `feed`."""

    __slots__ = ("_ignored_bytes", "_kept", "_sends_pongs")

    def __init__(
        self,
        transport: asyncio.Transport,
        shared: SharedState[Connection],
        *,
        sends_pongs: bool = False,
    ) -> None:
        """
        Args:
            sends_pongs: The peer answers a ping by `feed`; if it does not, it is gone. Otherwise
                the kernel's word is taken for it, which ends at the next proxy.
        """
        super().__init__(transport, shared)
        self._sends_pongs = sends_pongs
        self._ignored_bytes = 0
        self._kept: deque[str] | None = None
        """Messages that wait until commands are read again."""
        limits = shared.limits
        unacknowledged = max(limits.ping_seconds + limits.pong_seconds, limits.lag_seconds)
        _give_up_unacknowledged(transport, unacknowledged)

    def feed(self, message: str) -> bool:
        """Take a message that the peer sent with another request.

        Returns:
            False if so much waits already that it is not taken.
        """
        if not self.is_open:
            return False
        self._heard = True
        if not self._holds:
            self._call_receiver(message)
            return True
        kept = self._kept = self._kept or deque()
        if sum(map(len, kept)) + len(message) > self._shared.limits.max_message_bytes:
            return False
        kept.append(message)
        return True

    # Called by the transport.

    def data_received(self, data: bytes) -> None:
        self._ignored_bytes += len(data)
        if self._ignored_bytes > _MAX_IGNORED_BYTES:
            self.transport.abort()

    def eof_received(self) -> None:
        """The peer has ended its request, so nobody reads the response."""
        self.transport.abort()
        self._lose(LOST)

    # For the base class.

    def _ping(self) -> None:
        self._heard = not self._sends_pongs
        if self._receiver.ping is not None:
            self.send(self._receiver.ping)

    def _write_close(self, close: Close) -> None:
        self.transport.close()  # once all has left that is pending

    def _hold(self, reason: int) -> None:
        if self.is_open:
            self._holds |= reason  # the socket is read on: else the peer's end would not be seen

    def _release(self, reason: int) -> None:
        self._holds &= ~reason
        self._read_on()

    def _read_on(self) -> None:
        while self._kept and not self._holds and self.is_open:
            self._call_receiver(self._kept.popleft())
        if not self._kept or not self.is_open:
            self._kept = None


def _give_up_unacknowledged(transport: asyncio.Transport, seconds: float) -> None:
    """Let the kernel end the connection if a host acknowledges nothing for so long.

    By itself it would try for a quarter of an hour. RFC 5482 describes the option.
    """
    connected = transport.get_extra_info("socket")
    if _USER_TIMEOUT is not None and connected is not None and connected.family != socket.AF_UNIX:
        milliseconds = min(int(seconds * 1000), 2**31 - 1)
        connected.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, milliseconds)
