"""Who is in a room, encoded once for all who arrive while that doesn't change."""

from gateway.presence.presence import Presence
from gateway.presence.table import HEAD
from gateway.protocols.chat.codec import encode_people
from shared.contracts.ids import ChannelName

_MAX_ROOMS = 1000


class Roster:
    """The first users of each room, as `welcome` gives them."""

    def __init__(self, presence: Presence, *, size: int) -> None:
        """
        Args:
            size: How many users, at most.
        """
        self._presence = presence
        self._size = size
        self._encoded: dict[ChannelName, tuple[int, bytes]] = {}

    def encoded(self, channel: ChannelName) -> bytes:
        if self._size > HEAD:
            return self._encode(channel)
        version = self._presence.head_version(channel)
        known = self._encoded.pop(channel, None)
        if known is None or known[0] != version:
            known = version, self._encode(channel)
            if len(self._encoded) >= _MAX_ROOMS:
                del self._encoded[next(iter(self._encoded))]
        self._encoded[channel] = known  # the last to be thrown out
        return known[1]

    def _encode(self, channel: ChannelName) -> bytes:
        return encode_people(self._presence.users(channel, self._size))
