"""A connection that only remembers what was written to it."""

from typing import Any

from gateway.transport.coalescer import NOTHING_MORE, STALLED, FrameBatch


class ASink:
    """A sink and its transport in one."""

    def __init__(self) -> None:
        self.due: FrameBatch | None = None
        self.written: list[bytes] = []

    @property
    def transport(self) -> Any:
        return self

    def write(self, data: bytes) -> None:
        assert self.due is None, "nothing is due any more once it is written"
        self.written.append(data)

    def write_due(self) -> None:
        run = self.due
        if run is not None and run is not STALLED and run is not NOTHING_MORE:
            self.due = None
            self.write(run.joined())
