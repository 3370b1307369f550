"""The subjects of presence, below ``pres.st.`` and ``pres.live.``. Pure.

An entry's has three tokens, ``<channel>.<user>.<node>``, a lease's two, ``_node.<node>``.
So even a channel that is named ``_node`` can't be mistaken.
"""

from typing import NamedTuple

from shared.bus.subjects import PRES_PUB, channel_of, token_of
from shared.ids import ChannelName, NodeId, UserId

_LEASE = "_node"


class EntryKey(NamedTuple):
    """Whose entry it is."""

    channel: ChannelName
    user_id: UserId
    node: NodeId


class LeaseKey(NamedTuple):
    """Whose lease it is."""

    node: NodeId


def entry_subject(key: EntryKey) -> str:
    """Where the entry is written."""
    return f"{PRES_PUB}{token_of(key.channel)}.{key.user_id}.{key.node}"


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
            return EntryKey(channel_of(token), UserId(int(user)), NodeId(node))
        case ["_node", node] if node:
            return LeaseKey(NodeId(node))
    return None
