"""The registry of connections: who is here, and who listens to what, on this gateway."""

import sys
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Protocol, TypeVar

from gateway.engine.frame import Frame
from gateway.errors import Close
from shared.ids import ChannelName, SessionId, UserId
from shared.tokens import Claims

CATCHING_UP = sys.maxsize
"""The `live_from` of a subscription that gets nothing live yet."""

Encode = Callable[[str], Frame]
"""Makes the frame for one protocol; asked at most once for each, however many listen."""


class Member(Protocol):
    """What the registry knows of a session: whose it is, and where its frames go."""

    @property
    def user_id(self) -> UserId: ...

    @property
    def claims(self) -> Claims:
        """What its token says, now."""

    @property
    def protocol(self) -> str:
        """Which frames it understands."""

    def send(self, frame: Frame) -> None:
        """Never waits, never fails, never changes the registry."""

    def close(self, close: Close) -> None:
        """End it; it leaves the registry later, by itself."""

    def cut(self, close: Close) -> None:
        """End it at once: nothing that is queued for it is sent any more."""

    def start_over(self, reason: str) -> None:
        """There is a hole in what it was sent, which it has to be told."""


class Subscription:
    """One member in one channel: catching up, or live from an offset on."""

    __slots__ = ("channel", "live_from", "member", "watches")

    def __init__(self, member: Member, channel: ChannelName, live_from: int) -> None:
        self.member = member
        self.channel = channel
        self.live_from = live_from
        self.watches = False
        """Whether it hears who comes and goes."""


class ConnectionManager:
    """Who is here, and who listens to what. Nothing here awaits, so nothing here needs a lock."""

    def __init__(self) -> None:
        self._subscriptions: dict[Member, dict[ChannelName, Subscription]] = {}
        self._listeners: dict[ChannelName, dict[Member, Subscription]] = {}
        self._users: dict[UserId, set[Member]] = {}
        self._sessions: dict[SessionId, set[Member]] = {}
        self._session_of: dict[Member, SessionId] = {}

    def connect(self, member: Member) -> None:
        """Add a member, or take note that one that is here has another token of its user."""
        if member in self._subscriptions:
            self._leave_session(member)
        else:
            self._subscriptions[member] = {}
            self._users.setdefault(member.user_id, set()).add(member)
        session_id = member.claims.session_id
        if session_id is not None:
            self._session_of[member] = session_id
            self._sessions.setdefault(session_id, set()).add(member)

    def disconnect(self, member: Member) -> None:
        """Forget the member and its subscriptions; harmless if it is gone already."""
        for channel in list(self._subscriptions.get(member, ())):
            self.unsubscribe(member, channel)
        if self._subscriptions.pop(member, None) is not None:
            _discard(self._users, member.user_id, member)
            self._leave_session(member)

    def subscribe(
        self, member: Member, channel: ChannelName, live_from: int = CATCHING_UP
    ) -> Subscription:
        """Let a connected member listen; asked again, give the subscription that it has."""
        subscriptions = self._subscriptions[member]
        if channel not in subscriptions:
            subscription = Subscription(member, channel, live_from)
            subscriptions[channel] = subscription
            self._listeners.setdefault(channel, {})[member] = subscription
        return subscriptions[channel]

    def unsubscribe(self, member: Member, channel: ChannelName) -> None:
        """Let the member hear no more of the channel; harmless if it never did."""
        if self._subscriptions.get(member, {}).pop(channel, None) is not None:
            listeners = self._listeners[channel]
            del listeners[member]
            if not listeners:  # else one entry would stay for every room ever seen
                del self._listeners[channel]

    def send_to_user(self, user_id: UserId, encode: Encode) -> int:
        """Queue the frame on every connection of the user here; return on how many."""
        return _send(self._users.get(user_id, ()), encode)

    def broadcast(self, channel: ChannelName, encode: Encode, *, offset: int | None = None) -> int:
        """Queue the frame for the channel's listeners here; return for how many.

        Args:
            offset: Of a publication; those who are not live at it yet don't get it.
        """
        listeners = self._listeners.get(channel)
        if listeners is None:
            return 0
        if offset is None:
            return _send(listeners, encode)
        return _send(
            (member for member, listener in listeners.items() if offset >= listener.live_from),
            encode,
        )

    def listeners(self, channel: ChannelName) -> Collection[Subscription]:
        return self._listeners.get(channel, {}).values()

    def subscriptions_of(self, member: Member) -> Collection[Subscription]:
        return self._subscriptions.get(member, {}).values()

    def connections_of(self, user_id: UserId) -> Collection[Member]:
        return self._users.get(user_id, frozenset())

    def connections_of_session(self, session_id: SessionId) -> Collection[Member]:
        return self._sessions.get(session_id, frozenset())

    def connections(self) -> Collection[Member]:
        return self._subscriptions.keys()

    def channels(self) -> Collection[ChannelName]:
        """The channels that somebody here listens to."""
        return self._listeners.keys()

    def active_user_count(self) -> int:
        return len(self._users)

    def connection_count(self) -> int:
        return len(self._subscriptions)

    def _leave_session(self, member: Member) -> None:
        session_id = self._session_of.pop(member, None)
        if session_id is not None:
            _discard(self._sessions, session_id, member)


Key = TypeVar("Key", bound=Hashable)


def _discard(index: dict[Key, set[Member]], key: Key, member: Member) -> None:
    members = index[key]
    members.discard(member)
    if not members:
        del index[key]


def _send(members: Iterable[Member], encode: Encode) -> int:
    frames: dict[str, Frame] = {}
    count = 0
    for member in members:
        frame = frames.get(member.protocol)
        if frame is None:
            frame = frames[member.protocol] = encode(member.protocol)
        member.send(frame)
        count += 1
    return count
