"""The registry of connections: who is here, who listens to what, and is given what is published."""

import sys
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from typing import TypeAlias, TypeVar

from gateway.channels.connection import Connection, Format, Frame
from gateway.metrics import GatewayMetrics
from gateway.transport.coalescer import WriteCoalescer
from hubbub_client.contracts.channels import owner_of, personal_channel
from hubbub_client.contracts.ids import ChannelName, UserId
from hubbub_client.contracts.publications import BadPublication, StoredPublication
from shared.tokens.claims import Claims, SessionId

CATCHING_UP = sys.maxsize
"""The `live_from` of a subscription that gets nothing live yet."""

_ANY_LIVE = CATCHING_UP - 1
"""In place of the offset of what has none: whoever is live gets it."""

Members: TypeAlias = "Member | tuple[Member, ...] | dict[Member, None]"
"""One alone, as nearly all are: a tuple of it takes 48 bytes. A dict past a few: all who are nobody
in particular are together."""
Group = tuple["Subscription", ...] | dict["Member", "Subscription"]
"""Those of one format in one channel; a dict past a few."""
Listeners: TypeAlias = "Subscription | tuple[Subscription, ...] | dict[Format, Group]"
"""Those of one channel. One stands alone and a few stand together, whatever their formats: most
channels have one listener, and a dict of one takes 240 bytes."""

_FEW = 4


class Member:
    """Somebody connected: whose the connection is, and what it is given.

    What becomes of a hole in that is for the class above, `gateway.session.session.Session`.
    """

    __slots__ = ("claims", "connection", "subscriptions", "user_id")

    def __init__(self, connection: Connection, claims: Claims) -> None:
        self.connection = connection
        self.claims = claims
        """What its token says, now."""
        self.user_id = claims.user_id
        """Of this and of every later token."""
        self.subscriptions: tuple[Subscription, ...] = ()
        """Kept by the registry. Most have few, and a tuple is small."""

    def send(self, frame: Frame) -> None:
        """Send what isn't stored, such as who came. Never waits, never changes the registry."""
        connection = self.connection
        if not (connection.is_stalled and self.is_live):
            connection.send(frame)
        elif not connection.offer(frame):
            self.fall_behind()

    def offer(self, frame: Frame, offset: int) -> None:
        """Send a publication though the socket is stalled, or fall behind."""
        if not self.connection.offer(frame):
            self.fall_behind(offset - 1)

    @property
    def is_live(self) -> bool:
        """Whether it gets anything live."""
        return any(each.live_from != CATCHING_UP for each in self.subscriptions)

    def fall_behind(self, delivered_offset: int | None = None) -> None:
        """It can take no more now; it gets nothing live until it has caught up.

        Args:
            delivered_offset: The last that it was given; None if that is all there was.
        """
        raise NotImplementedError

    def start_over(self, reason: str) -> None:
        """There is a hole in what everybody here was given."""
        raise NotImplementedError

    def end_with_token(self) -> None:
        """From now on, when its token does by the clock as it is now."""
        raise NotImplementedError


class Subscription:
    """One member in one channel: catching up, or live from an offset on."""

    __slots__ = ("channel", "connection", "details", "encode", "live_from", "member", "watches")

    def __init__(
        self, member: Member, channel: ChannelName, encode: Format, live_from: int
    ) -> None:
        self.member = member
        self.connection = member.connection
        self.channel = channel
        self.encode = encode
        self.live_from = live_from
        self.watches = False
        """Whether it hears who comes and goes."""
        self.details: object | None = None
        """What else its protocol has to remember of it."""

    @property
    def is_over(self) -> bool:
        """Whether its member hears no more of the channel by it."""
        return self not in self.member.subscriptions


class ConnectionManager:
    """Who is here, and who listens to what. Nothing here awaits, so nothing here needs a lock."""

    def __init__(self, outgoing: WriteCoalescer) -> None:
        self._outgoing = outgoing
        self._members: dict[Member, None] = {}  # a set of as many takes three times the memory
        self._listeners: dict[ChannelName, Listeners] = {}
        self._users: dict[UserId, Members] = {}
        self._sessions: dict[SessionId, Members] = {}

    def connect(self, member: Member) -> None:
        """Add a member; harmless if it is here already."""
        if member not in self._members:
            self._members[member] = None
            _add(self._users, member.user_id, member)
            _add(self._sessions, member.claims.session_id, member)

    def renew(self, member: Member, claims: Claims) -> None:
        """Take note that a member goes on under another token of its user."""
        if member in self._members:
            _discard(self._sessions, member.claims.session_id, member)
            _add(self._sessions, claims.session_id, member)
            member.claims = claims

    def disconnect(self, member: Member) -> None:
        """Forget the member and its subscriptions; harmless if it is gone already."""
        if member in self._members:
            for subscription in member.subscriptions:
                self.unsubscribe(subscription)
            del self._members[member]
            _discard(self._users, member.user_id, member)
            _discard(self._sessions, member.claims.session_id, member)

    def subscribe(
        self,
        member: Member,
        channel: ChannelName,
        encode: Format,
        live_from: int = CATCHING_UP,
    ) -> Subscription:
        """Let a connected member listen; asked again, give the subscription that it has."""
        for subscription in member.subscriptions:
            if subscription.channel == channel:
                return subscription
        if member not in self._members:
            raise LookupError("who isn't connected can't listen")
        another = next(self.subscriptions_to(channel), None)
        if another is not None:
            channel = another.channel  # one string for all of them saves memory
        subscription = Subscription(member, channel, encode, live_from)
        self._put_in(subscription)
        member.subscriptions = (*member.subscriptions, subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Let its member hear no more of the channel; harmless if it is over already."""
        member = subscription.member
        left = _left(member.subscriptions, subscription)
        if len(left) == len(member.subscriptions):
            return
        member.subscriptions = left
        self._take_out(subscription)

    def reformat(self, subscription: Subscription, encode: Format) -> None:
        """Let a subscription see what is published from now on in another format."""
        self._take_out(subscription)
        subscription.encode = encode
        self._put_in(subscription)

    def _put_in(self, subscription: Subscription) -> None:
        channel = subscription.channel
        listeners = self._listeners.get(channel)
        if isinstance(listeners, dict):
            _join(listeners, subscription)
            return
        together = (*_together(listeners), subscription)
        self._listeners[channel] = _grouped(together) if len(together) > _FEW else _packed(together)

    def _take_out(self, subscription: Subscription) -> None:
        channel, encode = subscription.channel, subscription.encode
        listeners = self._listeners[channel]
        if isinstance(listeners, dict):
            group = listeners[encode] = _without(listeners[encode], subscription)
            if not group:
                del listeners[encode]  # else one entry would stay for every filter ever seen
            if not listeners:
                del self._listeners[channel]  # and for every room
        elif left := _left(_together(listeners), subscription):
            self._listeners[channel] = _packed(left)
        else:
            del self._listeners[channel]

    def send_to_user(self, user_id: UserId, publication: StoredPublication) -> int:
        """Give a publication of the user's personal channel to all connections of the user here."""
        return self.broadcast(personal_channel(user_id), publication)

    def broadcast(self, channel: ChannelName, publication: StoredPublication) -> int:
        """Give a publication to the channel's listeners here that are live; return to how many.

        They are settled now, though what they are given leaves at the end of the turn. Those whose
        sockets take nothing now are given no ephemeral one.

        Raises:
            BadPublication: by the format of a group of listeners, which is given nothing. Those of
                other formats have theirs.
        """
        count, offset, fault = 0, publication.offset or _ANY_LIVE, None
        for encode, group in _by_format(self._listeners.get(channel)):
            try:
                frame = encode(publication)
            except BadPublication as bad:
                fault = str(bad)
                continue
            if frame is None:
                continue
            reached, stalled = self._outgoing.fan_out(frame, _each(group), offset)
            count += reached
            if stalled and not publication.is_ephemeral:
                count += _offer(frame, offset, stalled)
        if fault is not None:
            raise BadPublication(fault)
        return count

    def listeners(self, channel: ChannelName, encode: Format) -> Iterator[Subscription]:
        """Those of one format."""
        for format_, group in _by_format(self._listeners.get(channel)):
            if format_ == encode:
                yield from _each(group)

    def subscriptions_to(self, channel: ChannelName) -> Iterator[Subscription]:
        """Those of all formats."""
        for _, group in _by_format(self._listeners.get(channel)):
            yield from _each(group)

    def connections_of(self, user_id: UserId) -> Collection[Member]:
        return _all(self._users.get(user_id))

    def connections_of_session(self, session_id: SessionId) -> Collection[Member]:
        return _all(self._sessions.get(session_id))

    def connections(self) -> Collection[Member]:
        return self._members.keys()

    def channels(self) -> Collection[ChannelName]:
        """The channels that somebody here listens to."""
        return self._listeners.keys()

    def subscription_count(self) -> int:
        return sum(
            len(group)
            for listeners in self._listeners.values()
            for _, group in _by_format(listeners)
        )

    def active_user_count(self) -> int:
        return len(self._users)

    def connection_count(self) -> int:
        return len(self._members)


class Fanout:
    """Gives what the feed delivers to those who listen on this gateway."""

    def __init__(self, manager: ConnectionManager, metrics: GatewayMetrics) -> None:
        self._manager = manager
        self._metrics = metrics

    def deliver(self, publication: StoredPublication) -> None:
        """Give a publication to the channel's listeners; it is encoded only if there are any."""
        owner = owner_of(publication.channel)
        try:
            if owner is None:
                reached = self._manager.broadcast(publication.channel, publication)
            else:
                reached = self._manager.send_to_user(owner, publication)
        except BadPublication as bad:
            self._metrics.unreadable(publication.offset, str(bad))
        else:
            self._metrics.deliveries.inc(reached)

    def start_over(self, reason: str) -> None:
        """The feed's position has jumped: there is a hole for everybody here.

        Args:
            reason: A `gateway.streams.feed.Reason`.
        """
        for_each(self._manager.connections(), lambda member: member.start_over(reason))


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
            member.connection.abandon(error, "delivery_failed")
        else:
            count += 1
    return count


def _offer(frame: Frame, offset: int, stalled: Iterable[Subscription]) -> int:
    members = [subscription.member for subscription in stalled]
    return for_each(members, lambda member: member.offer(frame, offset))


def _by_format(listeners: "Listeners | None") -> Iterable[tuple[Format, Group]]:
    """The groups as they are now, though a step for one of them may change the registry."""
    if listeners is None:
        return ()
    if isinstance(listeners, Subscription):
        return ((listeners.encode, (listeners,)),)
    if isinstance(listeners, tuple):
        formats = {each.encode for each in listeners}
        if len(formats) == 1:
            return ((formats.pop(), listeners),)
        listeners = _grouped(listeners)
    return tuple(listeners.items())


def _grouped(listeners: Iterable[Subscription]) -> dict[Format, Group]:
    groups: dict[Format, Group] = {}
    for subscription in listeners:
        _join(groups, subscription)
    return groups


def _join(groups: dict[Format, Group], subscription: Subscription) -> None:
    encode = subscription.encode
    groups[encode] = _with(groups.get(encode, ()), subscription)


def _each(group: Group) -> Collection[Subscription]:
    return group if isinstance(group, tuple) else group.values()


def _with(group: Group, subscription: Subscription) -> Group:
    if isinstance(group, tuple):
        group = (*group, subscription)
        if len(group) <= _FEW:
            return group
        return {each.member: each for each in group}
    group[subscription.member] = subscription
    return group


def _without(group: Group, subscription: Subscription) -> Group:
    if isinstance(group, tuple):
        return _left(group, subscription)
    del group[subscription.member]
    return group


def _left(subscriptions: tuple[Subscription, ...], over: Subscription) -> tuple[Subscription, ...]:
    return tuple(each for each in subscriptions if each is not over)


T = TypeVar("T")


def _together(packed: T | tuple[T, ...] | None) -> tuple[T, ...]:
    """Those that `_packed` has packed; None is nobody."""
    if isinstance(packed, tuple):
        return packed
    return () if packed is None else (packed,)


def _packed(together: tuple[T, ...]) -> T | tuple[T, ...]:
    return together[0] if len(together) == 1 else together


Key = TypeVar("Key", bound=Hashable)


def _add(index: dict[Key, Members], key: Key | None, member: Member) -> None:
    if key is None:
        return
    members = index.get(key)
    if isinstance(members, dict):
        members[member] = None
        return
    together = (*_together(members), member)
    index[key] = dict.fromkeys(together) if len(together) > _FEW else _packed(together)


def _discard(index: dict[Key, Members], key: Key | None, member: Member) -> None:
    if key is None:
        return
    members = index[key]
    if isinstance(members, dict):
        del members[member]
        if not members:
            del index[key]
    elif left := tuple(each for each in _together(members) if each is not member):
        index[key] = _packed(left)
    else:
        del index[key]


def _all(members: "Members | None") -> Collection[Member]:
    return members.keys() if isinstance(members, dict) else _together(members)
