"""What all clients of the protocol on one gateway share."""

import asyncio
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from functools import partial

from gateway.channels.connection import Connection, Frame
from gateway.channels.namespaces import Namespaces
from gateway.channels.registry import ConnectionManager, Member, Subscription, for_each
from gateway.cluster import Cluster, Question
from gateway.metrics import GatewayMetrics
from gateway.presence.presence import Presence
from gateway.presence.table import ClientChange
from gateway.protocols.centrifuge import codes
from gateway.protocols.centrifuge.codec import Codec, client_info, json_of
from gateway.protocols.centrifuge.formats import Before, Formats
from gateway.proxies.proxies import Proxies
from gateway.session.access import Access
from gateway.session.buckets import Buckets
from gateway.session.rate import RateLimits
from gateway.session.session import Session, SessionKind
from gateway.streams.catch_up import CatchUp
from gateway.streams.feed import Reason
from gateway.streams.pages import Pages
from gateway.transport.http_stream import HttpStreamConnection
from hubbub_client.contracts.ids import ANONYMOUS, ChannelName
from hubbub_client.jetstream.clock import our_clock
from shared.runtime.version import running_version
from shared.tokens.claims import NEVER, NO_GRANT, Claims, Grant

EMULATION = "emulation"

EXPIRY_GRACE_SECONDS = 25.0
"""From the end of a token to what follows: the SDKs refresh only as it ends."""


@dataclass(slots=True)
class Details:
    """What else is remembered of a subscription that a token granted, or the server made."""

    grant: Grant
    is_server_side: bool = False
    ends_at: float = NEVER
    """By the wall clock; some time after its token."""
    expiry: asyncio.TimerHandle | None = None


class Emulated(Question):
    """Commands that came with a request of its own, for a stream."""

    session: str
    data: str


_NOTHING = Details(NO_GRANT)
SERVER_SIDE = Details(NO_GRANT, is_server_side=True)


def details_of(subscription: Subscription | None) -> Details:
    """Of most there is nothing to remember."""
    known = subscription.details if subscription is not None else None
    return known if isinstance(known, Details) else _NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class CentrifugeKind(SessionKind):
    """Of the sessions on one kind of transport."""

    codec: Codec
    formats: Formats


class CentrifugeService:
    """Made once, by whoever composes the gateway."""

    def __init__(
        self,
        sessions: SessionKind,
        *,
        presence: Presence,
        pages: Pages,
        cluster: Cluster,
        proxies: Proxies,
        before: Before,
        rate_limits: RateLimits,
        ephemeral_limits: RateLimits,
        ephemeral_buckets: Buckets,
        ping_seconds: float,
        connect_seconds: float,
        max_waiting_commands: int,
        channel_limit: int,
        history_limit: int,
        allows_anonymous: bool,
    ) -> None:
        """
        Args:
            sessions: What they have in common with those of other protocols.
            before: What was published in a channel before an offset, if it is in memory.
            ephemeral_limits: Of what a connection publishes without its being stored; apart from
                `rate_limits`, as `ephemeral_buckets` are apart from those of all else.
            ping_seconds: Between two pings, as clients are told.
            connect_seconds: For the first command to come.
            channel_limit: Of one connection.
            history_limit: Publications in one page of history.
            allows_anonymous: Whether a connection needs no token.
        """
        self.access: Access = sessions.access
        self.namespaces: Namespaces = sessions.namespaces
        self.catch_up: CatchUp = sessions.catch_up
        self.metrics: GatewayMetrics = sessions.metrics
        self.manager: ConnectionManager = sessions.manager
        self.rate_limits = rate_limits
        self.ephemeral_limits = ephemeral_limits
        self.ephemeral_buckets = ephemeral_buckets
        self.ping_seconds = math.ceil(ping_seconds)
        self.connect_seconds = connect_seconds
        self.max_waiting_commands = max_waiting_commands
        self.channel_limit = channel_limit
        self.history_limit = history_limit
        self.allows_anonymous = allows_anonymous
        self.version = running_version()
        self.presence = presence
        self.pages = pages
        self.cluster = cluster
        self.proxies = proxies
        self.named: dict[str, Connection] = {}
        """Connections that other requests may name, by their secret sessions."""
        self._before = before
        self._held: dict[Session, list[Callable[[], None]]] = {}
        self._watching: dict[ChannelName, set[Subscription]] = {}
        self._sessions = replace(
            sessions,
            on_hole=_end_for_a_hole,
            on_caught_up=lambda _session, _subscriptions: None,
            expiry_grace_seconds=EXPIRY_GRACE_SECONDS,
            asks_to_stay=proxies.asks_refresh,
        )
        self._kinds: dict[Codec, CentrifugeKind] = {}
        cluster.handle(EMULATION, Emulated, self.feed)

    def kind_of(self, codec: Codec) -> CentrifugeKind:
        kind = self._kinds.get(codec)
        if kind is None:
            shared = {each.name: getattr(self._sessions, each.name) for each in fields(SessionKind)}
            formats = Formats(
                codec,
                self._sessions.manager,
                before=self._before,
                patches_all=self._patches_all,
                soon=asyncio.get_running_loop().call_soon,
            )
            kind = self._kinds[codec] = CentrifugeKind(**shared, codec=codec, formats=formats)
        return kind

    def _patches_all(self, channel: ChannelName) -> bool:
        options = self.namespaces.options_of(channel)
        return options is not None and options.delta_publish

    def anonymous_claims(self) -> Claims:
        return Claims(ANONYMOUS, "", None, issued_at=None, expires_at=NEVER)

    def feed(self, asked: Emulated) -> bool:
        """Give a stream here the commands that its client sent; return whether it took them."""
        connection = self.named.get(asked.session)
        if not isinstance(connection, HttpStreamConnection):
            return False
        if connection.feed(asked.data):
            return True
        connection.close(codes.SLOW)  # it sends faster than it reads what is answered
        return False

    # Sessions whose `connect` is not answered yet.

    def hold(self, session: Session) -> None:
        """Let nothing be pushed to it before `release`: clients would not know of what."""
        self._held[session] = []

    def release(self, session: Session) -> None:
        for step in self._held.pop(session, []):
            if session.connection.is_open:
                step()

    def when_connected(self, session: Session, step: Callable[[], None]) -> None:
        """Take a step now, or once its `connect` is answered."""
        if session in self._held:
            self._held[session].append(step)
        else:
            step()

    # Subscriptions that end.

    def remember(
        self,
        subscription: Subscription,
        grant: Grant,
        expires_at: float,
        *,
        grace_seconds: float = EXPIRY_GRACE_SECONDS,
    ) -> None:
        """Keep what a token says of a subscription, and end it some time after the token."""
        self.forget(subscription)
        is_server_side = details_of(subscription).is_server_side
        if grant == NO_GRANT and expires_at == NEVER:
            subscription.details = SERVER_SIDE if is_server_side else None
            return
        details = Details(grant, is_server_side=is_server_side, ends_at=expires_at + grace_seconds)
        subscription.details = details
        self._end_in_time(subscription, details)

    def end_with_tokens(self) -> None:
        """Let all subscriptions end with their tokens, by the clock as it is now."""
        for member in self.manager.connections():
            for subscription in member.subscriptions:
                self.forget(subscription)
                self._end_in_time(subscription, details_of(subscription))

    def _end_in_time(self, subscription: Subscription, details: Details) -> None:
        if details.ends_at < NEVER:
            seconds = details.ends_at - our_clock()
            loop = asyncio.get_running_loop()
            details.expiry = loop.call_later(seconds, self._expire, subscription)

    def forget(self, subscription: Subscription) -> None:
        """Another token counts from now on, or none."""
        expiry = details_of(subscription).expiry
        if expiry is not None:
            expiry.cancel()

    def end(self, subscription: Subscription) -> None:
        """It is over, whoever ended it."""
        self.forget(subscription)
        watching = self._watching.get(subscription.channel)
        if watching is not None:  # `watches` is off while it is behind
            watching.discard(subscription)
            if not watching:  # else one stays for every channel
                del self._watching[subscription.channel]

    # Who comes and goes.

    def watch(self, subscription: Subscription) -> None:
        """Let it hear who comes into its channel and leaves it, itself first."""
        subscription.watches = True
        self._watching.setdefault(subscription.channel, set()).add(subscription)

    def is_watched(self, channel: ChannelName) -> bool:
        """Whether any client here hears that."""
        return channel in self._watching

    def announce(self, change: ClientChange) -> None:
        """Tell those who hear of it that a connection came into a channel, or left it."""
        infos = change.info or ()
        info = client_info(change.user_id, change.connection, *infos)
        body = b'{"info":%b}' % info
        frames: dict[Codec, Frame] = {}
        for subscription in self.manager.subscriptions_to(change.channel):
            session = subscription.member
            if not subscription.watches or not isinstance(session, Session):
                continue
            kind = session.kind
            if not isinstance(kind, CentrifugeKind):
                continue
            if not change.joined and change.connection == session.connection.id:
                continue
            codec = kind.codec
            if codec not in frames:
                what = b"join" if change.joined else b"leave"
                frames[codec] = codec.push(change.channel, what, body)
            for_each((session,), partial(_send, frames[codec]))

    def _expire(self, subscription: Subscription) -> None:
        session = subscription.member
        assert isinstance(session, Session)
        if details_of(subscription).is_server_side:
            session.connection.close(codes.SUBSCRIPTION_EXPIRED)
        else:
            self.unsubscribe(session, subscription, codes.SUBSCRIPTION_OVER)

    def unsubscribe(
        self, session: Session, subscription: Subscription, why: codes.Unsubscribe
    ) -> None:
        """End a subscription, and tell the client; by the reply, if it waits for that."""
        assert isinstance(session.kind, CentrifugeKind)
        is_told_by_reply = session.is_recovering(subscription)
        self.end(subscription)
        session.unsubscribe(subscription)
        if is_told_by_reply:
            subscription.details = why
            return
        body = b'{"code":%d,"reason":%b}' % (why.code, json_of(why.reason))
        session.connection.send(session.kind.codec.push(subscription.channel, b"unsubscribe", body))


def _send(frame: Frame, member: Member) -> None:
    member.send(frame)


def _end_for_a_hole(
    session: Session, _subscriptions: Collection[Subscription], _reason: Reason
) -> None:
    """The client comes back, asks for what it misses, and is told what can't be had."""
    session.connection.close(codes.INSUFFICIENT_STATE)
