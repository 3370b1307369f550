"""The HTTP connections of a server: how many there may be, and which one makes room for another.

Every accepted socket is an open file of this process, though its peer may never send a byte. Some
files must stay free, to connect to the bus and the databases again after a loss. So all accepted
sockets are counted. When all are taken, a newcomer gets the place of the peer whose request has
been awaited for longest, or else of the one that leaves an answer unread for longest. An honest
peer is never long in either state.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from shared.web.open_files import open_files_limit


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerLimits:
    """How many connections a server keeps, and for how long."""

    keep_alive_seconds: float = 620
    """Between two requests. The proxy must close first, or it may send a request into a connection
    that is closing; GCP's load balancers, the slowest of the common ones, close after 600 s."""
    max_idle: int = 1000
    """Between two requests; with more of them, the longest idle ends."""
    reserved_files: int = 128
    """Open files that accepted sockets may not take."""

    @property
    def max_sockets(self) -> int | None:
        """As the process's limit of open files allows now; None for any number."""
        return self.max_sockets_of(open_files_limit())

    def max_sockets_of(self, open_files: int | None) -> int | None:
        """All but the reserved files, and at least half."""
        if open_files is None:
            return None
        return max(open_files - self.reserved_files, open_files // 2)


class Peer(ABC):
    """A connection that the server checks for lateness."""

    __slots__ = ()

    @abstractmethod
    def end_if_late(self, now: float) -> None:
        """Close the connection if its peer is late. ``now`` is the loop's time."""

    @abstractmethod
    def give_way(self) -> None:
        """Close at once, to make room for a newcomer."""


class Peers:
    """All connections of one server but WebSockets, in place of uvicorn's set of connections."""

    def __init__(self, *, max_sockets: int | None = None, max_idle: int | None = None) -> None:
        """None for any number."""
        self.elsewhere: Callable[[], int] = int
        """How many of the server's open sockets are kept by others: the WebSockets."""
        self._max_sockets = max_sockets
        self._max_idle = max_idle
        self._all: set[object] = set()
        # Peers whose request is awaited, the longest first.
        self._waited_for: dict[Peer, None] = {}
        self._idle: dict[Peer, None] = {}
        """Of them, those that were answered before and have sent nothing since."""
        # Peers that leave an answer unread, the longest first.
        self._unread: dict[Peer, None] = {}
        self._gave_way = 0
        self._turned_away = 0

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[object]:
        return iter(self._all)

    def add(self, connection: object) -> None:
        self._all.add(connection)

    def discard(self, connection: object) -> None:
        self._all.discard(connection)
        self._waited_for.pop(connection, None)  # type: ignore[call-overload]
        self._unread.pop(connection, None)  # type: ignore[call-overload]
        self._idle.pop(connection, None)  # type: ignore[call-overload]

    def enter(self, peer: Peer) -> bool:
        """Take a newcomer in; False if there is no room and nobody can give way."""
        self._all.discard(peer)  # uvicorn may have put it there already
        most = self._max_sockets
        if most is not None and len(self._all) + self.elsewhere() >= most:
            longest = next(iter(self._waited_for or self._unread), None)
            if longest is None:
                self._turned_away += 1
                return False
            self._gave_way += 1
            self._end(longest)
        self._all.add(peer)
        self._waited_for[peer] = None
        return True

    def tell_crowding(self) -> tuple[int, int]:
        """How many gave way, and how many newcomers were turned away, since the last call."""
        told = self._gave_way, self._turned_away
        self._gave_way = self._turned_away = 0
        return told

    def wait_for(self, peer: Peer, *, idle: bool) -> None:
        """Its next request is awaited, or has begun to come."""
        if peer not in self._all:
            return  # it is ending
        self.serve(peer)
        self._waited_for[peer] = None
        if idle:
            self._idle[peer] = None
            if self._max_idle is not None and len(self._idle) > self._max_idle:
                self._end(next(iter(self._idle)))

    def serve(self, peer: Peer) -> None:
        """Its request is complete: until the answer it gives way only if it `leaves_unread`."""
        self._waited_for.pop(peer, None)
        self._idle.pop(peer, None)

    def end_idle(self) -> None:
        """End those that were answered before and have sent nothing since."""
        for peer in tuple(self._idle):
            self._end(peer)

    def leaves_unread(self, peer: Peer) -> None:
        """It has not read all that was sent to it."""
        if peer in self._all:
            self._unread.setdefault(peer)

    def has_read(self, peer: Peer) -> None:
        self._unread.pop(peer, None)

    def _end(self, peer: Peer) -> None:
        self.discard(peer)
        peer.give_way()
