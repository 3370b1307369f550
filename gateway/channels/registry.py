"""The registry of connections: who is here, and who listens to what, on this gateway."""

import sys
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from functools import partial
from typing import Protocol, TypeVar

from gateway.errors import EndReason
from gateway.transport.coalescer import Sink, WriteCoalescer
from gateway.transport.frames import Frame
from shared.contracts.ids import ChannelName, SessionId, UserId
from shared.tokens.access_tokens import Claims

CATCHING_UP = sys.maxsize
"""The `live_from` of a subscription that gets nothing live yet."""

Members = tuple["Member", ...]
Listeners = tuple["Subscription", ...] | dict["Member", "Subscription"]
"""A dict past a few: most channels have one listener, and a dict of one takes 240 bytes."""

_FEW = 4

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

    @property
    def connection(self) -> Sink:
        """Where the publications for it go, as long as the socket takes them."""

    def send(self, frame: Frame) -> None:
        """Never waits, never fails, never changes the registry."""

    def offer(self, frame: Frame, offset: int) -> None:
        """Take a publication though the socket is stalled, or fall behind."""

    def close(self, reason: EndReason) -> None:
        """End it; it leaves the registry later, by itself."""

    def cut(self, reason: EndReason) -> None:
        """End it at once: nothing that is queued for it is sent any more."""

    def end_with_token(self) -> None:
        """From now on, when its token does by the clock as it is now."""

    def start_over(self, reason: str) -> None:
        """There is a hole in what it was sent, which it has to be told."""

    def abandon(self, error: Exception, event: str) -> None:
        """End it, since something that was done for it raised; that is logged and counted."""


class Subscription:
    """One member in one channel: catching up, or live from an offset on."""

    __slots__ = ("channel", "connection", "live_from", "member", "watches")

    def __init__(self, member: Member, channel: ChannelName, live_from: int) -> None:
        self.member = member
        self.connection = member.connection
        self.channel = channel
        self.live_from = live_from
        self.watches = False
        """Whether it hears who comes and goes."""


class ConnectionManager:
    """Who is here, and who listens to what. Nothing here awaits, so nothing here needs a lock."""

    def __init__(self, outgoing: WriteCoalescer) -> None:
        self._outgoing = outgoing
        # Most have one connection a user and few channels each: tuples are small.
        self._subscriptions: dict[Member, tuple[Subscription, ...]] = {}
        self._listeners: dict[str, dict[ChannelName, Listeners]] = {}  # by protocol
        self._users: dict[UserId, Members] = {}
        self._sessions: dict[SessionId, Members] = {}
        self._session_of: dict[Member, SessionId] = {}

    def connect(self, member: Member) -> None:
        """Add a member, or take note that one that is here has another token of its user."""
        if member in self._subscriptions:
            self._leave_session(member)
        else:
            self._subscriptions[member] = ()
            _add(self._users, member.user_id, member)
        session_id = member.claims.session_id
        if session_id is not None:
            self._session_of[member] = session_id
            _add(self._sessions, session_id, member)

    def disconnect(self, member: Member) -> None:
        """Forget the member and its subscriptions; harmless if it is gone already."""
        for subscription in self._subscriptions.get(member, ()):
            self.unsubscribe(member, subscription.channel)
        if self._subscriptions.pop(member, None) is not None:
            _discard(self._users, member.user_id, member)
            self._leave_session(member)

    def subscribe(
        self, member: Member, channel: ChannelName, live_from: int = CATCHING_UP
    ) -> Subscription:
        """Let a connected member listen; asked again, give the subscription that it has."""
        subscriptions = self._subscriptions[member]
        channels = self._listeners.setdefault(member.protocol, {})
        listeners = channels.get(channel, ())
        subscription = _find(listeners, member)
        if subscription is None:
            subscription = Subscription(member, channel, live_from)
            channels[channel] = _with(listeners, subscription)
            self._subscriptions[member] = (*subscriptions, subscription)
        return subscription

    def unsubscribe(self, member: Member, channel: ChannelName) -> None:
        """Let the member hear no more of the channel; harmless if it never did."""
        channels = self._listeners.get(member.protocol, {})
        listeners = channels.get(channel, ())
        subscription = _find(listeners, member)
        if subscription is None:
            return
        left = tuple(each for each in self._subscriptions[member] if each is not subscription)
        self._subscriptions[member] = left
        listeners = _without(listeners, subscription)
        if listeners:
            channels[channel] = listeners
        else:  # else one entry would stay for every room ever seen
            del channels[channel]

    def send_to_user(self, user_id: UserId, encode: Encode) -> int:
        """Queue the frame on every connection of the user here; return on how many."""
        return _send(self._users.get(user_id, ()), encode)

    def broadcast(self, channel: ChannelName, encode: Encode, *, offset: int) -> int:
        """Give a publication to the channel's listeners here that are live; return to how many.

        They are settled now, though what they are due leaves at the end of the turn. Nobody
        is given anything if ``encode`` fails, which is asked only if somebody listens.
        """
        count = 0
        for protocol, channels in self._listeners.items():
            listeners = channels.get(channel)
            if listeners:
                frame = encode(protocol)
                reached, stalled = self._outgoing.fan_out(frame, _each(listeners), offset)
                count += reached
                if stalled:
                    members = [listener.member for listener in stalled]
                    count += for_each(members, partial(_offer, frame, offset))
        return count

    def listeners(self, channel: ChannelName) -> Iterator[Subscription]:
        for channels in self._listeners.values():
            yield from _each(channels.get(channel, ()))

    def subscriptions_of(self, member: Member) -> Collection[Subscription]:
        return self._subscriptions.get(member, ())

    def connections_of(self, user_id: UserId) -> Collection[Member]:
        return self._users.get(user_id, ())

    def connections_of_session(self, session_id: SessionId) -> Collection[Member]:
        return self._sessions.get(session_id, ())

    def connections(self) -> Collection[Member]:
        return self._subscriptions.keys()

    def channels(self) -> Collection[ChannelName]:
        """The channels that somebody here listens to."""
        return set().union(*self._listeners.values())

    def active_user_count(self) -> int:
        return len(self._users)

    def connection_count(self) -> int:
        return len(self._subscriptions)

    def _leave_session(self, member: Member) -> None:
        session_id = self._session_of.pop(member, None)
        if session_id is not None:
            _discard(self._sessions, session_id, member)


def for_each(members: Iterable[Member], step: Callable[[Member], None]) -> int:
    """Take one step for each member; return for how many it was taken.

    This is how anything is done for many members. One for which it raises is ended, so that it
    comes back and gets what it missed; those behind it have their turn as if nothing had been.
    """
    count = 0
    for member in tuple(members):  # a step may change the registry
        try:
            step(member)
        except Exception as error:
            member.abandon(error, "delivery_failed")
        else:
            count += 1
    return count


def _offer(frame: Frame, offset: int, member: Member) -> None:
    member.offer(frame, offset)


def _each(listeners: Listeners) -> Collection[Subscription]:
    return listeners if isinstance(listeners, tuple) else listeners.values()


def _find(listeners: Listeners, member: Member) -> Subscription | None:
    if isinstance(listeners, dict):
        return listeners.get(member)
    for subscription in listeners:
        if subscription.member is member:
            return subscription
    return None


def _with(listeners: Listeners, subscription: Subscription) -> Listeners:
    if isinstance(listeners, tuple):
        listeners = (*listeners, subscription)
        if len(listeners) <= _FEW:
            return listeners
        return {each.member: each for each in listeners}
    listeners[subscription.member] = subscription
    return listeners


def _without(listeners: Listeners, subscription: Subscription) -> Listeners:
    if isinstance(listeners, tuple):
        return tuple(each for each in listeners if each is not subscription)
    del listeners[subscription.member]
    return listeners


Key = TypeVar("Key", bound=Hashable)


def _add(index: dict[Key, Members], key: Key, member: Member) -> None:
    index[key] = (*index.get(key, ()), member)


def _discard(index: dict[Key, Members], key: Key, member: Member) -> None:
    left = tuple(each for each in index[key] if each is not member)
    if left:
        index[key] = left
    else:
        del index[key]


def _send(members: Iterable[Member], encode: Encode) -> int:
    members = tuple(members)
    frames = {protocol: encode(protocol) for protocol in {each.protocol for each in members}}
    return for_each(members, lambda member: member.send(frames[member.protocol]))
