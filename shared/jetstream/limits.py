"""The limits of a follower."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FollowerLimits:
    """All waits and amounts of a `Follower`."""

    idle_seconds: float = 1.0
    """Of silence, after which it asks for the next message."""
    verify_seconds: float = 15.0
    """How often it verifies without a reason to."""
    stale_seconds: float = 6.0
    """Without an answer while connected, after which it is stale; longer than an election."""
    answer_seconds: float = 2.0
    retry_seconds: float = 0.2
    """After no answer."""
    stale_read_seconds: float = 0.03
    """After an answer from a replica that lags."""
    max_stale_reads: int = 20
    """In a row; then the leader is asked."""
    batch_messages: int = 500
    batch_bytes: int = 4 * 1024 * 1024
    max_held_bytes: int = 16 * 1024 * 1024
    """Of live messages that came too early."""
