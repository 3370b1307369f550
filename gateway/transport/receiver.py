"""What a connection calls: the session above it, in the words of its protocol."""

from collections.abc import Mapping
from typing import ClassVar, Protocol

from gateway.errors import EndReason
from gateway.transport.frames import Close, Frame


class Receiver(Protocol):
    """A session, as its connection sees it. Called from the loop: it must not wait, nor raise."""

    close_codes: ClassVar[Mapping[EndReason, Close]]
    """What its protocol sends to the peer for each reason to end."""

    @property
    def ping(self) -> Frame | None:
        """What its protocol sends to hear whether the peer is there; None for RFC 6455's ping."""

    def received(self, message: str | bytes) -> None:
        """A whole message came, on a connection that is open."""

    def farewell(self, close: Close) -> Frame | None:
        """Return what its protocol sends just before the end; None if the close says it all."""

    def lost(self, close: Close) -> None:
        """It is over: nothing comes any more, and what is sent goes nowhere."""


class _Nobody:
    """Above a connection that is not open yet, or over."""

    close_codes: ClassVar[Mapping[EndReason, Close]] = {}
    ping: ClassVar[Frame | None] = None

    def received(self, message: str | bytes) -> None: ...

    def farewell(self, close: Close) -> Frame | None:
        return None

    def lost(self, close: Close) -> None: ...


NOBODY = _Nobody()


def close_for(why: EndReason | Close, receiver: Receiver) -> Close:
    """The close that is sent for a reason; a `Close` is sent as it is."""
    return why if isinstance(why, Close) else receiver.close_codes[why]
