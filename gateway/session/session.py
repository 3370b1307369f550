"""A session: somebody signed in over one connection, and what they are subscribed to.

It knows no socket and no codec: it sends to the connection that it is given, in the format that
each subscription names. What the client has to be told beside that, such as a hole, its protocol
tells by the callables of `SessionKind`.
"""

from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gateway.channels.connection import Connection, Format, isolate_failure
from gateway.channels.namespaces import Namespaces
from gateway.channels.options import Namespace
from gateway.channels.registry import CATCHING_UP, ConnectionManager, Member, Subscription
from gateway.errors import EndReason, MayNotPublish, MayNotSubscribe, OtherUser, Refusal
from gateway.metrics import GatewayMetrics
from gateway.presence.records import ClientInfo
from gateway.session import missed
from gateway.session.access import Access
from gateway.session.missed import Position
from gateway.session.rate import units_of_replay
from gateway.session.recovery import ConnectionLost, Recovery, SlowConsumer
from gateway.streams.catch_up import CatchUp
from gateway.streams.encodings import Encodings
from gateway.streams.ephemeral import EphemeralFeed
from gateway.streams.feed import Reason
from gateway.streams.publishing import ChannelPublisher, PublishResult
from hubbub_client.contracts.errors import AppError
from hubbub_client.contracts.ids import ChannelName, ConnectionId, UserId
from hubbub_client.contracts.publications import Publication, Sender, StoredPublication
from hubbub_client.jetstream.clock import our_clock
from hubbub_client.jetstream.publisher import PubAck
from shared.tokens.claims import Claims


@dataclass(frozen=True, slots=True)
class SessionKind:
    """What the sessions of one protocol have in common."""

    access: Access
    manager: ConnectionManager
    namespaces: Namespaces
    catch_up: CatchUp
    publisher: ChannelPublisher
    ephemeral: EphemeralFeed
    metrics: GatewayMetrics
    enter: Callable[[ChannelName, UserId, str, ConnectionId, ClientInfo | None], None]
    """Told of a connection in a channel whose presence is kept."""
    leave: Callable[[ChannelName, UserId, ConnectionId], None]
    on_hole: Callable[["Session", Collection[Subscription], Reason], None]
    """Tells the session that something is missing for good from what it was sent of these."""
    on_caught_up: Callable[["Session", Collection[Subscription]], None]
    """Tells the session who is in these channels: it did not hear who came and went."""
    encodings: Encodings = field(default_factory=Encodings)
    """Of what is sent to those who come back."""
    expiry_grace_seconds: float = 0.0
    """From the end of a token to the end of its connection, which may show another meanwhile."""
    asks_to_stay: bool = False
    """Whether the application is asked in that time about a connection that has no token."""


class Session(Member):
    """The claims of a connection, and any number of subscriptions.

    Nothing here waits: what takes its time runs as work of the connection. So a session that
    idles is this object and nothing else.
    """

    __slots__ = ("_recoveries", "kind", "on_end_settled")

    def __init__(self, connection: Connection, claims: Claims, kind: SessionKind) -> None:
        super().__init__(connection, claims)
        self.kind = kind
        self.on_end_settled: Callable[[], None] | None = None
        """Told whenever `end_with_token` was."""
        self._recoveries: tuple[Recovery, ...] = ()

    def admit(self, units: int) -> None:
        """Let its user have it, and pay for it: before anything is done for what it asks for.

        Args:
            units: What it costs, see `gateway.session.rate`.

        Raises:
            TooManyConnections, TooFast: its user may have no more of them, now.
        """
        self.kind.access.admit_one_more(self, units)

    def begin(self) -> None:
        """Register it, in the step in which its claims were found to hold."""
        self.kind.manager.connect(self)
        self.end_with_token()

    def end(self) -> None:
        """Its connection is lost."""
        self._recoveries = ()
        for subscription in self.subscriptions:
            self.unsubscribe(subscription)
        self.kind.manager.disconnect(self)

    # Channels.

    def options_of(self, channel: ChannelName, *, by_token: bool = False) -> Namespace:
        """The options of a channel that it may subscribe to.

        Args:
            by_token: Whether a token says that it shall.

        Raises:
            MayNotSubscribe: there is no such channel, or not for this user.
        """
        namespaces = self.kind.namespaces
        refusal = namespaces.why_not_subscribe(channel, self.user_id, by_token=by_token)
        if refusal is not None:
            raise MayNotSubscribe(f"no subscribing to {channel}", refusal)
        options = namespaces.find(channel)
        assert isinstance(options, Namespace)
        return options

    def subscribe(self, channel: ChannelName, encode: Format) -> Subscription:
        """Listen to a channel; nothing comes live before the subscription has recovered.

        Raises:
            MayNotSubscribe: as `options_of` says.
        """
        self.options_of(channel)
        return self.kind.manager.subscribe(self, channel, encode)

    def enter(self, subscription: Subscription, info: ClientInfo | None = None) -> None:
        """Let others see that it is in the channel, and what ``info`` says of it."""
        self.kind.enter(
            subscription.channel, self.user_id, self.claims.name, self.connection.id, info
        )

    def unsubscribe(self, subscription: Subscription) -> None:
        """Listen no more, nor be sent what was missed, nor be in it; harmless if it is over."""
        if subscription.is_over:
            return
        self.kind.manager.unsubscribe(subscription)
        self.kind.leave(subscription.channel, self.user_id, self.connection.id)

    def subscription_to(self, channel: ChannelName) -> Subscription | None:
        for subscription in self.subscriptions:
            if subscription.channel == channel:
                return subscription
        return None

    def is_recovering(self, subscription: Subscription) -> bool:
        """Whether it was never live yet, and so the client was told nothing of it."""
        return subscription.live_from == CATCHING_UP and not any(
            subscription in each.subscriptions.values() for each in self._recoveries
        )

    def is_subscribed(self, channel: ChannelName) -> bool:
        return self.subscription_to(channel) is not None

    def publish(
        self,
        channel: ChannelName,
        data: Any,
        on_done: Callable[[PublishResult], None],
        *,
        client_id: str | None = None,
        as_subscriber: bool = False,
        by_application: bool = False,
        sender: Sender | None = None,
        tags: dict[str, str] | None = None,
        delta: bool = False,
    ) -> None:
        """Store what the user says in a channel, and say what became of it. Never waits.

        Args:
            on_done: Called once, and not before this has returned. An ack is of this very data,
                though it may have been stored before.
            client_id: The user's own; within the dedupe window the channel gets it once.
            as_subscriber: It was subscribed when it asked, though it may be gone since.
            by_application: The application lets it.
            sender: What others are shown of the user; None for the name alone.

        Raises:
            AppError: it isn't published: the user may not, or no longer, or nobody could.
        """
        options = self._publishing_into(
            channel, data, as_subscriber=as_subscriber, by_application=by_application
        )
        sender = sender or Sender(self.user_id, self.claims.name)
        self.kind.publisher.send_by_user(
            channel,
            Publication(data, sender, tags=tags, delta=delta or options.delta_publish),
            partial(self._published, data, on_done),
            client_id=client_id,
        )
        self.connection.begin_work()

    def publish_ephemeral(
        self,
        channel: ChannelName,
        data: Any,
        *,
        sender: Sender,
        by_application: bool = False,
        tags: dict[str, str] | None = None,
    ) -> None:
        """Say something to those who are in a channel now, which nobody stores. Never waits.

        Raises:
            AppError: nobody gets it: the user may not, or no longer, or the bus is away.
        """
        self._publishing_into(channel, data, by_application=by_application)
        self.kind.ephemeral.publish(channel, Publication(data, sender, tags=tags))

    def _publishing_into(
        self,
        channel: ChannelName,
        data: Any,
        *,
        as_subscriber: bool = False,
        by_application: bool = False,
    ) -> Namespace:
        """The options of the channel, if the user may say that there.

        Raises:
            AppError: the user may not, or no longer.
        """
        kind, claims = self.kind, self.claims
        options = kind.namespaces.options_of(channel)
        refusal = kind.namespaces.why_not_publish(
            channel,
            claims.user_id,
            is_subscribed=as_subscriber or self.is_subscribed(channel),
            by_application=by_application,
        )
        if refusal is not None or options is None:
            raise MayNotPublish("only services publish here", refusal or Refusal.UNKNOWN_CHANNEL)
        if not options.takes_data(data):
            raise MayNotPublish("not what is published here", Refusal.BAD_REQUEST)
        if claims.user_id or claims.issuer:  # else it came without a token
            kind.access.authenticator.confirm(  # what waited behind others, too
                claims, grace_seconds=self._grace_seconds
            )
        return options

    def _published(
        self, data: Any, on_done: Callable[[PublishResult], None], result: PublishResult
    ) -> None:
        if isinstance(result, PubAck) and result.duplicate:
            self.connection.start(self._resolve_duplicate(data, on_done, result))
        else:
            isolate_failure(self.connection, partial(on_done, result))
        self.connection.end_work()

    async def _resolve_duplicate(
        self, data: Any, on_done: Callable[[PublishResult], None], ack: PubAck
    ) -> None:
        result: PublishResult = ack
        try:
            await self.kind.publisher.resolve_duplicate(ack, data)
        except AppError as error:
            result = error
        on_done(result)

    # Its token.

    def end_with_token(self) -> None:
        seconds = self.claims.expires_at - our_clock() + self._grace_seconds
        self.connection.close_after(seconds, EndReason.TOKEN_EXPIRED)
        if self.on_end_settled is not None:
            self.on_end_settled()

    @property
    def _grace_seconds(self) -> float:
        has_grace = self.claims.is_of_token or self.kind.asks_to_stay
        return self.kind.expiry_grace_seconds if has_grace else 0.0

    async def renew(self, token: str, *, allow_anonymous: bool = False) -> None:
        """Go on under another token of the same user.

        Raises:
            InvalidToken, Unavailable: as `Authenticator.verify` says.
            OtherUser: a connection can't change hands.
        """
        authenticator = self.kind.access.authenticator
        claims = await authenticator.verify(token, allow_anonymous=allow_anonymous)
        if self.connection.is_open:
            authenticator.confirm(claims)
            if claims.user_id != self.user_id:
                raise OtherUser("the token is of another user")
            self.kind.manager.renew(self, claims)
            self.end_with_token()

    # Keeping up.

    @property
    def delivered_offset(self) -> int:
        """Nothing at or below it is missing from what the session was sent."""
        recovering = [each.delivered_offset for each in self._recoveries if not each.is_live]
        if recovering:
            return min(recovering)
        live_from = min((each.live_from for each in self._live), default=0)
        return max(self.kind.catch_up.position, live_from - 1)

    @property
    def _live(self) -> list[Subscription]:
        return [each for each in self.subscriptions if each.live_from != CATCHING_UP]

    @property
    def _is_behind(self) -> bool:
        return any(isinstance(each, SlowConsumer) for each in self._recoveries)

    def pay_for(self, count: int, size: int = 0) -> None:
        """Charge its user for so many publications that it missed, or for what it asks for.

        Args:
            size: As `units_of_replay` says.

        Raises:
            TooFast: the user asked for too much at a time.
        """
        units = units_of_replay(count, size)
        if units:
            self.kind.access.buckets.charge(self, units)

    def recent(
        self, wanted: Mapping[Subscription, Position | None]
    ) -> dict[Subscription, list[StoredPublication]] | None:
        """As `missed`, if all of it is in memory; None if something has to be read."""
        return missed.recent(self.kind.catch_up, wanted)

    async def missed(
        self, wanted: Mapping[Subscription, Position | None]
    ) -> dict[Subscription, list[StoredPublication] | Reason]:
        """As `gateway.session.missed.read` says."""
        return await missed.read(self.kind.catch_up, self.connection, wanted)

    @contextmanager
    def recovering(self, *subscriptions: Subscription) -> Generator[Recovery]:
        """The way to live of some subscriptions, during the body."""
        recovery = self.begin_recovery(subscriptions)
        try:
            yield recovery
        finally:
            self.end_recovery(recovery)

    def begin_recovery(self, subscriptions: Collection[Subscription]) -> Recovery:
        """The way to live of some subscriptions, until `end_recovery`."""
        kind = self.kind
        recovery = Recovery(
            self.connection, subscriptions, kind.catch_up, kind.encodings, kind.metrics
        )
        self._recoveries = (*self._recoveries, recovery)
        return recovery

    def end_recovery(self, recovery: Recovery) -> None:
        """It is live, or gave up."""
        self._recoveries = tuple(each for each in self._recoveries if each is not recovery)

    def fall_behind(self, delivered_offset: int | None = None) -> None:
        kind = self.kind
        if delivered_offset is None:
            delivered_offset = kind.catch_up.position
        lag = SlowConsumer(
            self.connection,
            self._live,
            kind.catch_up,
            kind.encodings,
            kind.metrics,
            delivered_offset=delivered_offset,
        )
        if not self._is_behind:  # else its time goes on
            self.connection.fall_behind()
        self._recoveries = (*self._recoveries, lag)
        lag.begin(newest_only=frozenset(filter(self._has_no_history, lag.subscriptions)))
        self.connection.start(self._catch_up(lag))

    async def _catch_up(self, lag: SlowConsumer) -> None:
        def on_live(watching: Collection[Subscription]) -> None:
            self.end_recovery(lag)
            if not self._is_behind:
                self.connection.keep_up()
            self.kind.on_caught_up(self, watching)

        try:
            await lag.run_to_live(on_hole=self.tell_hole, on_live=on_live)
        except ConnectionLost:
            pass
        finally:
            self.end_recovery(lag)

    def start_over(self, reason: str) -> None:
        for recovery in self._recoveries:
            if isinstance(recovery, SlowConsumer):
                recovery.start_over(Reason(reason))
        live = self._live
        for subscription in live:
            subscription.live_from = 0
        if live:  # who recovers finds out by itself
            self.tell_hole(live, Reason(reason))

    def tell_hole(self, subscriptions: Collection[Subscription], reason: Reason) -> None:
        """Say that something is missing for good from what was sent of these."""
        self.kind.metrics.resets.inc()
        self.kind.on_hole(self, subscriptions, reason)

    def _has_no_history(self, channel: ChannelName) -> bool:
        options = self.kind.namespaces.options_of(channel)
        return options is not None and not options.history
