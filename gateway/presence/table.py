"""Who is where, as the PRES stream says. Never awaits.

The table is a function of the stream's content, the last message of each subject, so all
gateways agree however they came to know it: message by message, or by a snapshot. An
entry counts while its node's lease is live or expired and not ended.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

from gateway.presence.facts import Entry, EntryFact, Fact, LeaseFact, LeaseState
from shared.ids import ChannelName, NodeId, UserId

HEAD = 200
"""So many users of a channel are asked for again and again."""

_HEAD_CHANGES = count(1)

_Place = tuple[ChannelName, UserId]


@dataclass(frozen=True, slots=True)
class PresenceChange:
    """A user came into a channel or left it, over all tabs, nodes and gateways."""

    channel: ChannelName
    user_id: UserId
    name: str
    joined: bool
    count: int
    """Users of the channel after this."""


class _User:
    """A user with at least one entry that counts."""

    __slots__ = ("entries", "name", "since")

    def __init__(self) -> None:
        self.entries: dict[NodeId, Entry] = {}
        self.name = ""
        """As the latest entry has it."""
        self.since = 0.0
        """Of the earliest entry."""


class _Channel:
    """The users of one channel, and their order."""

    __slots__ = ("head_changes", "order", "users")

    def __init__(self) -> None:
        self.users: dict[UserId, _User] = {}
        self.order: list[tuple[float, UserId]] = []
        self.head_changes = next(_HEAD_CHANGES)
        """Another number for any other first `HEAD` users; never used twice."""

    def place(self, user_id: UserId, user: _User) -> None:
        """Put the user where its entries say, in the order of arrival."""
        self.displace(user_id, user)
        by_age = sorted((entry.since, node) for node, entry in user.entries.items())
        user.since, user.name = by_age[0][0], user.entries[by_age[-1][1]].name
        at = bisect_left(self.order, (user.since, user_id))
        self.order.insert(at, (user.since, user_id))
        self._note_change(at)

    def displace(self, user_id: UserId, user: _User) -> None:
        at = bisect_left(self.order, (user.since, user_id))
        if at < len(self.order) and self.order[at] == (user.since, user_id):
            del self.order[at]
            self._note_change(at)

    def _note_change(self, at: int) -> None:
        if at < HEAD:
            self.head_changes = next(_HEAD_CHANGES)


class _Node:
    """What is known of one node."""

    __slots__ = ("entries", "sequence", "state")

    def __init__(self) -> None:
        self.state = LeaseState.ENDED  # or not heard of yet
        self.sequence = 0
        """Of the lease's last message."""
        self.entries: dict[_Place, Entry] = {}

    @property
    def counts(self) -> bool:
        return self.state is not LeaseState.ENDED


class PresenceTable:
    """Entries, leases, and the users that they amount to."""

    def __init__(self) -> None:
        self._nodes: dict[NodeId, _Node] = {}
        self._channels: dict[ChannelName, _Channel] = {}
        self._channels_of: dict[UserId, tuple[ChannelName, ...]] = {}
        self._read_up_to = 0

    def count(self, channel: ChannelName) -> int:
        found = self._channels.get(channel)
        return len(found.users) if found else 0

    def has(self, channel: ChannelName, user_id: UserId) -> bool:
        found = self._channels.get(channel)
        return found is not None and user_id in found.users

    def users(self, channel: ChannelName, limit: int | None = None) -> list[tuple[UserId, str]]:
        """The first users of the channel in the order of arrival, and their names."""
        found = self._channels.get(channel)
        if found is None:
            return []
        return [(user_id, found.users[user_id].name) for _, user_id in islice(found.order, limit)]

    def head_version(self, channel: ChannelName) -> int:
        """The same number for as long as the first `HEAD` users are the same."""
        found = self._channels.get(channel)
        return found.head_changes if found else 0

    def entries(self, channel: ChannelName, user_id: UserId) -> dict[NodeId, Entry]:
        """The user's entries that count."""
        found = self._channels.get(channel)
        user = found.users.get(user_id) if found else None
        return dict(user.entries) if user else {}

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

    def apply(self, fact: Fact) -> list[PresenceChange]:
        """Take in the next message of the stream; say who came or left by it."""
        if fact.sequence <= self._read_up_to:  # the snapshot was ahead of the follower
            return []
        if isinstance(fact, LeaseFact):
            return self._apply_lease(fact)
        return self._apply_entry(fact)

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

    def _apply_entry(self, fact: EntryFact) -> list[PresenceChange]:
        channel, user_id, name = fact.key
        place = (channel, user_id)
        node = self._nodes.get(name)
        if fact.entry is not None:
            if node is None:
                node = self._nodes[name] = _Node()
            node.entries[place] = fact.entry
            return self._count_in(place, name, fact.entry) if node.counts else []
        if node is None or node.entries.pop(place, None) is None:
            return []
        if node.counts:
            return self._count_out(place, name)
        if not node.entries:
            del self._nodes[name]
        return []

    def _apply_lease(self, fact: LeaseFact) -> list[PresenceChange]:
        name = fact.key.node
        if fact.state is LeaseState.ENDED:
            ended = self._nodes.pop(name, None)
            if ended is None or not ended.counts:
                return []
            return [change for place in ended.entries for change in self._count_out(place, name)]
        node = self._nodes.setdefault(name, _Node())
        counted = node.counts
        node.state, node.sequence = fact.state, fact.sequence
        if counted:
            return []
        return [
            change
            for place, entry in node.entries.items()
            for change in self._count_in(place, name, entry)
        ]

    def _count_in(self, place: _Place, node: NodeId, entry: Entry) -> list[PresenceChange]:
        name, user_id = place
        channel = self._channels.setdefault(name, _Channel())
        user = channel.users.get(user_id)
        joined = user is None
        if user is None:
            user = channel.users[user_id] = _User()
            self._channels_of[user_id] = (*self.channels_of(user_id), name)
        user.entries[node] = entry
        channel.place(user_id, user)
        if not joined:
            return []
        return [PresenceChange(name, user_id, entry.name, True, len(channel.users))]

    def _count_out(self, place: _Place, node: NodeId) -> list[PresenceChange]:
        name, user_id = place
        channel = self._channels[name]
        user = channel.users[user_id]
        entry = user.entries.pop(node)
        if user.entries:
            channel.place(user_id, user)
            return []
        channel.displace(user_id, user)
        del channel.users[user_id]
        self._forget_channel(user_id, name)
        if not channel.users:
            del self._channels[name]
        return [PresenceChange(name, user_id, entry.name, False, len(channel.users))]

    def _forget_channel(self, user_id: UserId, channel: ChannelName) -> None:
        others = tuple(each for each in self._channels_of[user_id] if each != channel)
        if others:
            self._channels_of[user_id] = others
        else:
            del self._channels_of[user_id]


def _differences(
    before: dict[ChannelName, _Channel], after: dict[ChannelName, _Channel]
) -> Iterator[PresenceChange]:
    nobody = _Channel()
    for name in [*before, *(channel for channel in after if channel not in before)]:
        old, new = before.get(name, nobody), after.get(name, nobody)
        count = len(old.users)
        for _, user_id in old.order:
            if user_id not in new.users:
                count -= 1
                yield PresenceChange(name, user_id, old.users[user_id].name, False, count)
        for _, user_id in new.order:
            if user_id not in old.users:
                count += 1
                yield PresenceChange(name, user_id, new.users[user_id].name, True, count)
