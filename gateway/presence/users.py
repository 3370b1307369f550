"""The users of one channel, in the order in which they came."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import count, islice
from operator import attrgetter
from typing import NamedTuple

from gateway.presence.records import ClientInfo, Entry, NodeId
from hubbub_client.contracts.ids import ChannelName, ConnectionId, UserId

HEAD = 200
"""How many of the first users `head_version` stands for; `welcome` lists as many by default."""

_HEAD_VERSIONS = count(1)


Clients = Mapping[ConnectionId, ClientInfo | None]


class User:
    """A user of a channel, with all entries that count. Most have one, which needs no dict."""

    __slots__ = ("entry", "node", "others", "user_id")

    def __init__(self, user_id: UserId, node: NodeId, entry: Entry) -> None:
        self.user_id = user_id
        self.node = node
        self.entry = entry
        """The entry of ``node``."""
        self.others: dict[NodeId, Entry] | None = None
        """The entries of other nodes."""

    @property
    def since(self) -> float:
        """From the earliest entry."""
        if self.others is None:
            return self.entry.since
        return min(entry.since for entry in self.entries.values())

    @property
    def name(self) -> str:
        """From the latest entry."""
        if self.others is None:
            return self.entry.name
        return max((entry.since, node, entry.name) for node, entry in self.entries.items())[2]

    @property
    def entries(self) -> dict[NodeId, Entry]:
        return {self.node: self.entry, **(self.others or {})}

    @property
    def clients(self) -> Clients:
        """The connections that the entries list. While a node takes a new name, two may list the
        same one."""
        if self.others is None:
            return dict(self.entry.clients())
        return {
            connection: info
            for entry in self.entries.values()
            for connection, info in entry.clients()
        }

    def may_have(self, connection: ConnectionId) -> bool:
        """Whether an entry lists the connection, or has more than it lists."""
        return any(
            entry.unlisted or connection in entry.connections for entry in self.entries.values()
        )

    @property
    def connection_count(self) -> int:
        """How many connections the entries list, and how many more they tell of."""
        if self.others is None:
            return self.entry.connection_count
        return len(self.clients) + sum(entry.unlisted for entry in self.entries.values())

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


_AGE = attrgetter("since", "user_id")


class _Shown(NamedTuple):
    """What a channel shows of a user, beside the id."""

    since: float
    name: str
    connections: int

    @classmethod
    def of(cls, user: User) -> "_Shown":
        return cls(user.since, user.name, user.connection_count)


class ChannelStats(NamedTuple):
    """How many are in a channel."""

    connections: int
    users: int
    """Those with a connection, and not those in their grace."""


class Client(NamedTuple):
    """A connection in a channel."""

    connection: ConnectionId
    user_id: UserId
    info: ClientInfo | None


class ChannelUsers:
    """The users of a channel, in the order of arrival."""

    __slots__ = ("_by_id", "_connected", "_connections", "_order", "head_version", "only_this")

    def __init__(self, channel: ChannelName) -> None:
        self.only_this = (channel,)
        """The channels of a user who is in no other; one shared tuple saves memory."""
        self._by_id: dict[UserId, User] = {}
        self._order: list[User] = []
        self._connections = 0
        self._connected = 0
        """Users with a connection."""
        self.head_version = next(_HEAD_VERSIONS)
        """Changes whenever the first `HEAD` users change; no value is used twice in a process."""

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, user_id: UserId) -> bool:
        return user_id in self._by_id

    def get(self, user_id: UserId) -> User | None:
        return self._by_id.get(user_id)

    def clients_of(self, user_id: UserId) -> Clients:
        """The user's connections, as far as they are listed."""
        user = self._by_id.get(user_id)
        return user.clients if user is not None else {}

    def first(self, limit: int | None = None) -> list[tuple[UserId, str]]:
        """The ids and names of the first users."""
        return [(user.user_id, user.name) for user in islice(self._order, limit)]

    @property
    def stats(self) -> ChannelStats:
        return ChannelStats(self._connections, self._connected)

    def clients(self) -> Iterator[Client]:
        """The connections that are listed, user by user in the order of their arrival."""
        for user in self._order:
            clients = user.entry.clients() if user.others is None else user.clients.items()
            for connection, info in clients:
                yield Client(connection, user.user_id, info)

    def put(self, user_id: UserId, node: NodeId, entry: Entry) -> bool:
        """Add or replace the node's entry; return whether the user is new."""
        user = self._by_id.get(user_id)
        if user is None:
            user = self._by_id[user_id] = User(user_id, node, entry)
            self._insert_into_order(user)
            self._recount(0, user.connection_count)
            return True
        at, before = self._index_of(user), _Shown.of(user)
        user.put(node, entry)
        self._update(user, at, before)
        return False

    def remove(self, user_id: UserId, node: NodeId) -> User | None:
        """Remove the node's entry; return the user if it was the last one."""
        user = self._by_id[user_id]
        at, before = self._index_of(user), _Shown.of(user)
        if user.remove(node):
            self._update(user, at, before)
            return None
        self._recount(before.connections, 0)
        self._remove_from_order(at)
        del self._by_id[user_id]
        return user

    def _recount(self, before: int, after: int) -> None:
        """One user has another number of connections."""
        self._connections += after - before
        self._connected += bool(after) - bool(before)

    def _update(self, user: User, at: int, before: _Shown) -> None:
        """Count the user's connections anew, and move the user to where the entries put it now.

        Args:
            at: Where the user is.
        """
        after = _Shown.of(user)
        self._recount(before.connections, after.connections)
        if (after.since, after.name) != (before.since, before.name):
            self._remove_from_order(at)
            self._insert_into_order(user)

    def _insert_into_order(self, user: User) -> None:
        order = self._order
        if not order or order[-1].since < user.since:  # the usual case, without a search
            at = len(order)
        else:
            at = bisect_left(order, _AGE(user), key=_AGE)
        order.insert(at, user)
        self._note_change(at)

    def _index_of(self, user: User) -> int:
        return bisect_left(self._order, _AGE(user), key=_AGE)

    def _remove_from_order(self, at: int) -> None:
        del self._order[at]
        self._note_change(at)

    def _note_change(self, at: int) -> None:
        if at < HEAD:
            self.head_version = next(_HEAD_VERSIONS)
