"""A connection that only remembers what was written to it."""

from gateway.engine.outgoing import NOTHING_MORE, STALLED, Run


class ASink:
    def __init__(self) -> None:
        self.due: Run | None = None
        self.written: list[bytes] = []

    def write_due(self) -> None:
        run = self.due
        if run is not None and run is not STALLED and run is not NOTHING_MORE:
            self.due = None
            self.written.append(run.joined())

    def abort(self) -> None:
        raise NotImplementedError
