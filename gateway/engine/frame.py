"""What the rooms above hand to a connection: one finished WebSocket message."""

from typing import NewType

Frame = NewType("Frame", str)
"""One WebSocket text message, ready to be sent to any number of connections."""


def size_of(frame: Frame) -> int:
    """The bytes of UTF-8 that the frame takes on the wire."""
    return len(frame) if frame.isascii() else len(frame.encode())
