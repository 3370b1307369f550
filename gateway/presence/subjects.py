"""The subjects of presence, below ``pres.st.`` and ``pres.live.``. Pure.

An entry's has three tokens, ``<channel>.<user>.<node>``, a lease's two, ``_node.<node>``.
So even a channel that is named ``_node`` can't be mistaken.
"""

from functools import lru_cache
from typing import NamedTuple

from shared.bus.subjects import PRES_PUB, channel_of, token_of
from shared.ids import ChannelName, NodeId, UserId

Place = tuple[ChannelName, UserId]
"""A user in a channel, by any node."""

_LEASE = "_node"

_channel_of = lru_cache(maxsize=4096)(channel_of)
"""So that all entries of a channel share its name."""


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
    return f"{token_of(channel)}.{user_id}.{node}"


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
        case [token, user, node] if token and node and user.isdecimal():
            return EntryKey((_channel_of(token), UserId(int(user))), NodeId(node))
        case ["_node", node] if node:
            return LeaseKey(NodeId(node))
    return None
