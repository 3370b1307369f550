"""Counters for each message, at a tenth of the cost of those of `prometheus_client`.

Those take a lock, so that any thread may count. These may be changed by the event loop's thread
only.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Tally:
    """A counter."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def inc(self, amount: int = 1) -> None:
        self.count += amount


class Tallies(Collector):
    """A counter with one label. Each value is kept for ever, so there must be few."""

    def __init__(
        self, name: str, documentation: str, label: str | None, *, registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._label = label
        self._tallies: dict[str, Tally] = {}
        registry.register(self)

    def labels(self, value: str) -> Tally:
        tally = self._tallies.get(value)
        if tally is None:
            tally = self._tallies[value] = Tally()
        return tally

    def collect(self) -> Iterable[CounterMetricFamily]:
        labels = [] if self._label is None else [self._label]
        family = CounterMetricFamily(self._name, self._documentation, labels=labels)
        for value, tally in self._tallies.items():
            family.add_metric([value] if labels else [], tally.count)
        yield family


def tally(name: str, documentation: str, *, registry: CollectorRegistry) -> Tally:
    """Make a counter without a label."""
    return Tallies(name, documentation, None, registry=registry).labels("")


class Durations(Collector):
    """A histogram of seconds."""

    def __init__(
        self, name: str, documentation: str, bounds: Sequence[float], *, registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def collect(self) -> Iterable[HistogramMetricFamily]:
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(self._name, self._documentation, buckets, self._sum)
