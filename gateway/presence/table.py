"""Who is in which channel, according to the PRES stream. Never awaits.

The table depends only on the last message of each subject of the stream. So all gateways have the
same table, whether they built it message by message or from a snapshot. An entry counts until its
node's lease has ended.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from operator import attrgetter

from gateway.presence.records import Entry, EntryRecord, LeaseRecord, LeaseState, Membership, Record
from shared.contracts.ids import ChannelName, NodeId, UserId

HEAD = 200
"""The first users of a channel: those that `welcome` lists, so they are read often."""

_HEAD_VERSIONS = count(1)


class User:
    """A user of a channel, with all entries that count. Most have one, which needs no dict."""

    __slots__ = ("entry", "name", "node", "others", "since", "user_id")

    def __init__(self, user_id: UserId, node: NodeId, entry: Entry) -> None:
        self.user_id = user_id
        self.node = node
        self.entry = entry
        """The entry of ``node``."""
        self.others: dict[NodeId, Entry] | None = None
        """The entries of other nodes."""
        self.name = entry.name
        """From the latest entry."""
        self.since = entry.since
        """From the earliest entry."""

    @property
    def entries(self) -> dict[NodeId, Entry]:
        return {self.node: self.entry, **(self.others or {})}

    def put(self, node: NodeId, entry: Entry) -> None:
        if node == self.node:
            self.entry = entry
        elif self.others is None:
            self.others = {node: entry}
        else:
            self.others[node] = entry

    def remove(self, node: NodeId) -> bool:
        """Remove the node's entry; False if it is the only one, which stays."""
        if self.others is None:
            return False
        if node == self.node:
            self.node, self.entry = self.others.popitem()
        else:
            del self.others[node]
        self.others = self.others or None
        return True

    def since_and_name(self) -> tuple[float, str]:
        """The ``since`` of the earliest entry and the name of the latest."""
        if self.others is None:
            return self.entry.since, self.entry.name
        by_age = sorted((entry.since, node, entry.name) for node, entry in self.entries.items())
        return by_age[0][0], by_age[-1][2]


_AGE = attrgetter("since", "user_id")


class ChannelUsers:
    """The users of a channel, in the order of arrival."""

    __slots__ = ("_by_id", "_order", "head_version", "only_this")

    def __init__(self, channel: ChannelName) -> None:
        self.only_this = (channel,)
        """The channels of a user who is in no other; one shared tuple saves memory."""
        self._by_id: dict[UserId, User] = {}
        self._order: list[User] = []
        self.head_version = next(_HEAD_VERSIONS)
        """Changes whenever the first `HEAD` users change; no value is used twice in a process."""

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, user_id: UserId) -> bool:
        return user_id in self._by_id

    def get(self, user_id: UserId) -> User | None:
        return self._by_id.get(user_id)

    def first(self, limit: int | None = None) -> list[tuple[UserId, str]]:
        """The ids and names of the first users."""
        return [(user.user_id, user.name) for user in islice(self._order, limit)]

    def put(self, user_id: UserId, node: NodeId, entry: Entry) -> bool:
        """Add or replace the node's entry; return whether the user is new."""
        user = self._by_id.get(user_id)
        if user is None:
            user = self._by_id[user_id] = User(user_id, node, entry)
            self._insert_into_order(user)
            return True
        user.put(node, entry)
        self._reorder(user)
        return False

    def remove(self, user_id: UserId, node: NodeId) -> User | None:
        """Remove the node's entry; return the user if it was the last one."""
        user = self._by_id[user_id]
        if user.remove(node):
            self._reorder(user)
            return None
        self._remove_from_order(user)
        del self._by_id[user_id]
        return user

    def _reorder(self, user: User) -> None:
        """Move the user to where the entries put it now."""
        since, name = user.since_and_name()
        if (since, name) == (user.since, user.name):
            return
        self._remove_from_order(user)
        user.since, user.name = since, name
        self._insert_into_order(user)

    def _insert_into_order(self, user: User) -> None:
        order = self._order
        if not order or order[-1].since < user.since:  # the usual case, without a search
            at = len(order)
        else:
            at = bisect_left(order, _AGE(user), key=_AGE)
        order.insert(at, user)
        self._note_change(at)

    def _remove_from_order(self, user: User) -> None:
        at = bisect_left(self._order, _AGE(user), key=_AGE)
        del self._order[at]
        self._note_change(at)

    def _note_change(self, at: int) -> None:
        if at < HEAD:
            self.head_version = next(_HEAD_VERSIONS)


@dataclass(slots=True)  # a frozen one takes three times as long to make
class PresenceChange:
    """A user joined a channel with a first connection anywhere, or left it with the last."""

    channel: ChannelName
    user_id: UserId
    name: str
    joined: bool
    count: int
    """Users of the channel after this change."""


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

    def __init__(self) -> None:
        self._nodes: dict[NodeId, _Node] = {}
        self._channels: dict[ChannelName, ChannelUsers] = {}
        self._channels_of: dict[UserId, tuple[ChannelName, ...]] = {}
        self._read_up_to = 0

    def count(self, channel: ChannelName) -> int:
        found = self._channels.get(channel)
        return len(found) if found is not None else 0

    def has(self, channel: ChannelName, user_id: UserId) -> bool:
        found = self._channels.get(channel)
        return found is not None and user_id in found

    def users(self, channel: ChannelName, limit: int | None = None) -> list[tuple[UserId, str]]:
        """The first users of the channel in the order of arrival, and their names."""
        found = self._channels.get(channel)
        return found.first(limit) if found is not None else []

    def head_version(self, channel: ChannelName) -> int:
        """The same number for as long as the first `HEAD` users are the same."""
        found = self._channels.get(channel)
        return found.head_version if found is not None else 0

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

    def apply(self, record: Record) -> list[PresenceChange]:
        """Apply the next message of the stream; return who joined or left by it."""
        if record.sequence <= self._read_up_to:  # the snapshot had it already
            return []
        if isinstance(record, LeaseRecord):
            return self._apply_lease(record)
        return self._apply_entry(record)

    def become(self, snapshot: "PresenceTable", up_to: int) -> list[PresenceChange]:
        """Replace the content by a snapshot of the stream; return who joined or left by it.

        A purge, and a marker that expires, send no message. Only a snapshot shows them.

        Args:
            up_to: The last sequence of the snapshot; records up to it are ignored from now on.
        """
        changes = list(_differences(self._channels, snapshot._channels))
        self._nodes = snapshot._nodes
        self._channels = snapshot._channels
        self._channels_of = snapshot._channels_of
        self._read_up_to = up_to
        return changes

    def _apply_entry(self, record: EntryRecord) -> list[PresenceChange]:
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

    def _apply_lease(self, record: LeaseRecord) -> list[PresenceChange]:
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

    def _join(self, membership: Membership, node: NodeId, entry: Entry) -> list[PresenceChange]:
        channel, user_id = membership
        users = self._channels.get(channel)
        if users is None:
            users = self._channels[channel] = ChannelUsers(channel)
        if not users.put(user_id, node, entry):
            return []
        others = self._channels_of.get(user_id)
        self._channels_of[user_id] = users.only_this if others is None else (*others, channel)
        return [PresenceChange(channel, user_id, entry.name, True, len(users))]

    def _leave(self, membership: Membership, node: NodeId) -> list[PresenceChange]:
        channel, user_id = membership
        users = self._channels[channel]
        gone = users.remove(user_id, node)
        if gone is None:
            return []
        self._forget_channel(user_id, channel)
        if not users:
            del self._channels[channel]
        return [PresenceChange(channel, user_id, gone.name, False, len(users))]

    def _forget_channel(self, user_id: UserId, channel: ChannelName) -> None:
        channels = self._channels_of[user_id]
        if len(channels) == 1:
            del self._channels_of[user_id]
        else:
            self._channels_of[user_id] = tuple(each for each in channels if each != channel)


def _differences(
    before: dict[ChannelName, ChannelUsers], after: dict[ChannelName, ChannelUsers]
) -> Iterator[PresenceChange]:
    """The changes that lead from one to the other, with the counts in between."""
    nobody = ChannelUsers(ChannelName(""))
    for channel in [*before, *(each for each in after if each not in before)]:
        old, new = before.get(channel, nobody), after.get(channel, nobody)
        count = len(old)
        for user_id, name in old.first():
            if user_id not in new:
                count -= 1
                yield PresenceChange(channel, user_id, name, False, count)
        for user_id, name in new.first():
            if user_id not in old:
                count += 1
                yield PresenceChange(channel, user_id, name, True, count)
