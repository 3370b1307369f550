"""The counters in the metrics that Prometheus reads."""

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from gateway.tallies import Durations, Tallies, tally


def test_a_tally_is_exported_as_zero_before_anything_is_counted() -> None:
    registry = CollectorRegistry()
    deliveries = tally("hubbub_deliveries", "Of publications.", registry=registry)

    before = registry.get_sample_value("hubbub_deliveries_total")
    deliveries.inc()
    deliveries.inc(2)

    assert before == 0
    assert registry.get_sample_value("hubbub_deliveries_total") == 3


def test_tallies_with_different_labels_are_counted_apart() -> None:
    registry = CollectorRegistry()
    commands = Tallies("hubbub_commands", "Of tabs.", "type", registry=registry)

    commands.labels("ping").inc()
    commands.labels("message").inc(2)
    commands.labels("ping").inc()

    assert registry.get_sample_value("hubbub_commands_total", {"type": "ping"}) == 2
    assert registry.get_sample_value("hubbub_commands_total", {"type": "message"}) == 2


def test_durations_are_exported_like_a_histogram_of_prometheus_client() -> None:
    registry, theirs = CollectorRegistry(), CollectorRegistry()
    bounds = (0.001, 0.5, 1, 2.5)
    ours = Durations("taken", "How long.", bounds, registry=registry)
    histogram = Histogram("taken", "How long.", buckets=bounds, registry=theirs)

    for seconds in (0.0, 0.001, 0.0011, 1, 1.5, 99):
        ours.observe(seconds)
        histogram.observe(seconds)

    def lines(of: CollectorRegistry) -> set[str]:
        return {
            line for line in generate_latest(of).decode().splitlines() if "_created" not in line
        }

    assert lines(registry) == lines(theirs)
