"""How patient presence is, and how much it does at a time."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PresenceLimits:
    """All waits and amounts of the `Presence` of one gateway; all gateways have to agree.

    A killed gateway's users leave after ``lease_seconds + hold_seconds`` and about a second.
    """

    grace_seconds: float
    """From a user's last connection to the end of the entry; hides the reload of a page."""
    lease_seconds: float
    """A node that did not renew its lease for as long is gone. At least 1."""
    renew_seconds: float
    hold_seconds: float = 2.0
    """How long the users of an expired lease still count. A node that lives has announced them
    under a new lease by then, so nobody sees them leave and come."""
    refresh_seconds: float = 1.0
    """Between two writes of an entry that only tell of other connections of the same user."""
    tombstone_seconds: float = 60.0
    """How long the stream remembers that an entry was removed. At least 1."""
    max_listed_connections: int = 1000
    """In one entry; a user may have more on one node in one channel, though they aren't listed."""
    max_writes_in_flight: int = 200
    write_seconds: float = 5.0
    """For one write, repeats included; then it is made anew, from what is wanted by then."""
    retry_seconds: float = 0.1
    """The pause after a failure, doubled up to the next."""
    max_retry_seconds: float = 2.0
    answer_seconds: float = 2.0
    """For one answer of the bus."""
    tick_seconds: float = 0.25
    """How often somebody looks whether an expired lease is due."""
    snapshot_batch: int = 1000
    snapshot_batch_bytes: int = 4 * 1024 * 1024
    snapshot_seconds: float = 60.0
    stale_read_seconds: float = 0.03
    """After an answer from a replica that lags."""

    def __post_init__(self) -> None:
        if self.lease_seconds < 1 or self.tombstone_seconds < 1:
            raise ValueError("the bus keeps nothing for less than a second")
        if self.renew_seconds * 2 > self.lease_seconds:
            raise ValueError("a lease has to survive one renewal that fails")

    @property
    def leave_seconds(self) -> float:
        """The lease of a node that stops in order: with the hold it makes the grace."""
        return max(self.grace_seconds - self.hold_seconds, 1.0)
