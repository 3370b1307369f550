"""Who comes and goes, told to those who are in the room; and who is there, to those who come.

Announcing each of N arrivals to all the others costs N². So past a size a room is a crowd:
its changes only mark it, and one tick for all rooms tells the counts.
"""

import asyncio
from collections.abc import Callable, Collection

from pydantic import BaseModel

from gateway.channels.registry import ConnectionManager, Member, Subscription, for_each
from gateway.presence.presence import Presence
from gateway.presence.table import PresenceChange
from gateway.presence.users import HEAD
from gateway.protocols.chat.codec import PUBLICATION_FORMATS, encode, encode_people
from gateway.protocols.chat.frames import Person, UserCount, UserJoined, UserLeft, Users
from gateway.session.session import Session
from hubbub_client.contracts.ids import ChannelName, UserId

_MAX_ROOMS = 1000


class Announcements:
    """What the tabs of one gateway are told of the users of their rooms."""

    def __init__(
        self,
        manager: ConnectionManager,
        presence: Presence,
        *,
        crowd_size: int,
        crowd_resume: int,
        crowd_seconds: float,
    ) -> None:
        """
        Args:
            crowd_size: With more users a room is a crowd; no more are told by name.
            crowd_resume: With fewer it is none any more.
            crowd_seconds: Between two counts of a crowd.
        """
        self._manager = manager
        self._presence = presence
        self._crowds = Crowds(presence.count, size=crowd_size, resume=crowd_resume)
        self._crowd_size = crowd_size
        self._crowd_seconds = crowd_seconds
        self._encoded: dict[ChannelName, tuple[int, bytes]] = {}

    def announce(self, change: PresenceChange) -> None:
        """Tell the others of a user who came or left; in a crowd that is for the tick."""
        if not self._crowds.note(change):
            return
        watching = self._watching(change.channel, unless=change.user_id)
        if watching:  # hardly ever: of most rooms nobody is here, and many have one user
            kind = UserJoined if change.joined else UserLeft
            _send(watching, kind(user_id=change.user_id, name=change.name, count=change.count))

    async def run(self) -> None:
        """Tell the crowds how many they are, until cancelled."""
        while True:
            await asyncio.sleep(self._crowd_seconds)
            for channel in self._crowds.tick():
                watching = self._watching(channel)
                if not watching:
                    continue
                if self._crowds.is_crowd(channel):
                    _send(watching, UserCount(count=self._presence.count(channel)))
                else:
                    _send(watching, self._users(channel))

    def tell_who_is_here(self, session: Session, rooms: Collection[Subscription]) -> None:
        """Tell a session that did not hear who came and went."""
        for room in rooms:
            session.connection.send(encode(self._users(room.channel)))

    def encoded_users(self, channel: ChannelName) -> bytes:
        """The first users of a room, encoded once for all who arrive while they are the same."""
        if self._crowd_size > HEAD:
            return self._encode_users(channel)
        version = self._presence.head_version(channel)
        known = self._encoded.pop(channel, None)
        if known is None or known[0] != version:
            known = version, self._encode_users(channel)
            if len(self._encoded) >= _MAX_ROOMS:
                del self._encoded[next(iter(self._encoded))]
        self._encoded[channel] = known  # the last to be thrown out
        return known[1]

    def encoded_users_with(self, channel: ChannelName, user_id: UserId, name: str) -> bytes:
        """The same, and one more, whose own entry is late."""
        users = [*self._presence.users(channel, self._crowd_size), (user_id, name)]
        return encode_people(users[: self._crowd_size])

    def _encode_users(self, channel: ChannelName) -> bytes:
        return encode_people(self._presence.users(channel, self._crowd_size))

    def _users(self, channel: ChannelName) -> Users:
        people = [
            Person(user_id=user_id, name=name)
            for user_id, name in self._presence.users(channel, self._crowd_size)
        ]
        return Users(users=people, count=self._presence.count(channel))

    def _watching(self, channel: ChannelName, *, unless: UserId | None = None) -> list[Member]:
        return [
            subscription.member
            for format_ in PUBLICATION_FORMATS
            for subscription in self._manager.listeners(channel, format_)
            if subscription.watches and subscription.member.user_id != unless
        ]


def _send(members: list[Member], message: BaseModel) -> None:
    frame = encode(message)
    for_each(members, lambda member: member.send(frame))


class Crowds:
    """Which channels are crowds, and what their listeners have not been told yet."""

    def __init__(self, count: Callable[[ChannelName], int], *, size: int, resume: int) -> None:
        """
        Args:
            count: How many users a channel has.
            size: With more users a channel becomes a crowd.
            resume: With fewer it is none any more. Below ``size``, so that it doesn't flap.
        """
        if not 0 < resume <= size:
            raise ValueError("a crowd ends below its size, and above nobody")
        self._count = count
        self._size = size
        self._resume = resume
        self._crowds: set[ChannelName] = set()
        self._changed: dict[ChannelName, None] = {}

    def is_crowd(self, channel: ChannelName) -> bool:
        return channel in self._crowds

    def note(self, change: PresenceChange) -> bool:
        """Whether to push this change by itself; if not, `tick` will tell of it."""
        if change.channel not in self._crowds:
            if change.count <= self._size:
                return True
            self._crowds.add(change.channel)
        self._changed[change.channel] = None
        return False

    def tick(self) -> list[ChannelName]:
        """The channels that have changed. To be called once per interval: so rarely they are told.

        One that `is_crowd` no more has to be told anew by name.
        """
        changed, self._changed = list(self._changed), {}
        for channel in changed:
            if self._count(channel) < self._resume:
                self._crowds.discard(channel)
        return changed
