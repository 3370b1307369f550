"""How patient a follower is, and how much it takes at a time."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FollowerLimits:
    """All waits and amounts of a `Follower`."""

    idle_seconds: float = 1.0
    """Of silence, after which it asks for what comes next."""
    verify_seconds: float = 15.0
    """How often it looks for another epoch although nothing points to one."""
    stale_seconds: float = 6.0
    """Without an answer although connected, after which it is stale; longer than the election of a
    leader takes."""
    answer_seconds: float = 2.0
    retry_seconds: float = 0.2
    """After no answer."""
    stale_read_seconds: float = 0.03
    """After an answer from a replica that lags."""
    max_stale_reads: int = 20
    """In a row; then the leader is asked whether there is anything."""
    batch_messages: int = 500
    batch_bytes: int = 4 * 1024 * 1024
    max_held_bytes: int = 16 * 1024 * 1024
    """Of live messages that wait for what comes before them."""
