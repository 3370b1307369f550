"""What happens in the cluster, told to those who listen here: one frame for all of them."""

import asyncio
from collections.abc import Callable
from functools import partial

from pydantic import BaseModel

from gateway.channels.namespaces import PERSONAL
from gateway.channels.registry import ConnectionManager, Member, for_each
from gateway.metrics import GatewayMetrics
from gateway.presence.crowds import Crowds, NamesPush
from gateway.presence.table import PresenceChange
from gateway.protocols.chat.codec import PROTOCOL, encode, encode_message, encode_publication
from gateway.protocols.chat.frames import Person, UserCount, UserJoined, UserLeft, Users
from gateway.streams.catch_up import Reason
from gateway.transport.frames import Frame
from shared.contracts.ids import ChannelName, UserId
from shared.contracts.publications import BadPublication, Publication
from shared.jetstream.position import RETENTION

Names = Callable[[ChannelName, int], list[tuple[UserId, str]]]


class Fanout:
    """Gives publications, comings and goings to the connections of this gateway."""

    def __init__(
        self,
        manager: ConnectionManager,
        metrics: GatewayMetrics,
        *,
        names: Names,
        count: Callable[[ChannelName], int],
        crowd_size: int,
        crowd_resume: int,
        crowd_seconds: float,
    ) -> None:
        """
        Args:
            names: The first users of a channel, at most so many.
            count: How many users it has.
        """
        self._manager = manager
        self._metrics = metrics
        self._names = names
        self._crowds = Crowds(count, size=crowd_size, resume=crowd_resume)
        self._crowd_size = crowd_size
        self._crowd_seconds = crowd_seconds

    def publish(self, channel: ChannelName, offset: int, payload: bytes) -> None:
        """Tell the channel's listeners of a publication; decoded only if there are any."""
        encode_for = partial(_frame, channel, offset, payload)
        try:
            reached = self._manager.broadcast(channel, encode_for, offset=offset)
        except BadPublication as bad:
            self._metrics.unreadable(offset, str(bad))
        else:
            self._metrics.deliveries.inc(reached)

    def start_over(self, reason: str) -> None:
        """The feed's position has jumped: everybody here has a hole."""
        told = Reason.TOO_OLD if reason == RETENTION else Reason.EPOCH
        for_each(self._manager.connections(), lambda member: member.start_over(told))

    def change_presence(self, change: PresenceChange) -> None:
        """Tell the others of a user who came or left; in a crowd that is for the tick."""
        if not self._crowds.note(change):
            return
        watchers = self._watchers(change.channel, unless=change.user_id)
        if watchers:  # hardly ever: of most rooms nobody is here, and many have one user
            kind = UserJoined if change.joined else UserLeft
            _send(watchers, kind(user_id=change.user_id, name=change.name, count=change.count))

    async def run(self) -> None:
        """Tell the crowds how many they are, until cancelled."""
        while True:
            await asyncio.sleep(self._crowd_seconds)
            for push in self._crowds.tick():
                watchers = self._watchers(push.channel)
                if not watchers:
                    continue
                if isinstance(push, NamesPush):
                    names = self._names(push.channel, self._crowd_size)
                    people = [Person(user_id=user_id, name=name) for user_id, name in names]
                    _send(watchers, Users(users=people, count=push.count))
                else:
                    _send(watchers, UserCount(count=push.count))

    def _watchers(self, channel: ChannelName, *, unless: UserId | None = None) -> list[Member]:
        return [
            subscription.member
            for subscription in self._manager.listeners(channel)
            if subscription.watches and subscription.member.user_id != unless
        ]


def _send(watchers: list[Member], message: BaseModel) -> None:
    frame = encode(message)
    for_each(watchers, lambda member: member.send(frame))


def _frame(channel: ChannelName, offset: int, payload: bytes, protocol: str) -> Frame:
    assert protocol == PROTOCOL
    personal = channel.startswith(PERSONAL)
    if not personal and (frame := encode_message(offset, payload)) is not None:
        return frame
    return encode_publication(channel, offset, Publication.decode(payload), personal=personal)
