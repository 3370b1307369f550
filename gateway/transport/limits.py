"""The limits of the engine, in one value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may cost, and how long it may take; units are in the names."""

    max_message_bytes: int = 64 * 1024
    """Of what a peer sends; a longer message ends the connection with 1009."""
    total_unfinished_bytes: int = 64 * 1024 * 1024
    """Of messages that aren't whole yet, on all connections; with more, the oldest is given up."""
    message_seconds: float = 30.0
    """From the first byte of a message that comes in pieces until it is whole."""
    bare_frames_per_second: int = 200
    """Of a peer: pings, pongs, parts of messages, and pieces of frames of a few bytes."""
    max_pending_bytes: int = 256 * 1024
    """Written and not yet taken by the peer; past it the connection is behind."""
    total_pending_bytes: int = 256 * 1024 * 1024
    """Of all stalled connections together; past it none of them gets anything live."""
    stall_bytes: int = 16 * 1024
    """Unsent by the socket; past it the connection is stalled, and what it costs is counted."""
    lag_seconds: float = 15.0
    """How long a connection may be stalled or behind before it is given up."""
    ping_seconds: float = 20.0
    pong_seconds: float = 13.0
    """From a ping until something has to come; a silent peer is gone after both, and a sweep."""
    close_seconds: float = 5.0
    """From a close to the end of the socket, whatever the peer does."""
    sweep_seconds: float = 1.0
    drain_seconds: float = 3.0
    """From the beginning of a drain to its end, whatever the peers do."""
    drain_closes_per_second: int = 500
    """More, if `drain_seconds` would not suffice."""
