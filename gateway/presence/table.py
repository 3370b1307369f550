"""Who is where, as the PRES stream says. Never awaits.

The table is a function of the stream's content, the last message of each subject, so all
gateways agree however they came to know it: message by message, or by a snapshot. An
entry counts while its node's lease is live or expired and not ended.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from operator import attrgetter

from gateway.presence.records import Entry, EntryRecord, LeaseRecord, LeaseState, Place, Record
from shared.contracts.ids import ChannelName, NodeId, UserId

HEAD = 200
"""The users of a channel that a welcome lists, and so are read often."""

_HEAD_CHANGES = count(1)


class User:
    """A user with at least one entry that counts. More than one is rare, so one needs no dict."""

    __slots__ = ("entry", "name", "node", "others", "since", "user_id")

    def __init__(self, user_id: UserId, node: NodeId, entry: Entry) -> None:
        self.user_id = user_id
        self.node = node
        self.entry = entry
        """That node's."""
        self.others: dict[NodeId, Entry] | None = None
        """Further nodes'."""
        self.name = entry.name
        """As the latest entry has it."""
        self.since = entry.since
        """Of the earliest entry."""

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
        """Take out the node's entry; False if it is the last one, which stays."""
        if self.others is None:
            return False
        if node == self.node:
            self.node, self.entry = self.others.popitem()
        else:
            del self.others[node]
        self.others = self.others or None
        return True

    def since_and_name(self) -> tuple[float, str]:
        """Of the earliest and of the latest entry."""
        if self.others is None:
            return self.entry.since, self.entry.name
        by_age = sorted((entry.since, node, entry.name) for node, entry in self.entries.items())
        return by_age[0][0], by_age[-1][2]


_AGE = attrgetter("since", "user_id")


class ChannelUsers:
    """Everybody in a channel, in the order of arrival."""

    __slots__ = ("_by_id", "_order", "head_changes", "nowhere_else")

    def __init__(self, channel: ChannelName) -> None:
        self.nowhere_else = (channel,)
        """The channels of whoever is in this one only; one text and one tuple for all of them."""
        self._by_id: dict[UserId, User] = {}
        self._order: list[User] = []
        self.head_changes = next(_HEAD_CHANGES)
        """Another number for any other first `HEAD` users; never used twice."""

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, user_id: UserId) -> bool:
        return user_id in self._by_id

    def get(self, user_id: UserId) -> User | None:
        return self._by_id.get(user_id)

    def first(self, limit: int | None = None) -> list[tuple[UserId, str]]:
        """The ids and names of those who came first."""
        return [(user.user_id, user.name) for user in islice(self._order, limit)]

    def put(self, user_id: UserId, node: NodeId, entry: Entry) -> bool:
        """The node says that the user is here; whether nobody said so before."""
        user = self._by_id.get(user_id)
        if user is None:
            user = self._by_id[user_id] = User(user_id, node, entry)
            self._insert(user)
            return True
        user.put(node, entry)
        self._reorder(user)
        return False

    def remove(self, user_id: UserId, node: NodeId) -> User | None:
        """The node doesn't say so any more; the user, if nobody does."""
        user = self._by_id[user_id]
        if user.remove(node):
            self._reorder(user)
            return None
        self._take_out(user)
        del self._by_id[user_id]
        return user

    def _reorder(self, user: User) -> None:
        """Move the user to where the entries place him now."""
        since, name = user.since_and_name()
        if (since, name) == (user.since, user.name):
            return
        self._take_out(user)
        user.since, user.name = since, name
        self._insert(user)

    def _insert(self, user: User) -> None:
        order = self._order
        if not order or order[-1].since < user.since:  # as a rule the newest is the last
            at = len(order)
        else:
            at = bisect_left(order, _AGE(user), key=_AGE)
        order.insert(at, user)
        self._note_change(at)

    def _take_out(self, user: User) -> None:
        at = bisect_left(self._order, _AGE(user), key=_AGE)
        del self._order[at]
        self._note_change(at)

    def _note_change(self, at: int) -> None:
        if at < HEAD:
            self.head_changes = next(_HEAD_CHANGES)


@dataclass(slots=True)  # not frozen, which would make it cost three times as much
class PresenceChange:
    """A user came into a channel or left it, over all tabs, nodes and gateways."""

    channel: ChannelName
    user_id: UserId
    name: str
    joined: bool
    count: int
    """Users of the channel after this."""


class _Node:
    """What is known of one node."""

    __slots__ = ("entries", "name", "sequence", "state")

    def __init__(self, name: NodeId) -> None:
        self.name = name
        """One text for all its entries."""
        self.state = LeaseState.ENDED  # or not heard of yet
        self.sequence = 0
        """Of the lease's last message."""
        self.entries: dict[Place, Entry] = {}

    @property
    def counts(self) -> bool:
        return self.state is not LeaseState.ENDED


class PresenceTable:
    """Entries, leases, and the users that they amount to."""

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
        return found.head_changes if found is not None else 0

    def entries(self, channel: ChannelName, user_id: UserId) -> dict[NodeId, Entry]:
        """The user's entries that count."""
        found = self._channels.get(channel)
        user = found.get(user_id) if found is not None else None
        return user.entries if user is not None else {}

    def channels_of(self, user_id: UserId) -> tuple[ChannelName, ...]:
        """Where the user is."""
        return self._channels_of.get(user_id, ())

    def lease_state(self, node: NodeId) -> LeaseState:
        """`ENDED` also if it was never heard of."""
        found = self._nodes.get(node)
        return found.state if found else LeaseState.ENDED

    def expired_leases(self) -> dict[NodeId, int]:
        """Nodes that somebody has to end, and the sequence of what says that they expired."""
        return {
            name: node.sequence
            for name, node in self._nodes.items()
            if node.state is LeaseState.EXPIRED
        }

    def orphaned_nodes(self) -> list[NodeId]:
        """Nodes with entries and no lease."""
        return [name for name, node in self._nodes.items() if not node.counts]

    def forget(self, node: NodeId) -> None:
        """Its entries were removed from the stream, which leaves no trace there."""
        found = self._nodes.get(node)
        if found is not None and not found.counts:
            del self._nodes[node]

    def apply(self, record: Record) -> list[PresenceChange]:
        """Take in the next message of the stream; say who came or left by it."""
        if record.sequence <= self._read_up_to:  # the snapshot was ahead of the follower
            return []
        if isinstance(record, LeaseRecord):
            return self._apply_lease(record)
        return self._apply_entry(record)

    def become(self, snapshot: "PresenceTable", up_to: int) -> list[PresenceChange]:
        """Take over a table that was made from all that the stream holds; say what differs.

        What was removed without a trace, by a purge or as its marker expired, shows only here.

        Args:
            up_to: The last sequence that the snapshot tells of; nothing before it is news.
        """
        changes = list(_differences(self._channels, snapshot._channels))
        self._nodes = snapshot._nodes
        self._channels = snapshot._channels
        self._channels_of = snapshot._channels_of
        self._read_up_to = up_to
        return changes

    def _apply_entry(self, record: EntryRecord) -> list[PresenceChange]:
        place, name = record.key
        node = self._nodes.get(name)
        if record.entry is not None:
            if node is None:
                node = self._nodes[name] = _Node(name)
            node.entries[place] = record.entry
            return self._count_in(place, node.name, record.entry) if node.counts else []
        if node is None or node.entries.pop(place, None) is None:
            return []
        if node.counts:
            return self._count_out(place, name)
        if not node.entries:
            del self._nodes[name]
        return []

    def _apply_lease(self, record: LeaseRecord) -> list[PresenceChange]:
        name = record.key.node
        if record.state is LeaseState.ENDED:
            ended = self._nodes.pop(name, None)
            if ended is None or not ended.counts:
                return []
            return [change for place in ended.entries for change in self._count_out(place, name)]
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = _Node(name)
        counted = node.counts
        node.state, node.sequence = record.state, record.sequence
        if counted:
            return []
        return [
            change
            for place, entry in node.entries.items()
            for change in self._count_in(place, node.name, entry)
        ]

    def _count_in(self, place: Place, node: NodeId, entry: Entry) -> list[PresenceChange]:
        name, user_id = place
        users = self._channels.get(name)
        if users is None:
            users = self._channels[name] = ChannelUsers(name)
        if not users.put(user_id, node, entry):
            return []
        others = self._channels_of.get(user_id)
        self._channels_of[user_id] = users.nowhere_else if others is None else (*others, name)
        return [PresenceChange(name, user_id, entry.name, True, len(users))]

    def _count_out(self, place: Place, node: NodeId) -> list[PresenceChange]:
        name, user_id = place
        users = self._channels[name]
        gone = users.remove(user_id, node)
        if gone is None:
            return []
        self._forget_channel(user_id, name)
        if not users:
            del self._channels[name]
        return [PresenceChange(name, user_id, gone.name, False, len(users))]

    def _forget_channel(self, user_id: UserId, channel: ChannelName) -> None:
        channels = self._channels_of[user_id]
        if len(channels) == 1:
            del self._channels_of[user_id]
        else:
            self._channels_of[user_id] = tuple(each for each in channels if each != channel)


def _differences(
    before: dict[ChannelName, ChannelUsers], after: dict[ChannelName, ChannelUsers]
) -> Iterator[PresenceChange]:
    nobody = ChannelUsers(ChannelName(""))
    for name in [*before, *(channel for channel in after if channel not in before)]:
        old, new = before.get(name, nobody), after.get(name, nobody)
        count = len(old)
        for user_id, user_name in old.first():
            if user_id not in new:
                count -= 1
                yield PresenceChange(name, user_id, user_name, False, count)
        for user_id, user_name in new.first():
            if user_id not in old:
                count += 1
                yield PresenceChange(name, user_id, user_name, True, count)
