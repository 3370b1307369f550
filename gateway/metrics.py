"""The gateway's metrics for Prometheus."""

import time
from collections.abc import Callable

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.errors import EndReason
from gateway.tallies import Durations, Tallies, tally

log = structlog.get_logger(__name__)

UNREADABLE_LOG_SECONDS = 60.0
"""Between two log lines about unreadable publications, which are all counted."""

_OUR_CODES = frozenset({1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1011, 1012, 1013})
_RFC_6455_CODES = {1002: "protocol_error", 1007: "not_utf8", 1009: "too_big"}
"""Labels for closes by a peer's error in the WebSocket protocol."""
_ASK_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_PUBLISH_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class GatewayMetrics:
    """The gateway's collectors, all on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._connections = Gauge("hubbub_connections", "Open sockets.", registry=registry)
        self._users = Gauge("hubbub_users", "Users with a socket here.", registry=registry)
        self._channels = Gauge(
            "hubbub_channels", "Channels that somebody here listens to.", registry=registry
        )
        self.deliveries = tally(
            "hubbub_deliveries", "Publications handed to connections.", registry=registry
        )
        self.commands = Tallies("hubbub_commands", "Commands of tabs.", "type", registry=registry)
        self.errors = Counter(
            "hubbub_errors", "Commands answered with an error.", ["code"], registry=registry
        )
        self.replayed = tally(
            "hubbub_replayed", "Publications sent to those who came back.", registry=registry
        )
        self.lagging = Counter(
            "hubbub_lagging", "Times that a slow tab fell behind.", registry=registry
        )
        self.resets = Counter(
            "hubbub_resets", "Tabs told that what they missed can't be had.", registry=registry
        )
        self._notified = Counter(
            "hubbub_notified", "Publications to be made of events, by what became of them.",
            ["outcome"], registry=registry,
        )  # fmt: skip
        self._skipped = Counter(
            "hubbub_publications_skipped", "Publications of the stream that nobody could read.",
            registry=registry,
        )  # fmt: skip
        self._closes = Counter(
            "hubbub_closes", "Connections that ended.", ["code"], registry=registry
        )
        self.failed_connections = Counter(
            "hubbub_connections_failed", "Connections ended because something for them raised.",
            registry=registry,
        )  # fmt: skip
        self._refused = Counter(
            "hubbub_connections_refused", "Connections that ended before they were let in.",
            ["reason"], registry=registry,
        )  # fmt: skip
        self._lag = Gauge(
            "hubbub_follower_lag", "Messages known and not delivered.", ["stream"],
            registry=registry,
        )  # fmt: skip
        self._fills = Counter(
            "hubbub_follower_fills", "Messages whose live copy never came.", ["stream"],
            registry=registry,
        )  # fmt: skip
        self._asked = Counter(
            "hubbub_proxy_requests", "Questions to the application, by what became of them.",
            ["question", "outcome"], registry=registry,
        )  # fmt: skip
        self._ask_seconds = Histogram(
            "hubbub_proxy_seconds", "From a question to the application to its answer.",
            ["question"], buckets=_ASK_BUCKETS, registry=registry,
        )  # fmt: skip
        self._log_unreadable_at = 0.0
        self.publish_seconds = Durations(
            "hubbub_publish_seconds", "From a publish to its answer.", _PUBLISH_BUCKETS,
            registry=registry,
        )  # fmt: skip

    def observe(
        self, *, connections: Callable[[], int], users: Callable[[], int],
        channels: Callable[[], int],
    ) -> None:  # fmt: skip
        """Set what the gauges call when the metrics are read."""
        self._connections.set_function(connections)
        self._users.set_function(users)
        self._channels.set_function(channels)

    def observe_lag(self, stream: str, lag: Callable[[], int]) -> None:
        self._lag.labels(stream).set_function(lag)

    def filled(self, stream: str) -> Callable[[int], None]:
        """Return the counter of a stream's fills."""
        fills = self._fills.labels(stream)
        return lambda count: fills.inc(count)

    def skipped(self, count: int = 1) -> None:
        self._skipped.inc(count)

    def unreadable(self, offset: int, reason: str) -> None:
        """Count a publication that did not pass our checks, and log one now and then."""
        self.skipped()
        now = time.monotonic()
        if now >= self._log_unreadable_at:
            self._log_unreadable_at = now + UNREADABLE_LOG_SECONDS
            log.warning("publication_unreadable", offset=offset, reason=reason)

    def notified(self, outcome: str) -> Callable[[], None]:
        """Return the counter of an outcome."""
        return self._notified.labels(outcome).inc

    def asked(self, question: str, outcome: str, seconds: float) -> None:
        """Count a question to the application, and how long it took if it was put."""
        self._asked.labels(question, outcome).inc()
        if outcome != "too_many":
            self._ask_seconds.labels(question).observe(seconds)

    def refused(self, ended: EndReason | int | None) -> None:
        """Count a connection that ended before it was authenticated.

        Args:
            ended: Why the gateway ended it, or the close code for an error of the peer; None if
                the peer left.
        """
        if ended is None:
            reason = "left"
        elif isinstance(ended, EndReason):
            reason = ended.value
        else:
            reason = _RFC_6455_CODES.get(ended, "other")
        self._refused.labels(reason).inc()

    def closed(self, code: int) -> None:
        """Count a close. Peers may send any code, so only known ones become a label."""
        self._closes.labels(str(code) if code in _OUR_CODES else "other").inc()
