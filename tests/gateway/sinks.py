"""A connection that only remembers what was written to it."""

from typing import Any

from gateway.transport.coalescer import NOTHING_MORE, STALLED, FrameBatch


class ASink:
    """A sink and its transport in one."""

    def __init__(self) -> None:
        self.pending: FrameBatch | None = None
        self.written: list[bytes] = []

    @property
    def transport(self) -> Any:
        return self

    def write(self, data: bytes) -> None:
        assert self.pending is None, "nothing is due any more once it is written"
        self.written.append(data)

    def abandon(self, error: Exception, event: str) -> None:
        raise error

    def write_pending(self) -> None:
        run = self.pending
        if run is not None and run is not STALLED and run is not NOTHING_MORE:
            self.pending = None
            self.write(run.joined())
