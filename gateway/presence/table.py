"""Who is in which channel, according to the PRES stream. Never awaits.

The table depends only on the last message of each subject of the stream. So all gateways have the
same table, whether they built it message by message or from a snapshot. An entry counts until its
node's lease has ended.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from gateway.presence.records import (
    ClientInfo,
    Entry,
    EntryRecord,
    LeaseRecord,
    LeaseState,
    Membership,
    NodeId,
    Record,
)
from gateway.presence.users import ChannelStats, ChannelUsers, Client, Clients
from hubbub_client.contracts.ids import ChannelName, ConnectionId, UserId


@dataclass(slots=True)  # a frozen one takes three times as long to make
class PresenceChange:
    """A user joined a channel with a first connection anywhere, or left it with the last."""

    channel: ChannelName
    user_id: UserId
    name: str
    joined: bool
    count: int
    """Users of the channel after this change."""


@dataclass(slots=True)
class ClientChange:
    """A connection came into a channel, or left it, on any node."""

    channel: ChannelName
    connection: ConnectionId
    user_id: UserId
    info: ClientInfo | None
    joined: bool


Change = PresenceChange | ClientChange


class _Node:
    """The lease and the entries of one node."""

    __slots__ = ("entries", "name", "sequence", "state")

    def __init__(self, name: NodeId) -> None:
        self.name = name
        """The string that all its entries share, to save memory."""
        self.state = LeaseState.ENDED  # also while no lease has been seen
        self.sequence = 0
        """The sequence of the lease's last message."""
        self.entries: dict[Membership, Entry] = {}

    @property
    def counts(self) -> bool:
        return self.state is not LeaseState.ENDED


class PresenceTable:
    """All entries and leases, and the users of each channel that follow from them."""

    def __init__(self, is_watched: Callable[[ChannelName], bool] = lambda _channel: False) -> None:
        """
        Args:
            is_watched: Whether to tell of each connection that comes into this channel or leaves
                it. To find that out costs as much as the user has connections there.
        """
        self._is_watched = is_watched
        self._nodes: dict[NodeId, _Node] = {}
        self._channels: dict[ChannelName, ChannelUsers] = {}
        self._channels_of: dict[UserId, tuple[ChannelName, ...]] = {}
        self._read_up_to = 0

    def count(self, channel: ChannelName) -> int:
        found = self._channels.get(channel)
        return len(found) if found is not None else 0

    def has(self, membership: Membership, connection: ConnectionId | None = None) -> bool:
        """Whether the user is in the channel, if one is named with this connection."""
        channel, user_id = membership
        found = self._channels.get(channel)
        user = found.get(user_id) if found is not None else None
        return user is not None and (connection is None or user.may_have(connection))

    def users(self, channel: ChannelName, limit: int | None = None) -> list[tuple[UserId, str]]:
        """The first users of the channel in the order of arrival, and their names."""
        found = self._channels.get(channel)
        return found.first(limit) if found is not None else []

    def head_version(self, channel: ChannelName) -> int:
        """The same number for as long as the first `HEAD` users are the same."""
        found = self._channels.get(channel)
        return found.head_version if found is not None else 0

    def stats(self, channel: ChannelName) -> ChannelStats:
        """How many connections the channel has, and of how many users."""
        found = self._channels.get(channel)
        return found.stats if found is not None else ChannelStats(0, 0)

    def clients(self, channel: ChannelName, limit: int | None = None) -> list[Client]:
        """The first connections of the channel, by the order in which the users arrived."""
        found = self._channels.get(channel)
        return list(islice(found.clients(), limit)) if found is not None else []

    def entries(self, channel: ChannelName, user_id: UserId) -> dict[NodeId, Entry]:
        """The user's entries in the channel that count."""
        found = self._channels.get(channel)
        user = found.get(user_id) if found is not None else None
        return user.entries if user is not None else {}

    def channels_of(self, user_id: UserId) -> tuple[ChannelName, ...]:
        """The channels in which the user is."""
        return self._channels_of.get(user_id, ())

    def lease_state(self, node: NodeId) -> LeaseState:
        """`ENDED` also if no lease has been seen."""
        found = self._nodes.get(node)
        return found.state if found else LeaseState.ENDED

    def live_leases(self) -> frozenset[NodeId]:
        """The nodes whose lease is renewed, as far as the stream says."""
        return frozenset(
            name for name, node in self._nodes.items() if node.state is LeaseState.LIVE
        )

    def expired_leases(self) -> dict[NodeId, int]:
        """The nodes whose lease has expired, and the sequence of the marker that says so."""
        return {
            name: node.sequence
            for name, node in self._nodes.items()
            if node.state is LeaseState.EXPIRED
        }

    def orphaned_nodes(self) -> list[NodeId]:
        """The nodes with entries and no lease."""
        return [name for name, node in self._nodes.items() if not node.counts]

    def forget(self, node: NodeId) -> None:
        """Drop the node's entries after a purge, of which the stream sends no message."""
        found = self._nodes.get(node)
        if found is not None and not found.counts:
            del self._nodes[node]

    def apply(self, record: Record) -> list[Change]:
        """Apply the next message of the stream; return who came or left by it."""
        if record.sequence <= self._read_up_to:  # the snapshot had it already
            return []
        if isinstance(record, LeaseRecord):
            return self._apply_lease(record)
        return self._apply_entry(record)

    def become(self, snapshot: "PresenceTable", up_to: int) -> list[Change]:
        """Replace the content by a snapshot of the stream; return who came or left by it.

        A purge, and a marker that expires, send no message. Only a snapshot shows them.

        Args:
            up_to: The last sequence of the snapshot; records up to it are ignored from now on.
        """
        changes = list(_differences(self._channels, snapshot._channels, self._is_watched))
        self._nodes = snapshot._nodes
        self._channels = snapshot._channels
        self._channels_of = snapshot._channels_of
        self._read_up_to = up_to
        return changes

    def _apply_entry(self, record: EntryRecord) -> list[Change]:
        membership, name = record.key
        node = self._nodes.get(name)
        if record.entry is not None:
            if node is None:
                node = self._nodes[name] = _Node(name)
            node.entries[membership] = record.entry
            return self._join(membership, node.name, record.entry) if node.counts else []
        if node is None or node.entries.pop(membership, None) is None:
            return []
        if node.counts:
            return self._leave(membership, name)
        if not node.entries:
            del self._nodes[name]
        return []

    def _apply_lease(self, record: LeaseRecord) -> list[Change]:
        name = record.key.node
        if record.state is LeaseState.ENDED:
            ended = self._nodes.pop(name, None)
            if ended is None or not ended.counts:
                return []
            return [
                change for membership in ended.entries for change in self._leave(membership, name)
            ]
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = _Node(name)
        counted = node.counts
        node.state, node.sequence = record.state, record.sequence
        if counted:
            return []
        return [
            change
            for membership, entry in node.entries.items()
            for change in self._join(membership, node.name, entry)
        ]

    def _join(self, membership: Membership, node: NodeId, entry: Entry) -> list[Change]:
        channel, user_id = membership
        users = self._channels.get(channel)
        if users is None:
            users = self._channels[channel] = ChannelUsers(channel)
        before = users.clients_of(user_id) if self._is_watched(channel) else None
        is_new = users.put(user_id, node, entry)
        changes: list[Change] = []
        if is_new:
            others = self._channels_of.get(user_id)
            self._channels_of[user_id] = users.only_this if others is None else (*others, channel)
            changes.append(PresenceChange(channel, user_id, entry.name, True, len(users)))
        if before is not None:
            changes += _client_changes(membership, before, users.clients_of(user_id))
        return changes

    def _leave(self, membership: Membership, node: NodeId) -> list[Change]:
        channel, user_id = membership
        users = self._channels[channel]
        before = users.clients_of(user_id) if self._is_watched(channel) else None
        gone = users.remove(user_id, node)
        changes: list[Change] = []
        if before is not None:
            changes += _client_changes(membership, before, users.clients_of(user_id))
        if gone is not None:
            self._forget_channel(user_id, channel)
            if not users:
                del self._channels[channel]
            changes.append(PresenceChange(channel, user_id, gone.name, False, len(users)))
        return changes

    def _forget_channel(self, user_id: UserId, channel: ChannelName) -> None:
        channels = self._channels_of[user_id]
        if len(channels) == 1:
            del self._channels_of[user_id]
        else:
            self._channels_of[user_id] = tuple(each for each in channels if each != channel)


def _client_changes(membership: Membership, before: Clients, after: Clients) -> Iterator[Change]:
    channel, user_id = membership
    for connection, info in before.items():
        if connection not in after:
            yield ClientChange(channel, connection, user_id, info, False)
    for connection, info in after.items():
        if connection not in before:
            yield ClientChange(channel, connection, user_id, info, True)


def _differences(
    before: dict[ChannelName, ChannelUsers],
    after: dict[ChannelName, ChannelUsers],
    is_watched: Callable[[ChannelName], bool],
) -> Iterator[Change]:
    """The changes that lead from one to the other, with the counts in between."""
    nobody = ChannelUsers(ChannelName(""))
    for channel in [*before, *(each for each in after if each not in before)]:
        old, new = before.get(channel, nobody), after.get(channel, nobody)
        count, tells_of_clients = len(old), is_watched(channel)
        for user_id, name in old.first():
            if tells_of_clients:
                clients = old.clients_of(user_id), new.clients_of(user_id)
                yield from _client_changes((channel, user_id), *clients)
            if user_id not in new:
                count -= 1
                yield PresenceChange(channel, user_id, name, False, count)
        for user_id, name in new.first():
            if user_id in old:
                continue
            count += 1
            yield PresenceChange(channel, user_id, name, True, count)
            if tells_of_clients:
                yield from _client_changes((channel, user_id), {}, new.clients_of(user_id))
