"""What one message of the PRES stream says. Pure."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

import pydantic_core
import structlog
from pydantic import Field, TypeAdapter, ValidationError

from gateway.presence.subjects import EntryKey, LeaseKey, parse
from shared.bus.headers import header
from shared.ids import ConnectionId

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """The body of an entry: one user in one channel on one node."""

    name: str
    since: Annotated[float, Field(allow_inf_nan=False)]
    """When the first connection came, in unix seconds by that node's clock; orders the users."""
    connections: tuple[ConnectionId, ...]

    def encode(self) -> bytes:
        return pydantic_core.to_json(self)


class LeaseState(Enum):
    """Whether a node's entries count: until its lease has ended."""

    LIVE = "live"
    EXPIRED = "expired"
    """It wasn't renewed in time. Soon a gateway ends it, and then all read that it ended."""
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class EntryFact:
    """The entry is this; None if there is none."""

    key: EntryKey
    sequence: int
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class LeaseFact:
    """The lease is in this state."""

    key: LeaseKey
    sequence: int
    state: LeaseState


Fact = EntryFact | LeaseFact

_ENTRY = TypeAdapter(Entry)


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
        return _ENTRY.validate_json(payload)
    except ValidationError:
        log.warning("presence_entry_unreadable", subject=name)
        return None


def _lease_state(payload: bytes, headers: bytes) -> LeaseState:
    if payload:
        return LeaseState.LIVE
    if header(headers, b"Nats-Marker-Reason") == b"MaxAge":
        return LeaseState.EXPIRED
    return LeaseState.ENDED
