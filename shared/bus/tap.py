"""Between a connection's socket and nats-py: messages and commands go past it.

What comes is cut as it comes, and what falls due in one turn of the loop is written at
once. Nats-py keeps the rest: the handshake, pings, errors, and coming back.
"""

import asyncio
from collections.abc import Mapping
from typing import cast

from shared.bus.incoming import Incoming, Subscribed


class Tap(asyncio.Protocol):
    """One connection, from the end of its handshake to the end of its socket."""

    def __init__(
        self, transport: asyncio.Transport, subscriptions: Mapping[int, Subscribed]
    ) -> None:
        """Take the place of the transport's protocol, and pass on to it what is not ours."""
        self._transport = transport
        self._loop = asyncio.get_running_loop()  # asking for it can cost a system call
        self._behind = cast(asyncio.Protocol, transport.get_protocol())
        self._incoming = Incoming(subscriptions, pass_on=self._behind.data_received)
        self._commands: list[bytes] = []
        self._is_paused = False
        self.unsent_bytes = 0
        """Of commands that the socket would not take yet."""
        transport.set_protocol(self)

    def write(self, command: bytes) -> None:
        """Let the command leave with all others of this turn of the loop."""
        if not self._commands:
            self._loop.call_soon(self.flush)
        self._commands.append(command)
        self.unsent_bytes += len(command)

    def flush(self) -> None:
        """Write now what is due, unless the server takes nothing."""
        if self._commands and not self._is_paused:
            commands, self._commands = self._commands, []
            self.unsent_bytes = 0
            if not self._transport.is_closing():  # else its senders try again, under the same ids
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
