"""The limits of the engine, in one value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may cost, and how long it may take; units are in the names."""

    max_pending_bytes: int = 256 * 1024
    """Queued and unsent; past it the connection is closed as too slow."""
    write_seconds: float = 15.0
    """How long a socket may take nothing before it is given up."""
    close_seconds: float = 5.0
    """From a close to the end of the socket, whatever the peer does."""
    sweep_seconds: float = 1.0
    drain_seconds: float = 3.0
    """From the beginning of a drain to its end, whatever the peers do."""
    drain_closes_per_second: int = 500
    """More, if `drain_seconds` would not suffice."""
