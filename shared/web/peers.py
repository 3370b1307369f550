"""The HTTP connections of a server: how many there may be, and which of them go for others.

Whoever connects takes a file of this process, whether he ever says a word or not. Some files
have to stay free for others: for the bus and the databases, to which one may have to connect
anew. So all accepted sockets are counted; and who waits longest for a request of his own makes
room for a newcomer, or else who leaves an answer unread for longest. An honest peer's request is
here within a moment, and its answer there.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from shared.web.open_files import open_files_limit


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerLimits:
    """How many connections a server keeps, and for how long."""

    keep_alive_seconds: float = 620
    """Between two requests. GCP's load balancers keep theirs for 600 s, and are the slowest of the
    common proxies to give one up: who gives up first must be the proxy, or it sends a request
    into a connection that is ending."""
    max_idle: int = 1000
    """Between two requests; with more of them, the longest idle ends."""
    reserved_files: int = 128
    """Not for sockets that are accepted."""

    @property
    def max_sockets(self) -> int | None:
        """Of this process, as its limit of open files is now; None for any number."""
        return self.max_sockets_of(open_files_limit())

    def max_sockets_of(self, open_files: int | None) -> int | None:
        """As many as leave the reserved files free; half of very few."""
        if open_files is None:
            return None
        return max(open_files - self.reserved_files, open_files // 2)


class Peer(ABC):
    """A connection of the server, as long as it has to be looked at."""

    __slots__ = ()

    @abstractmethod
    def end_if_late(self, now: float) -> None:
        """Let go of a peer that kept us waiting. ``now`` is the loop's time."""

    @abstractmethod
    def give_way(self) -> None:
        """End at once, for the sake of another."""


class Peers:
    """All of one server that are no WebSockets; uvicorn takes it for its set of connections."""

    def __init__(self, *, max_sockets: int | None = None, max_idle: int | None = None) -> None:
        """None for any number."""
        self.elsewhere: Callable[[], int] = int
        """How many sockets of this server are not here any more, and open."""
        self._max_sockets = max_sockets
        self._max_idle = max_idle
        self._all: set[object] = set()
        # Whose request is not there, in the order in which they began to let us wait.
        self._waited_for: dict[Peer, None] = {}
        self._idle: dict[Peer, None] = {}
        """Of them, those who had an answer before, and sent nothing since."""
        # Who don't take what was sent, in the order in which that was noticed.
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
        """Take a newcomer in; False if there is no room, and nobody who could give way."""
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
        """How many gave way to newcomers, and how many newcomers found no room; counts anew."""
        told = self._gave_way, self._turned_away
        self._gave_way = self._turned_away = 0
        return told

    def wait_for(self, peer: Peer, *, idle: bool) -> None:
        """Its next request is due, or has begun to come."""
        if peer not in self._all:
            return  # it is ending
        self.serve(peer)
        self._waited_for[peer] = None
        if idle:
            self._idle[peer] = None
            if self._max_idle is not None and len(self._idle) > self._max_idle:
                self._end(next(iter(self._idle)))

    def serve(self, peer: Peer) -> None:
        """Its request is there; until it is answered it gives way to nobody.

        Unless it doesn't read: `leaves_unread`.
        """
        self._waited_for.pop(peer, None)
        self._idle.pop(peer, None)

    def leaves_unread(self, peer: Peer) -> None:
        """It has not taken all that was sent to it, whether or not there is more to come."""
        if peer in self._all:
            self._unread.setdefault(peer)

    def has_read(self, peer: Peer) -> None:
        self._unread.pop(peer, None)

    def _end(self, peer: Peer) -> None:
        self.discard(peer)
        peer.give_way()
