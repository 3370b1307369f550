"""A connection, as the rooms above the transport know it: no socket, no protocol of the wire."""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from gateway.errors import EndReason
from gateway.transport.coalescer import Sink
from gateway.transport.frames import Close, Frame
from hubbub_client.contracts.ids import ConnectionId
from hubbub_client.contracts.publications import StoredPublication

__all__ = ["Close", "Connection", "Format", "Frame"]

Format = Callable[[StoredPublication], Frame | None]
"""How a protocol's listeners see a publication; None if these are not to see it.

Listeners are grouped by it, so it is one object for all who are sent the same. It is asked once
for each publication, however many listen. `BadPublication` says that there is nothing to see.
"""


class Connection(Sink, Protocol):
    """What `gateway.transport.connection` says of each of these; tests have a list instead."""

    @property
    def id(self) -> ConnectionId: ...

    @property
    def is_open(self) -> bool: ...

    @property
    def is_stalled(self) -> bool: ...

    @property
    def leaves_replies_unread(self) -> bool: ...

    @property
    def closing(self) -> object | None: ...

    def send(self, frame: Frame) -> None: ...

    def offer(self, frame: Frame) -> bool: ...

    async def until_drained(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def start(self, work: Coroutine[Any, Any, None]) -> None: ...

    def begin_work(self) -> None: ...

    def end_work(self) -> None: ...

    def close(self, reason: EndReason | Close) -> None: ...

    def cut(self, reason: EndReason | Close) -> None: ...

    def close_after(self, seconds: float, reason: EndReason) -> None: ...

    def fall_behind(self) -> None: ...

    def keep_up(self) -> None: ...


def isolate_failure(connection: Connection, step: Callable[[], None]) -> None:
    """Do one synchronous step for a connection; what awaits is for `Connection.start`.

    A failure costs that connection and no other: whoever calls it has others to serve.
    """
    try:
        step()
    except Exception as error:
        connection.abandon(error, "connection_work_failed")
