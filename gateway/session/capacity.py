"""How many connections there may be: in this process, from one address, of one user."""

from collections.abc import Callable, Hashable

import structlog

from gateway.errors import EndReason
from shared.contracts.ids import UserId
from shared.web.addresses import network_of

log = structlog.get_logger(__name__)

_SHARE_OF_SOCKETS = 0.9
"""The others are for HTTP, and those that are being sent away."""


class Occupancy:
    """The connections of this process from their handshake on, so before they show a token too.

    The connections themselves are the count: none is counted twice, or out twice.
    """

    def __init__(self, *, max_connections: int, max_per_address: int) -> None:
        """0 is no limit."""
        self._max_connections = max_connections
        self._max_per_address = max_per_address
        self._here: dict[Hashable, str | None] = {}
        self._from_address: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._here)

    def enter(self, connection: Hashable, address: str | None) -> EndReason | None:
        """Count the connection, or say why there is no room for it."""
        if connection in self._here:
            return None
        if 0 < self._max_connections <= len(self._here):
            return EndReason.FULL
        name = None
        if self._max_per_address and address:
            name = network_of(address) or address
        if name is not None:
            count = self._from_address.get(name, 0)
            if count >= self._max_per_address:
                return EndReason.TOO_MANY_OF_ADDRESS
            self._from_address[name] = count + 1
        self._here[connection] = name
        return None

    def leave(self, connection: Hashable) -> None:
        """The connection is gone; harmless for one that isn't counted."""
        name = self._here.pop(connection, None)
        if name is None:
            return
        count = self._from_address[name] - 1
        if count:
            self._from_address[name] = count
        else:  # else one entry would stay for every address ever seen
            del self._from_address[name]


class UserLimit:
    """How many connections one user may have, on all gateways."""

    def __init__(
        self,
        max_connections: int,
        *,
        here: Callable[[UserId], int],
        elsewhere: Callable[[UserId], int],
    ) -> None:
        """
        Args:
            max_connections: 0 is no limit.
            here: The connections of a user on this gateway.
            elsewhere: On the others, as far as they have told.
        """
        self._max_connections = max_connections
        self._here = here
        self._elsewhere = elsewhere

    def is_reached(self, user_id: UserId) -> bool:
        most = self._max_connections
        if not most:
            return False
        here = self._here(user_id)
        return here >= most or here + self._elsewhere(user_id) >= most


def connection_limit(wanted: int, *, sockets: int | None) -> int:
    """How many connections to let in.

    Args:
        wanted: As the operator says; 0 for as many as there can be.
        sockets: That the process may accept, see `shared.web.peers`; None for any number.

    Returns:
        0 for any number.
    """
    if sockets is None:
        return wanted
    possible = int(sockets * _SHARE_OF_SOCKETS)
    if wanted > possible:
        log.warning("too_few_open_files", sockets=sockets, connections=possible, wanted=wanted)
    return min(wanted or possible, possible)
