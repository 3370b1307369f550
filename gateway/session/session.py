"""A session: somebody signed in over one connection, and what they are subscribed to.

It knows no socket and no codec: it sends to the connection that it is given, in the format that
each subscription names. What the client has to be told beside that, such as a hole, its protocol
tells by the callables of `SessionKind`.
"""

from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway.channels.connection import Connection, Format, isolate_failure
from gateway.channels.namespaces import Namespace, Namespaces
from gateway.channels.registry import CATCHING_UP, ConnectionManager, Member, Subscription
from gateway.errors import MayNotPublish, MayNotSubscribe, OtherUser
from gateway.metrics import GatewayMetrics
from gateway.session.access import Access
from gateway.session.recovery import ConnectionLost, Recovery, SlowConsumer
from gateway.streams.catch_up import CatchUp
from gateway.streams.feed import Reason
from gateway.streams.publishing import ChannelPublisher, PublishResult
from shared.contracts.errors import AppError
from shared.contracts.ids import ChannelName, ConnectionId, UserId
from shared.contracts.publications import Sender
from shared.jetstream.publisher import PubAck
from shared.tokens.access_tokens import Claims


@dataclass(frozen=True, slots=True)
class SessionKind:
    """What the sessions of one protocol have in common."""

    access: Access
    manager: ConnectionManager
    namespaces: Namespaces
    catch_up: CatchUp
    publisher: ChannelPublisher
    metrics: GatewayMetrics
    enter: Callable[[ChannelName, UserId, str, ConnectionId], None]
    """Told of a connection in a channel whose presence is kept."""
    leave: Callable[[ChannelName, UserId, ConnectionId], None]
    on_hole: Callable[["Session", Collection[Subscription], Reason], None]
    """Tells the session that something is missing for good from what it was sent of these."""
    on_caught_up: Callable[["Session", Collection[Subscription]], None]
    """Tells the session who is in these channels: it did not hear who came and went."""


class Session(Member):
    """The claims of a connection, and any number of subscriptions.

    Nothing here waits: what takes its time runs as work of the connection. So a session that
    idles is this object and nothing else.
    """

    __slots__ = ("_kind", "_recoveries")

    def __init__(self, connection: Connection, claims: Claims, kind: SessionKind) -> None:
        super().__init__(connection, claims)
        self._kind = kind
        self._recoveries: tuple[Recovery, ...] = ()

    def begin(self, units: int) -> None:
        """Register it, in the step in which its claims were found to hold.

        Args:
            units: What that costs its user, see `gateway.session.rate`.

        Raises:
            TooManyConnections, TooFast: its user may have no more of them, now.
        """
        self._kind.access.check_user(self.user_id, units)
        self._kind.manager.connect(self)
        self.end_with_token()

    def end(self) -> None:
        """Its connection is lost."""
        self._recoveries = ()
        for subscription in self.subscriptions:
            self.unsubscribe(subscription)
        self._kind.manager.disconnect(self)

    # Channels.

    def options_of(self, channel: ChannelName) -> Namespace:
        """The options of a channel that it may subscribe to.

        Raises:
            MayNotSubscribe: there is no such channel, or not for this user.
        """
        namespaces = self._kind.namespaces
        options = namespaces.options_of(channel)
        if options is None or not namespaces.may_subscribe(channel, self.user_id):
            raise MayNotSubscribe(f"no subscribing to {channel}")
        return options

    def subscribe(self, channel: ChannelName, encode: Format) -> Subscription:
        """Listen to a channel; nothing comes live before the subscription has recovered.

        Raises:
            MayNotSubscribe: as `options_of` says.
        """
        options = self.options_of(channel)
        subscription = self._kind.manager.subscribe(self, channel, encode)
        if options.presence:
            self._kind.enter(channel, self.user_id, self.claims.name, self.connection.id)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Listen no more, nor be sent what was missed; harmless if it is over already."""
        if subscription.is_over:
            return
        self._kind.manager.unsubscribe(subscription)
        options = self._kind.namespaces.options_of(subscription.channel)
        if options is not None and options.presence:
            self._kind.leave(subscription.channel, self.user_id, self.connection.id)

    def publish(
        self,
        channel: ChannelName,
        data: Any,
        on_done: Callable[[PublishResult], None],
        *,
        client_id: str | None = None,
    ) -> None:
        """Store what the user says in a channel, and say what became of it. Never waits.

        Args:
            on_done: Called once, and not before this has returned. An ack is of this very data,
                though it may have been stored before.
            client_id: The user's own; within the dedupe window the channel gets it once.

        Raises:
            AppError: it isn't published: the user may not, or no longer, or nobody could.
        """
        kind, claims = self._kind, self.claims
        if not kind.namespaces.may_publish(channel, claims.user_id):
            raise MayNotPublish("only services publish here")
        kind.access.authenticator.confirm(claims)  # what waited behind others, too
        kind.publisher.send_by_user(
            channel,
            Sender(claims.user_id, claims.name),
            data,
            partial(self._published, data, on_done),
            client_id=client_id,
        )
        self.connection.begin_work()

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
            await self._kind.publisher.resolve_duplicate(ack, data)
        except AppError as error:
            result = error
        on_done(result)

    # Its token.

    async def renew(self, token: str) -> None:
        """Go on under another token of the same user.

        Raises:
            InvalidToken, Unavailable: as `Authenticator.verify` says.
            OtherUser: a connection can't change hands.
        """
        authenticator = self._kind.access.authenticator
        claims = await authenticator.verify(token)
        if self.connection.is_open:
            authenticator.confirm(claims)
            if claims.user_id != self.user_id:
                raise OtherUser("the token is of another user")
            self._kind.manager.renew(self, claims)
            self.end_with_token()

    # Keeping up.

    @property
    def delivered_offset(self) -> int:
        """Nothing at or below it is missing from what the session was sent."""
        recovering = [each.delivered_offset for each in self._recoveries if not each.is_live]
        if recovering:
            return min(recovering)
        live_from = min((each.live_from for each in self._live), default=0)
        return max(self._kind.catch_up.position, live_from - 1)

    @property
    def _live(self) -> list[Subscription]:
        return [each for each in self.subscriptions if each.live_from != CATCHING_UP]

    @property
    def _is_behind(self) -> bool:
        return any(isinstance(each, SlowConsumer) for each in self._recoveries)

    def go_live_at_once(
        self, subscriptions: Collection[Subscription], offset: int, epoch: str | None
    ) -> bool:
        """Turn subscriptions live if they missed nothing after the offset; return whether so."""
        live_from = self._kind.catch_up.at_once(offset, epoch)
        if live_from is None:
            return False
        for subscription in subscriptions:
            subscription.live_from = live_from
        return True

    @contextmanager
    def recovering(self, *subscriptions: Subscription) -> Generator[Recovery]:
        """The way to live of some subscriptions, during the body."""
        kind = self._kind
        recovery = Recovery(self.connection, subscriptions, kind.catch_up, kind.metrics)
        self._recoveries = (*self._recoveries, recovery)
        try:
            yield recovery
        finally:
            self._forget(recovery)

    def fall_behind(self, delivered_offset: int | None = None) -> None:
        kind = self._kind
        if delivered_offset is None:
            delivered_offset = kind.catch_up.position
        lag = SlowConsumer(
            self.connection,
            self._live,
            kind.catch_up,
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
            self._forget(lag)
            if not self._is_behind:
                self.connection.keep_up()
            self._kind.on_caught_up(self, watching)

        try:
            await lag.run_to_live(on_hole=self.tell_hole, on_live=on_live)
        except ConnectionLost:
            pass
        finally:
            self._forget(lag)

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
        self._kind.metrics.resets.inc()
        self._kind.on_hole(self, subscriptions, reason)

    def _forget(self, recovery: Recovery) -> None:
        self._recoveries = tuple(each for each in self._recoveries if each is not recovery)

    def _has_no_history(self, channel: ChannelName) -> bool:
        options = self._kind.namespaces.options_of(channel)
        return options is not None and not options.history
