"""The messages of the PRES stream: their subjects, headers and bodies. Pure.

An entry's subject has three tokens, ``<channel>.<user>.<node>``, and a lease's has two,
``_node.<node>``. So the entries of a channel named ``_node`` are not taken for leases.

Whoever may ask the bus for anything can have its answer stored here, in any entry's or lease's
place. So what is read is what a gateway writes, and nothing else counts as an entry, as a lease or
as the end of one.
"""

import math
from collections.abc import Iterable
from enum import Enum
from itertools import repeat
from typing import Any, NamedTuple, NewType

import pydantic_core
import structlog

from hubbub_client.contracts.channels import BadChannelName
from hubbub_client.contracts.ids import BadUserId, ChannelName, ConnectionId, UserId
from hubbub_client.contracts.subjects import PRES_PUB, channel_of, token_of, user_of
from hubbub_client.nats.headers import header

log = structlog.get_logger(__name__)

NodeId = NewType("NodeId", str)
"""One life of one gateway process, as presence knows it."""
Membership = tuple[ChannelName, UserId]
"""A user in a channel, on any node."""

EXPECTED_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
"""The bus stores the message only if the subject's last one has this sequence; 0 for none."""
REMOVAL_HEADERS = {"KV-Operation": "PURGE"}
"""A message with these can expire without leaving a marker. Every removal has them; an answer of
the bus, which may be as empty, does not."""

_LEASE = "_node"
LEASE_BODY = b'{"v":1}'
LAST_LEASE_BODY = b'{"v":1,"leaving":true}'
"""As any lease's, it has a ``v``, which no answer of the bus has. Older gateways take it for any
other."""


def ttl(seconds: float) -> str:
    """A time to live as the bus reads it."""
    return f"{round(seconds * 1000)}ms"


class EntryKey(NamedTuple):
    """One user in one channel on one node."""

    membership: Membership
    node: NodeId


class LeaseKey(NamedTuple):
    """The lease of one node."""

    node: NodeId


def entry_name(key: EntryKey) -> str:
    """The entry's subject without its prefix; `parse` is the inverse."""
    (channel, user_id), node = key
    return f"{token_of(channel)}.{token_of(user_id)}.{node}"


def entry_subject(key: EntryKey) -> str:
    """The subject of an entry."""
    return f"{PRES_PUB}{entry_name(key)}"


def lease_subject(node: NodeId) -> str:
    """The subject of a node's lease."""
    return f"{PRES_PUB}{_LEASE}.{node}"


def entries_of(node: NodeId) -> str:
    """A filter for all entries of the node, without its lease."""
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


class ClientInfo(NamedTuple):
    """What the others in a channel are shown of a connection, beside its user: raw JSON texts."""

    conn_info: bytes | None = None
    """The same in all channels of the connection."""
    chan_info: bytes | None = None
    """Of its subscription to this channel."""

    def values(self) -> dict[str, bytes]:
        """What there is of it, as the body of an entry has it: each JSON text as a string, which
        no reader changes."""
        conn_info, chan_info = self
        values = {} if conn_info is None else {"conn": conn_info}
        if chan_info is not None:
            values["chan"] = chan_info
        return values

    @property
    def encoded_bytes(self) -> int:
        """What it takes of an entry's body.

        Raises:
            ValueError: it is not UTF-8.
        """
        return len(pydantic_core.to_json(self.values()))


class Entry(NamedTuple):
    """The body of an entry."""

    name: str
    since: float
    """When the user's first connection came: Unix seconds of the node's clock. Users are listed in
    this order."""
    connections: tuple[ConnectionId, ...]
    """None for the time of the grace, after the last one has left."""
    infos: tuple[ClientInfo | None, ...] = ()
    """One for each connection, in the same order; empty if none of them has any."""
    unlisted: int = 0
    """How many connections the user has beside those that are listed."""

    @property
    def connection_count(self) -> int:
        return len(self.connections) + self.unlisted

    def clients(self) -> Iterable[tuple[ConnectionId, ClientInfo | None]]:
        """The connections that are listed, each with its info."""
        return zip(self.connections, self.infos or repeat(None), strict=False)

    def encode(self) -> bytes:
        """As it is stored. An older gateway ignores the members that not every entry has."""
        body = {"name": self.name, "since": self.since, "connections": self.connections}
        if self.infos:
            body["infos"] = [info and info.values() for info in self.infos]
        if self.unlisted:
            body["unlisted"] = self.unlisted
        return pydantic_core.to_json(body)


class LeaseState(Enum):
    """A node's entries count until its lease has ended."""

    LIVE = "live"
    LEAVING = "leaving"
    """Renewed for the last time, by a gateway to which nobody is connected any more."""
    EXPIRED = "expired"
    """Not renewed in time, or something stands in its place that no gateway wrote. Some gateway
    will soon write its end, which all gateways read."""
    ENDED = "ended"


class EntryRecord(NamedTuple):
    """The state of an entry; None once it is removed."""

    key: EntryKey
    sequence: int
    entry: Entry | None


class LeaseRecord(NamedTuple):
    """The state of a lease."""

    key: LeaseKey
    sequence: int
    state: LeaseState


Record = EntryRecord | LeaseRecord


class ForeignRecord(NamedTuple):
    """In an entry's place stands what no gateway wrote: its own gateway writes the entry again, and
    to the others it is as it was."""

    key: EntryKey
    sequence: int


def read_record(
    name: str, sequence: int, payload: bytes, headers: bytes
) -> Record | ForeignRecord | None:
    """Read a message; None if its subject is not ours.

    Args:
        name: The subject, without its prefix.
    """
    match parse(name):
        case EntryKey() as key:
            if not payload and is_removal(headers):
                return EntryRecord(key, sequence, None)
            entry = _read_entry(name, payload)
            if entry is None:
                return ForeignRecord(key, sequence)
            return EntryRecord(key, sequence, entry)
        case LeaseKey() as key:
            return LeaseRecord(key, sequence, _lease_state(payload, headers))
        case None:
            log.warning("presence_subject_unknown", subject=name)
            return None


def _read_entry(name: str, payload: bytes) -> Entry | None:
    try:
        entry = _entry_of(_json_of(payload))
    except OverflowError:  # a number too large for a float
        entry = None
    if entry is None:
        log.warning("presence_entry_unreadable", subject=name)
    return entry


def _json_of(payload: bytes) -> Any:
    """What the text says; None if it is no JSON."""
    try:
        return pydantic_core.from_json(payload, cache_strings="keys")
    except ValueError:
        return None


def _entry_of(body: Any) -> Entry | None:
    """Checked by hand, since a schema is slower: this runs for every arrival in the cluster."""
    if type(body) is not dict:
        return None
    name, since, connections = body.get("name"), body.get("since"), body.get("connections")
    if type(name) is not str or type(connections) is not list:
        return None
    if type(since) is not float and type(since) is not int:
        return None
    if not math.isfinite(since) or not all(type(each) is str for each in connections):
        return None
    if "infos" not in body and "unlisted" not in body:
        return Entry(name, float(since), tuple(connections))
    infos, unlisted = _infos_of(body.get("infos", [])), body.get("unlisted", 0)
    if infos is None or type(unlisted) is not int or unlisted < 0:
        return None
    if infos and len(infos) != len(connections):
        return None
    return Entry(name, float(since), tuple(connections), infos, unlisted)


def _infos_of(values: Any) -> tuple[ClientInfo | None, ...] | None:
    if type(values) is not list:
        return None
    infos: list[ClientInfo | None] = []
    for each in values:
        if each is None:
            infos.append(None)
            continue
        if type(each) is not dict:
            return None
        texts = each.get("conn"), each.get("chan")
        if not all(text is None or _is_json_line(text) for text in texts):
            return None
        infos.append(ClientInfo(*(None if text is None else text.encode() for text in texts)))
    return tuple(infos)


def _is_json_line(text: Any) -> bool:
    """Whether it may stand in a frame as it is: one JSON value, within a line."""
    if type(text) is not str or "\n" in text or "\r" in text:
        return False
    try:
        pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError:
        return False
    return True


def _lease_state(payload: bytes, headers: bytes) -> LeaseState:
    if not payload:
        return LeaseState.ENDED if is_removal(headers) else LeaseState.EXPIRED
    body = _json_of(payload)
    if type(body) is not dict or type(body.get("v")) is not int:
        return LeaseState.EXPIRED
    return LeaseState.LEAVING if body.get("leaving") is True else LeaseState.LIVE


def is_removal(headers: bytes) -> bool:
    """Whether a gateway has removed what stood there; see `REMOVAL_HEADERS`."""
    return header(headers, b"KV-Operation") == b"PURGE"
