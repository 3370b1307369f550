"""The times and amounts of presence."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PresenceLimits:
    """Bounds of `Presence`. All gateways must have the same.

    A killed gateway's users leave after ``lease_seconds + hold_seconds`` and about a second.
    """

    grace_seconds: float
    """From a user's last connection to the removal of the entry, so that a reload is not seen."""
    lease_seconds: float
    """A node that has not renewed its lease for this long is gone. At least 1."""
    renew_seconds: float
    hold_seconds: float = 2.0
    """How long the users of an expired lease still count. A node that is alive announces them
    under a new lease meanwhile, so nobody sees them leave and come back."""
    refresh_seconds: float = 0.2
    """Between two writes of an entry: a first change of its connections is written at once, those
    that follow soon are written together."""
    max_refresh_seconds: float = 1.0
    """The same for an entry that lists all connections it may, and so takes all gateways longest
    to read; between the two in proportion."""
    tombstone_seconds: float = 60.0
    """How long the stream remembers that an entry was removed. At least 1."""
    max_listed_connections: int = 1000
    """In one entry. A user may have more on one node in one channel; those are only counted."""
    max_listed_bytes: int = 64 * 1024
    """What an entry's connections may take with their infos; the rest is only counted. An entry
    has to fit into one message of the bus."""
    max_info_bytes: int = 4096
    """What the info of one connection may take in an entry."""
    max_writes_in_flight: int = 200
    write_seconds: float = 5.0
    """For one write with its retries. After that the entry is written anew, as it is by then."""
    retry_seconds: float = 0.1
    """The pause after a failure; doubled each time, up to ``max_retry_seconds``."""
    max_retry_seconds: float = 2.0
    answer_seconds: float = 2.0
    """For one answer of the bus."""
    tick_seconds: float = 0.25
    """Between two checks for expired leases."""
    snapshot_batch: int = 1000
    snapshot_batch_bytes: int = 4 * 1024 * 1024
    snapshot_seconds: float = 60.0
    stale_read_seconds: float = 0.03
    """The pause after an answer from a replica that lags."""

    def __post_init__(self) -> None:
        if self.lease_seconds < 1 or self.tombstone_seconds < 1:
            raise ValueError("the bus has no TTL below a second")
        if self.renew_seconds * 2 > self.lease_seconds:
            raise ValueError("a lease has to survive one failed renewal")
        if self.max_info_bytes * 2 > self.max_listed_bytes:
            raise ValueError("an entry has to have room for the info of any connection")

    def refresh_seconds_of(self, connections: int) -> float:
        """Between two writes of an entry with so many connections."""
        share = min(connections / self.max_listed_connections, 1.0)
        return self.refresh_seconds + (self.max_refresh_seconds - self.refresh_seconds) * share

    @property
    def leave_seconds(self) -> float:
        """The last lease of a node that stops: together with the hold it is the grace."""
        return max(self.grace_seconds - self.hold_seconds, 1.0)
