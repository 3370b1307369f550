"""What each stream holds, how much and for how long: the configurations. Pure."""

from dataclasses import dataclass

from hubbub_client.contracts.subjects import (
    CTL_LIVE,
    CTL_PUB,
    EVENTS,
    PRES_LIVE,
    PRES_PUB,
    RT_LIVE,
    RT_PUB,
)
from hubbub_client.jetstream.api import Config, nanoseconds
from shared.runtime.settings import MAX_TOKEN_SECONDS

STREAMS = ("RT", "PRES", "CTL", "EVENTS")
NOTIFY_CONSUMER = "notify"
RT_DEDUPE_SECONDS = 300.0
"""The dedupe window of RT."""


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How much the streams keep.

    Each reserves its ``max_bytes``, so that none can take another's room. If the bus has less, all
    get proportionally less.
    """

    replicas: int = 1
    store_bytes: int | None = None
    """What the bus has for all of them, if known."""
    min_bytes: int = 16 * 1024 * 1024
    """Of each; with less room no stream is made."""
    rt_max_age_seconds: float = 24 * 3600
    rt_max_bytes: int = 1024 * 1024 * 1024
    rt_dedupe_seconds: float = RT_DEDUPE_SECONDS
    pres_max_bytes: int = 256 * 1024 * 1024
    """About 300 bytes for each user of each channel on each gateway."""
    pres_dedupe_seconds: float = 10
    pres_marker_seconds: float = 60
    """How long the marker of an expired presence entry stays."""
    ctl_max_age_seconds: float = MAX_TOKEN_SECONDS
    """The longest life of a token, which a revocation has to outlive."""
    ctl_max_bytes: int = 256 * 1024 * 1024
    """About 400 bytes for each ended session; when it is full, no more can be ended."""
    ctl_dedupe_seconds: float = 300
    events_max_age_seconds: float = 7 * 24 * 3600
    events_max_bytes: int = 4 * 1024 * 1024 * 1024
    """When it is full, events wait in the outboxes until the oldest here expire."""
    events_dedupe_seconds: float = 600
    notify_ack_seconds: float = 10
    """After which an unacknowledged event is given out again, as its gateway may have died."""
    notify_pin_seconds: float = 5
    """Without a request of the gateway that notifies, after which another takes over."""
    notify_max_unacked: int = 2000
    request_seconds: float = 2
    """For one answer of the bus."""
    retry_seconds: float = 0.2
    deadline_seconds: float = 30
    """For all of `bootstrap`: JetStream needs a moment after its server's start."""


def stream_configs(settings: StreamSettings) -> list[Config]:
    """``max_bytes`` is what each gets if there is enough room."""
    return [
        {
            "name": "RT",
            "subjects": [f"{RT_PUB}>"],
            "republish": {"src": f"{RT_PUB}>", "dest": f"{RT_LIVE}>"},
            "max_age": nanoseconds(settings.rt_max_age_seconds),
            "max_bytes": settings.rt_max_bytes,
            "discard": "old",
            "duplicate_window": nanoseconds(settings.rt_dedupe_seconds),
            "allow_direct": True,
            "deny_delete": True,
            # No limits per subject: they would make holes, and the stream's first sequence would
            # not say whether a client's offset is recoverable.
            **_common(settings),
        },
        {
            "name": "PRES",
            "subjects": [f"{PRES_PUB}>"],
            "republish": {"src": f"{PRES_PUB}>", "dest": f"{PRES_LIVE}>"},
            "max_msgs_per_subject": 1,
            "max_bytes": settings.pres_max_bytes,
            # With "new" a full stream would refuse leases too, and with them whole gateways.
            # Leases are renewed all the time, so they are never the oldest entries.
            "discard": "old",
            "duplicate_window": nanoseconds(settings.pres_dedupe_seconds),
            "allow_direct": True,
            "allow_msg_ttl": True,
            "allow_rollup_hdrs": True,
            "subject_delete_marker_ttl": nanoseconds(settings.pres_marker_seconds),
            **_common(settings),
        },
        {
            "name": "CTL",
            "subjects": [f"{CTL_PUB}>"],
            "republish": {"src": f"{CTL_PUB}>", "dest": f"{CTL_LIVE}>"},
            "max_age": nanoseconds(settings.ctl_max_age_seconds),
            "max_bytes": settings.ctl_max_bytes,
            "discard": "new",  # the oldest may be in force
            "duplicate_window": nanoseconds(
                min(settings.ctl_dedupe_seconds, settings.ctl_max_age_seconds)
            ),
            "allow_direct": True,
            **_common(settings),
        },
        {
            "name": "EVENTS",
            "subjects": [f"{EVENTS}>"],
            "max_age": nanoseconds(settings.events_max_age_seconds),
            "max_bytes": settings.events_max_bytes,
            "discard": "new",  # the oldest may not be handled yet; the outboxes keep new ones
            "duplicate_window": nanoseconds(settings.events_dedupe_seconds),
            **_common(settings),
        },
    ]


def consumer_config(settings: StreamSettings) -> Config:
    """The consumer `notify` of EVENTS, but for where it begins."""
    return {
        "durable_name": NOTIFY_CONSUMER,
        "ack_policy": "explicit",
        "ack_wait": nanoseconds(settings.notify_ack_seconds),
        "max_ack_pending": settings.notify_max_unacked,
        "max_deliver": -1,
        "replay_policy": "instant",
        # One gateway works and the others stand by: two at once could not keep the order.
        "priority_policy": "pinned_client",
        "priority_groups": [NOTIFY_CONSUMER],
        "priority_timeout": nanoseconds(settings.notify_pin_seconds),
    }


def _common(settings: StreamSettings) -> Config:
    # File storage on one node too: after a restart a memory stream is gone, not empty.
    return {"retention": "limits", "storage": "file", "num_replicas": settings.replicas}
