"""Where a relay sends messages."""

from typing import Protocol


class Stored(Protocol):
    """That a message is stored."""

    @property
    def offset(self) -> int:
        """Its sequence in the stream."""


class Destination(Protocol):
    """What stores messages: `to_bus` and `to_gateway` make one."""

    async def publish(
        self, subject: str, payload: bytes, *, message_id: str, deadline_seconds: float
    ) -> Stored:
        """Store the message, once under its id.

        Raises:
            Unavailable: nobody knows whether it is stored; try again with the same id.
            MessageRejected: it can never be stored.
        """
