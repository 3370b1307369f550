"""What the writer knows of one entry. Pure."""

from gateway.presence.facts import Entry
from gateway.presence.subjects import Place
from shared.ids import ConnectionId, NodeId

_FEW = 8
_NEVER = -1


class Slot:
    """One entry: what is wanted of it, and what was done about that."""

    __slots__ = ("acknowledged", "connections", "due", "left_at", "name", "node", "place",
                 "seen", "since", "version", "written", "written_at")  # fmt: skip

    def __init__(self, place: Place) -> None:
        self.place = place
        self.connections: tuple[ConnectionId, ...] | dict[ConnectionId, None] = ()
        """In the order in which they came; a dict past a few."""
        self.name = ""
        self.since = 0.0
        self.version = 0
        """Counts the changes of what is wanted."""
        self.written = _NEVER
        """The version that the stream has."""
        self.node: NodeId | None = None
        """Under which the stream may hold an entry; None if there is none."""
        self.acknowledged = 0
        """The sequence of the last write that was answered."""
        self.seen = 0
        """The last sequence that the stream showed of it."""
        self.left_at = 0.0
        self.written_at = 0.0
        self.due: float | None = None
        """When to look at it again, unless something happens before."""

    @property
    def is_written(self) -> bool:
        return self.written == self.version

    def add(self, connection: ConnectionId) -> None:
        if isinstance(self.connections, tuple):
            if len(self.connections) < _FEW:
                self.connections = (*self.connections, connection)
                return
            self.connections = dict.fromkeys(self.connections)
        self.connections[connection] = None

    def remove(self, connection: ConnectionId) -> None:
        if isinstance(self.connections, tuple):
            self.connections = tuple(one for one in self.connections if one != connection)
        else:
            del self.connections[connection]

    def entry(self, max_connections: int) -> Entry:
        """What is wanted; lists at most so many of the connections."""
        listed = tuple(self.connections)  # which copies no tuple
        return Entry(self.name, self.since, listed[:max_connections])

    def doubt(self, node: NodeId | None) -> None:
        """The stream has something else than what was written last, under this node's name."""
        self.node, self.written = node, _NEVER

    def forget_written(self) -> None:
        """It was under another name, or in another life of the stream."""
        self.doubt(None)
        self.acknowledged = self.seen = 0
