"""What bounds a relay."""

from dataclasses import dataclass

from hubbub_client.outbox.table import MAX_LEASE_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLimits:
    """How much at a time, how long, how often."""

    batch_rows: int = 200
    idle_seconds: float = 1.0
    """How often to look for rows of other processes; our own wake the relay at once."""
    publish_seconds: float = 3.0
    """How long one message may wait for the bus's answer before the batch gives up on it."""
    lease_seconds: float = 10.0
    """How long after a relay's death another takes over."""
    first_backoff_seconds: float = 0.1
    max_backoff_seconds: float = 2.0
    failed_seconds: float = 5.0
    """After an error that `relaying` does not know, until it begins anew."""
    max_pause_seconds: float = 30.0
    """How long an aggregate is left alone at most that is held up while others go on."""
    held_up_aggregates: int = 1000
    """So many may be held up and no other has to wait for them."""
    measure_seconds: float = 5.0
    """How often depth and age are measured."""
    lost_seconds: float = 2.0
    """How often to look for a noted loss."""
    lost_rows: int = 1000
    """At most so many are marked as unsent in one transaction."""
    retention_seconds: float = 24 * 3600
    """How long sent rows are kept, to send them again after a loss."""
    prune_seconds: float = 60.0
    prune_rows: int = 1000
    """At most this many are deleted in one transaction."""
    stop_seconds: float = 1.0
    """When stopped: to mark what was sent, and again to give up the lease."""

    def __post_init__(self) -> None:
        if self.publish_seconds >= self.lease_seconds * 2 / 3:
            raise ValueError("a message may wait no longer than two thirds of the lease")
        if self.lease_seconds > MAX_LEASE_SECONDS:
            raise ValueError(f"a lease is of at most {MAX_LEASE_SECONDS} seconds")
