"""What one message of the PRES stream says. Pure."""

import math
from enum import Enum
from typing import Any, NamedTuple

import pydantic_core
import structlog

from gateway.presence.subjects import EntryKey, LeaseKey, parse
from shared.bus.headers import header
from shared.ids import ConnectionId

log = structlog.get_logger(__name__)


class Entry(NamedTuple):
    """The body of an entry: one user in one channel on one node."""

    name: str
    since: float
    """When the first connection came, in unix seconds by that node's clock; orders the users."""
    connections: tuple[ConnectionId, ...]

    def encode(self) -> bytes:
        return pydantic_core.to_json(
            {"name": self.name, "since": self.since, "connections": self.connections}
        )


class LeaseState(Enum):
    """Whether a node's entries count: until its lease has ended."""

    LIVE = "live"
    EXPIRED = "expired"
    """It wasn't renewed in time. Soon a gateway ends it, and then all read that it ended."""
    ENDED = "ended"


class EntryFact(NamedTuple):
    """The entry is this; None if there is none."""

    key: EntryKey
    sequence: int
    entry: Entry | None


class LeaseFact(NamedTuple):
    """The lease is in this state."""

    key: LeaseKey
    sequence: int
    state: LeaseState


Fact = EntryFact | LeaseFact


def read_fact(name: str, sequence: int, payload: bytes, headers: bytes) -> Fact | None:
    """Read a message; None if it is none of ours. One with an unreadable body removes.

    Args:
        name: The subject, without its prefix.
    """
    match parse(name):
        case EntryKey() as key:
            return EntryFact(key, sequence, _read_entry(name, payload) if payload else None)
        case LeaseKey() as key:
            return LeaseFact(key, sequence, _lease_state(payload, headers))
        case None:
            log.warning("presence_subject_unknown", subject=name)
            return None


def _read_entry(name: str, payload: bytes) -> Entry | None:
    try:
        entry = _entry_of(pydantic_core.from_json(payload, cache_strings="keys"))
    except (ValueError, OverflowError):  # no JSON, or a number that no float can be
        entry = None
    if entry is None:
        log.warning("presence_entry_unreadable", subject=name)
    return entry


def _entry_of(body: Any) -> Entry | None:
    """Check by hand what a schema would: it is done for every arrival in the cluster."""
    if type(body) is not dict:
        return None
    name, since, connections = body.get("name"), body.get("since"), body.get("connections")
    if type(name) is not str or type(connections) is not list:
        return None
    if type(since) is not float and type(since) is not int:
        return None
    if not math.isfinite(since) or not all(type(one) is str for one in connections):
        return None
    return Entry(name, float(since), tuple(connections))


def _lease_state(payload: bytes, headers: bytes) -> LeaseState:
    if payload:
        return LeaseState.LIVE
    if header(headers, b"Nats-Marker-Reason") == b"MaxAge":
        return LeaseState.EXPIRED
    return LeaseState.ENDED
