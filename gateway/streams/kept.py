"""What is kept of a channel. The stream has no limit of a channel's own, so readers apply it."""

from bisect import bisect_left
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import StoredPublication


class Kept(NamedTuple):
    """The newest publications of a channel that may be read back."""

    size: int | None = None
    """At most so many; None for all that the stream holds. Who reads from a replica that lags may
    have as many more as that lacks: it does not count them."""
    ttl_seconds: float | None = None
    """None older than that."""

    def at_most(self, count: int) -> int:
        return count if self.size is None else min(count, self.size)

    def includes(self, oldest: StoredPublication, count: int, now: float) -> bool:
        """Whether the newest ``count`` publications, of which one is the oldest, are all kept."""
        if self.size is not None and count > self.size:
            return False
        return self.ttl_seconds is None or stored_at(oldest) >= now - self.ttl_seconds

    def newest_of(self, newest: list[StoredPublication], now: float) -> list[StoredPublication]:
        """Those of a channel's newest publications, ascending, that are kept."""
        if self.size is not None:
            newest = newest[-self.size :]
        if self.ttl_seconds is not None:
            newest = newest[bisect_left(newest, now - self.ttl_seconds, key=stored_at) :]
        return newest


ALL = Kept()

KeptOf = Callable[[ChannelName], Kept]


def all_of_it(_channel: ChannelName) -> Kept:
    return ALL


def stored_at(publication: StoredPublication) -> float:
    """In unix seconds, to the microsecond."""
    return datetime.fromisoformat(publication.time).timestamp()
