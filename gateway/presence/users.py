"""The users of one channel, and their order. Pure."""

from bisect import bisect_left
from itertools import count, islice
from operator import attrgetter

from gateway.presence.facts import Entry
from shared.ids import ChannelName, NodeId, UserId

HEAD = 200
"""So many users of a channel are asked for again and again."""

_HEAD_CHANGES = count(1)


class User:
    """A user with at least one entry that counts; hardly ever more, so that one has no dict."""

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

    def told(self) -> tuple[float, str]:
        """Since when and by which name the user is there, as the entries say now."""
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
        self._settle(user)
        return False

    def remove(self, user_id: UserId, node: NodeId) -> User | None:
        """The node doesn't say so any more; the user, if nobody does."""
        user = self._by_id[user_id]
        if user.remove(node):
            self._settle(user)
            return None
        self._take_out(user)
        del self._by_id[user_id]
        return user

    def _settle(self, user: User) -> None:
        """Move the user to where the entries say."""
        since, name = user.told()
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
