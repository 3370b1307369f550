"""The records of the PRES stream: their subjects, and what one message of it says. Pure.

An entry's subject has three tokens, ``<channel>.<user>.<node>``, a lease's two, ``_node.<node>``.
So even a channel that is named ``_node`` can't be mistaken.
"""

import math
from enum import Enum
from typing import Any, NamedTuple

import pydantic_core
import structlog

from shared.contracts.channels import BadChannelName
from shared.contracts.ids import BadUserId, ChannelName, ConnectionId, NodeId, UserId
from shared.jetstream.subjects import PRES_PUB, channel_of, token_of, user_of
from shared.nats.headers import header

log = structlog.get_logger(__name__)

Place = tuple[ChannelName, UserId]
"""A user in a channel, by any node."""

_LEASE = "_node"


class EntryKey(NamedTuple):
    """Whose entry it is."""

    place: Place
    node: NodeId


class LeaseKey(NamedTuple):
    """Whose lease it is."""

    node: NodeId


def entry_name(key: EntryKey) -> str:
    """The entry's subject without its prefix; `parse` reads it."""
    (channel, user_id), node = key
    return f"{token_of(channel)}.{token_of(user_id)}.{node}"


def entry_subject(key: EntryKey) -> str:
    """Where the entry is written."""
    return f"{PRES_PUB}{entry_name(key)}"


def lease_subject(node: NodeId) -> str:
    """Where the node's lease is written."""
    return f"{PRES_PUB}{_LEASE}.{node}"


def entries_of(node: NodeId) -> str:
    """The filter that matches all entries of the node and not its lease."""
    return f"{PRES_PUB}*.*.{node}"


def parse(name: str) -> EntryKey | LeaseKey | None:
    """Read a subject without its prefix; None if it is neither an entry's nor a lease's."""
    match name.split("."):
        case [token, user, node] if node:
            try:
                return EntryKey((channel_of(token), user_of(user)), NodeId(node))
            except (BadChannelName, BadUserId):
                return None
        case ["_node", node] if node:
            return LeaseKey(NodeId(node))
    return None


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


class EntryRecord(NamedTuple):
    """The entry is this; None if there is none."""

    key: EntryKey
    sequence: int
    entry: Entry | None


class LeaseRecord(NamedTuple):
    """The lease is in this state."""

    key: LeaseKey
    sequence: int
    state: LeaseState


Record = EntryRecord | LeaseRecord


def read_record(name: str, sequence: int, payload: bytes, headers: bytes) -> Record | None:
    """Read a message; None if it is none of ours. One with an unreadable body removes.

    Args:
        name: The subject, without its prefix.
    """
    match parse(name):
        case EntryKey() as key:
            return EntryRecord(key, sequence, _read_entry(name, payload) if payload else None)
        case LeaseKey() as key:
            return LeaseRecord(key, sequence, _lease_state(payload, headers))
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
