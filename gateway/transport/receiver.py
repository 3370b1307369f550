"""What a connection calls: the session above it, in the words of its protocol."""

from collections.abc import Mapping
from typing import ClassVar, Protocol

from gateway.errors import EndReason
from gateway.transport.frames import Close


class Receiver(Protocol):
    """Whoever is above a connection. Called from the loop: it neither waits nor fails."""

    close_codes: ClassVar[Mapping[EndReason, Close]]
    """What its protocol tells a peer for each reason to end."""

    def received(self, message: str | bytes) -> None:
        """A whole message came, on a connection that is open."""

    def lost(self, close: Close) -> None:
        """It is over: nothing comes any more, and what is sent goes nowhere."""


class _Nobody:
    """Above a connection that is not open yet, or over."""

    close_codes: ClassVar[Mapping[EndReason, Close]] = {}

    def received(self, message: str | bytes) -> None: ...

    def lost(self, close: Close) -> None: ...


NOBODY = _Nobody()


def close_for(why: EndReason | Close, receiver: Receiver) -> Close:
    """What the peer is told; a `Close` is one of RFC 6455's own."""
    return why if isinstance(why, Close) else receiver.close_codes[why]
