"""The Prometheus metrics of a process's outboxes."""

from collections.abc import Callable
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge


class OutboxMetrics:
    """The metrics, once for each registry; each outbox of the process has its own label."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"hubbub_outbox_{name}", text, ["outbox"], registry=registry)

        def counter(name: str, text: str) -> Counter:
            return Counter(f"hubbub_outbox_{name}", text, ["outbox"], registry=registry)

        self._depth = gauge("depth", "Committed messages that the bus has not stored yet.")
        self._age = gauge("oldest_age_seconds", "Age of the oldest of them.")
        self._published = counter("published", "Messages that the bus has stored.")
        self._poisoned = counter("poisoned", "Messages set aside: the bus will never take them.")

    def of(self, outbox: str) -> "RelayMetrics":
        """The metrics of one outbox, by the name of its service."""
        return RelayMetrics(
            depth=self._depth.labels(outbox),
            age=self._age.labels(outbox),
            published=self._published.labels(outbox),
            poisoned=self._poisoned.labels(outbox),
        )


class RelayMetrics:
    """What one relay reports."""

    def __init__(self, *, depth: Gauge, age: Gauge, published: Counter, poisoned: Counter) -> None:
        self._depth = depth
        self.count_published: Callable[[int], None] = published.inc
        self.count_poisoned: Callable[[int], None] = poisoned.inc
        self._oldest: datetime | None = None
        age.set_function(self._age_seconds)  # it grows even if nothing is measured

    def measured(self, depth: int, oldest: datetime | None) -> None:
        """Take what the database holds now."""
        self._depth.set(depth)
        self._oldest = oldest

    def _age_seconds(self) -> float:
        if self._oldest is None:
            return 0.0
        return max(0.0, (datetime.now(UTC) - self._oldest).total_seconds())
