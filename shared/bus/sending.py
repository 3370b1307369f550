"""A message on its way into a stream, and what may become of it."""

from collections.abc import Callable

from shared.bus.answers import Stored
from shared.bus.errors import BusUnavailable, MessageRejected

Outcome = Stored | BusUnavailable | MessageRejected
"""What became of a message. If the bus is unavailable it may be stored all the same, so it can
be sent again with the same id; one that was rejected can never be stored."""

OnDone = Callable[[Outcome], None]


class Sending:
    """One message that has not been answered."""

    __slots__ = ("began_at", "deadline", "due", "headers", "on_done", "payload", "reply",
                 "subject", "token", "tries")  # fmt: skip

    def __init__(
        self, subject: str, payload: bytes, on_done: OnDone, began_at: float, deadline: float
    ) -> None:
        self.subject = subject
        self.payload = payload
        self.headers = b""
        self.on_done: OnDone | None = on_done
        """None when that was done."""
        self.began_at = began_at
        self.deadline = deadline
        self.token = 0
        self.reply = ""
        self.due = 0.0
        """When to send it (again), by the monotonic clock."""
        self.tries = 0
