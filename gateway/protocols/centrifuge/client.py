"""One client of the protocol: its connect, its commands, its subscriptions, its end."""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import pydantic_core
import structlog

from gateway.channels.connection import Format, isolate_failure
from gateway.channels.options import Namespace
from gateway.channels.registry import Subscription
from gateway.errors import EndReason, MayNotSubscribe
from gateway.presence.records import ClientInfo
from gateway.presence.users import Client
from gateway.protocols.centrifuge import codes, commands
from gateway.protocols.centrifuge.codec import (
    TRUE,
    Codec,
    a_list,
    an_object,
    client_info,
    if_some,
    if_true,
    json_of,
)
from gateway.protocols.centrifuge.codes import (
    CLOSE_CODES,
    Disconnected,
    Errors,
    Refused,
    close_of,
    error_of,
)
from gateway.protocols.centrifuge.commands import BadCommand, Command, read_commands
from gateway.protocols.centrifuge.filters import BadFilter
from gateway.protocols.centrifuge.formats import Formats
from gateway.protocols.centrifuge.service import SERVER_SIDE, CentrifugeService, details_of
from gateway.session.command_queue import CommandQueue
from gateway.session.rate import CLOSE, CONNECT_UNITS, EXECUTE, units_of_replay, units_of_text
from gateway.session.recovery import ConnectionLost
from gateway.session.session import Session
from gateway.streams.feed import Reason
from gateway.streams.publishing import PublishResult
from gateway.transport.connection import Connection
from gateway.transport.frames import Close, Frame
from shared.contracts.channels import BadChannelName, parse_channel, personal_channel
from shared.contracts.errors import AppError
from shared.contracts.ids import ANONYMOUS, ChannelName, user_id_to_json
from shared.contracts.publications import Sender, StoredPublication
from shared.jetstream.clock import our_clock
from shared.tokens.claims import Claims, Grant, Subscriber, SubscriptionClaims
from shared.tokens.errors import TokenExpired, TokenMismatch

log = structlog.get_logger(__name__)

Missed = list[StoredPublication] | Reason | None
"""What came while a client was away; or why that can't be had; None if it did not ask."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A subscription to be, that the client or its token asks for."""

    channel: ChannelName
    asked: commands.Subscribe
    grant: Grant
    expires_at: float = math.inf
    is_server_side: bool = False
    by_token: bool = False


class CentrifugeClient:
    """What is above the connection of a client. Nothing here waits."""

    close_codes: ClassVar[Mapping[EndReason, Close]] = CLOSE_CODES

    __slots__ = (
        "_address", "_codec", "_commands", "_connect", "_free_subscribes", "_service", "_session",
        "connection",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        service: CentrifugeService,
        codec: Codec,
        *,
        address: str | None,
    ) -> None:
        self.connection = connection
        self._service = service
        self._codec = codec
        self._address = address
        self._connect: Command | None = None
        """The command that it began with, until it is answered."""
        self._session: Session | None = None
        self._commands: CommandQueue[Command] | None = None
        self._free_subscribes = service.channel_limit
        """A client that comes back subscribes to all its channels at once."""

    @property
    def ping(self) -> Frame:
        return self._codec.ping

    def open(self) -> None:
        """Wait for `connect`."""
        isolate_failure(self.connection, self._begin)

    def _begin(self) -> None:
        is_full = self._service.access.occupancy.enter(self.connection, self._address)
        if is_full is not None:
            self.connection.close(is_full)
        else:
            self.connection.close_after(self._service.connect_seconds, EndReason.INVALID_TOKEN)

    def received(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self.connection.close(EndReason.UNSUPPORTED_DATA)
            return
        try:
            for command in read_commands(message):
                if not self.connection.is_open:
                    return
                self._take(command, message)
        except BadCommand as bad:
            log.debug("bad_command", connection_id=self.connection.id, reason=str(bad))
            self.connection.close(codes.BAD_REQUEST)

    def farewell(self, close: Close) -> Frame | None:
        return None

    def lost(self, close: Close) -> None:
        self._service.access.occupancy.leave(self.connection)
        session = self._session
        if session is None:
            closing = self.connection.closing
            reason = closing.code if isinstance(closing, Close) else closing
            self._service.metrics.refused(reason)
            log.debug("refused", connection_id=self.connection.id, reason=close.reason)
            return
        for subscription in session.subscriptions:
            self._service.end(subscription)
        session.end()
        log.debug(
            "disconnected",
            connection_id=self.connection.id,
            user_id=session.user_id and user_id_to_json(session.user_id),
            code=int(close.code),
            reason=close.reason,
        )

    # In their turn.

    def _take(self, command: Command, message: str) -> None:
        if not command.method:
            if command.id:
                raise BadCommand("no method")
            self._charge_pong()
        elif self._connect is None and self._session is None:
            if command.method != "connect":
                raise BadCommand("a command before connect")
            self._connect = command
            self._sign_in(command.request)
        elif command.method == "connect":
            raise BadCommand("connect twice")
        else:
            self._take_in_turn(command, message)

    def _charge_pong(self) -> None:
        """A pong is a message that asks for nothing, and counts as one."""
        if self._opened_commands().rate.take(time.monotonic_ns()) is CLOSE:
            self.connection.close(EndReason.RATE_LIMIT)

    def _take_in_turn(self, command: Command, message: str) -> None:
        queue, now = self._opened_commands(), time.monotonic_ns()
        self._service.metrics.commands.labels(command.method).inc()
        verdict = EXECUTE
        if command.method == "subscribe" and self._free_subscribes:
            self._free_subscribes -= 1
        else:
            verdict = queue.rate.take(now)
        if verdict is EXECUTE and not self._can_pay(message, now):
            verdict = queue.rate.refuse()
        if verdict is CLOSE:
            self.connection.close(EndReason.RATE_LIMIT)
        elif verdict is EXECUTE:
            queue.put(command, self._execute)
        else:
            self._refuse(command, Errors.TOO_MANY_REQUESTS)

    def _can_pay(self, message: str, now: int) -> bool:
        if self._session is None:
            return True  # at most as many as may wait
        rates = self._service.access.user_rates
        return not rates.take(self._session.user_id, units_of_text(message), now)

    def _opened_commands(self) -> CommandQueue[Command]:
        if self._commands is None:
            self._commands = CommandQueue(
                self.connection,
                self._service.rate_limits,
                max_waiting=self._service.max_waiting_commands,
            )
            if self._session is not None and self._connect is None:
                self._commands.open(self._execute)
        return self._commands

    def _execute(self, command: Command) -> bool:
        """Begin a command; return whether it is under way."""
        try:
            done = _METHODS[command.method](self, command)
        except Refused as refused:
            self._refuse(command, refused.error)
        except AppError as error:
            self._refuse(command, error_of(error))
        except Disconnected as disconnected:
            self.connection.close(disconnected.close)
        else:
            return done
        return False

    def _run(self, command: Command, work: Coroutine[Any, Any, None]) -> bool:
        """Let a command be answered later."""
        self.connection.start(self._answer_later(command, work))
        return True

    async def _answer_later(self, command: Command, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except ConnectionLost:
            pass
        except Refused as refused:
            self._refuse(command, refused.error)
        except AppError as error:
            self._refuse(command, error_of(error))
        except Disconnected as disconnected:
            self.connection.close(disconnected.close)
        except Exception as error:
            self.connection.abandon(error, "command_failed")
        finally:
            self._opened_commands().done(self._execute)

    def _reply(self, command: Command, result: bytes) -> None:
        if command.id:
            method = command.method.encode()
            self.connection.send(self._codec.reply(command.id, method, result))

    def _refuse(self, command: Command, error: Errors) -> None:
        self._service.metrics.errors.labels(str(error.value.code)).inc()
        if command.id:
            self.connection.send(self._codec.error(command.id, error.value))

    # Connect.

    def _sign_in(self, asked: commands.Request) -> None:
        assert isinstance(asked, commands.Connect)
        access = self._service.access
        if access.not_ready():
            self.connection.close(EndReason.NOT_READY)
        elif asked.token:
            access.sign_in(
                asked.token,
                self.connection,
                admit=self._admit,
                refuse=self._refuse_entry,
                allow_anonymous=self._service.allows_anonymous,
            )
        elif self._service.allows_anonymous:
            try:
                self._admit(self._service.anonymous_claims())
            except AppError as error:
                self._refuse_entry(error)
        else:
            self.connection.close(codes.BAD_REQUEST)

    def _refuse_entry(self, error: AppError) -> None:
        command = self._connect
        assert command is not None
        if isinstance(error, TokenExpired):
            self._refuse(command, Errors.TOKEN_EXPIRED)
        elif isinstance(error, MayNotSubscribe):
            self._refuse(command, error_of(error))
        else:
            close = close_of(error)
            if close is codes.INTERNAL_ERROR:
                log.info("sign_in_failed", connection_id=self.connection.id, reason=str(error))
            self.connection.close(close)

    def _admit(self, claims: Claims) -> None:
        command = self._connect
        assert command is not None
        try:
            self._begin_session(claims, command)
        except Refused as refused:
            self._refuse(command, refused.error)
        except Disconnected as disconnected:
            self.connection.close(disconnected.close)

    def _begin_session(self, claims: Claims, command: Command) -> None:
        asked = command.request
        assert isinstance(asked, commands.Connect)
        session = Session(self.connection, claims, self._service.kind_of(self._codec))
        wanted = self._server_side(session, asked)
        session.begin(CONNECT_UNITS + units_of_replay(len(asked.subs)))
        self._session = session
        log.debug(
            "connected",
            connection_id=self.connection.id,
            user_id=session.user_id and user_id_to_json(session.user_id),
            session_id=claims.session_id,
        )
        subscriptions = {self._begin_subscription(each): each for each in wanted}
        recovering = {
            subscription: (each.asked.offset, each.asked.epoch or None)
            for subscription, each in subscriptions.items()
            if each.asked.recover and self._recovers(subscription, each)
        }
        recent = session.recent(recovering)
        if recent is not None:
            self._connected(subscriptions, recent)
        else:
            self.connection.start(self._connect_later(subscriptions, recovering))

    def _server_side(self, session: Session, asked: commands.Connect) -> list[Wanted]:
        """What the connection is subscribed to without asking, and what it asks for at once.

        Raises:
            MayNotSubscribe: the token names a channel that there is not.
            Disconnected: they are too many.
        """
        granted = dict(session.claims.channels)
        wanted: dict[ChannelName, Wanted] = {}

        def want(channel: ChannelName, grant: Grant, *, by_token: bool) -> None:
            held = asked.subs.get(channel, commands.HeldSubscription())
            position = commands.Subscribe(
                channel=channel, recover=held.recover, offset=held.offset, epoch=held.epoch
            )
            session.options_of(channel, by_token=by_token)
            wanted[channel] = Wanted(
                channel, position, grant, is_server_side=True, by_token=by_token
            )

        if session.user_id != ANONYMOUS:
            want(personal_channel(session.user_id), Grant(), by_token=False)
        for channel, grant in granted.items():
            want(channel, grant, by_token=True)
        for name in asked.subs:
            channel = _channel(name)
            if channel not in wanted:
                refusal = self._service.namespaces.why_not_subscribe(channel, session.user_id)
                if refusal is None:
                    want(channel, Grant(), by_token=False)
        if len(wanted) > self._service.channel_limit:
            raise Disconnected(codes.CHANNEL_LIMIT)
        return list(wanted.values())

    async def _connect_later(
        self,
        subscriptions: Mapping[Subscription, Wanted],
        recovering: Mapping[Subscription, tuple[int, str | None]],
    ) -> None:
        assert self._session is not None
        try:
            missed = await self._session.missed(recovering)
        except ConnectionLost:
            return
        except AppError as error:
            self.connection.close(close_of(error))
            return
        if self.connection.is_open:
            self._connected(subscriptions, missed)

    def _connected(
        self,
        subscriptions: Mapping[Subscription, Wanted],
        missed: Mapping[Subscription, Missed],
    ) -> None:
        command, session = self._connect, self._session
        assert command is not None
        assert session is not None
        subs = [
            b"%b:%b" % (
                json_of(wanted.channel),
                self._subscribed(subscription, wanted, missed.get(subscription)),
            )
            for subscription, wanted in subscriptions.items()
        ]  # fmt: skip
        service = self._service
        ttl = _ttl(session.claims.expires_at)
        result = an_object(
            (b"client", json_of(self.connection.id)),
            (b"version", json_of(service.version)),
            (b"expires", if_true(ttl is not None)),
            (b"ttl", None if ttl is None else b"%d" % ttl),
            (b"subs", b"{%b}" % b",".join(subs) if subs else None),
            (b"ping", b"%d" % service.ping_seconds),
            (b"pong", TRUE),
        )
        self._connect = None
        self._reply(command, result)
        for subscription, wanted in subscriptions.items():
            self._enter(subscription, wanted)
        if self._commands is not None:
            self._commands.open(self._execute)

    # Subscriptions.

    def _subscribe(self, command: Command) -> bool:
        asked, session = command.request, self._session
        assert isinstance(asked, commands.Subscribe)
        assert session is not None
        if not asked.channel or (asked.delta and asked.delta != "fossil"):
            raise Disconnected(codes.BAD_REQUEST)
        channel = _channel(asked.channel)
        if session.is_subscribed(channel):
            raise Refused(Errors.ALREADY_SUBSCRIBED)
        if len(session.subscriptions) >= self._service.channel_limit:
            raise Refused(Errors.LIMIT_EXCEEDED)
        if asked.type:
            raise Refused(Errors.NOT_AVAILABLE if asked.type == _SHARED_POLL else
                          Errors.PERMISSION_DENIED)  # fmt: skip
        if not asked.token:
            return self._subscribe_to(command, Wanted(channel, asked, Grant()))
        subscriber = Subscriber(session.user_id, self.connection.id, channel)
        authenticator = self._service.access.authenticator
        claims = _judged(
            partial(authenticator.verify_subscription_at_once, asked.token, subscriber)
        )
        if claims is not None:
            return self._subscribe_to(command, _granted(channel, asked, claims))
        return self._run(command, self._subscribe_with_token(command, asked, channel, subscriber))

    async def _subscribe_with_token(
        self,
        command: Command,
        asked: commands.Subscribe,
        channel: ChannelName,
        subscriber: Subscriber,
    ) -> None:
        authenticator = self._service.access.authenticator
        claims = await _judged_later(authenticator.verify_subscription(asked.token, subscriber))
        if not self.connection.is_open:
            return
        authenticator.confirm(claims)
        wanted = _granted(channel, asked, claims)
        subscription = self._begin_subscription(wanted)
        await self._recover(command, subscription, wanted)

    def _subscribe_to(self, command: Command, wanted: Wanted) -> bool:
        subscription = self._begin_subscription(wanted)
        session = self._session
        assert session is not None
        if not (wanted.asked.recover and self._recovers(subscription, wanted)):
            self._answer_subscribe(command, subscription, wanted, None)
            return False
        position = {subscription: (wanted.asked.offset, wanted.asked.epoch or None)}
        recent = session.recent(position)
        if recent is not None:
            self._answer_subscribe(command, subscription, wanted, recent[subscription])
            return False
        return self._run(command, self._recover(command, subscription, wanted))

    def _begin_subscription(self, wanted: Wanted) -> Subscription:
        session = self._session
        assert session is not None
        subscription = session.subscribe(
            wanted.channel, self._format(wanted), by_token=wanted.by_token
        )
        if wanted.is_server_side:
            subscription.details = SERVER_SIDE
        self._service.remember(subscription, wanted.grant, wanted.expires_at)
        return subscription

    def _format(self, wanted: Wanted) -> Format:
        """In which format the client asks to see publications, if it may."""
        formats = self._formats()
        if wanted.asked.tf is not None:
            options = self._service.namespaces.options_of(wanted.channel)
            if options is None or not options.allow_tags_filter or wanted.asked.delta:
                raise Refused(Errors.BAD_REQUEST)
            try:
                return formats.filtered(wanted.asked.tf)
            except BadFilter:
                raise Refused(Errors.BAD_REQUEST) from None
        return formats.first_whole if self._has_delta(wanted) else formats.whole

    def _has_delta(self, wanted: Wanted) -> bool:
        options = self._service.namespaces.options_of(wanted.channel)
        return (
            options is not None
            and options.history
            and wanted.asked.delta in options.allowed_delta_types
        )

    def _formats(self) -> Formats:
        return self._service.kind_of(self._codec).formats

    async def _recover(self, command: Command, subscription: Subscription, wanted: Wanted) -> None:
        session = self._session
        assert session is not None
        missed: Missed = None
        if wanted.asked.recover and self._recovers(subscription, wanted):
            position = {subscription: (wanted.asked.offset, wanted.asked.epoch or None)}
            try:
                missed = (await session.missed(position))[subscription]
            except BaseException:
                session.unsubscribe(subscription)
                raise
        self._answer_subscribe(command, subscription, wanted, missed)

    def _answer_subscribe(
        self, command: Command, subscription: Subscription, wanted: Wanted, missed: Missed
    ) -> None:
        assert self._session is not None
        if isinstance(missed, Reason) and wanted.asked.rejects_unrecovered:
            self._session.unsubscribe(subscription)
            raise Refused(Errors.UNRECOVERABLE_POSITION)
        result = self._subscribed(subscription, wanted, missed)
        self._reply(command, result)
        self._enter(subscription, wanted)

    def _subscribed(self, subscription: Subscription, wanted: Wanted, missed: Missed) -> bytes:
        """Turn it live, and say from where on; in the step in which that is so."""
        session, asked = self._session, wanted.asked
        assert session is not None
        options = self._options(subscription)
        has_recovered = isinstance(missed, list)
        position = self._service.catch_up.position
        if has_recovered:
            position = max(position, asked.offset)
        subscription.live_from = position + 1
        recovers = self._recovers(subscription, wanted)
        is_positioned = recovers or self._is_positioned(options, wanted)
        has_delta = self._has_delta(wanted)
        publications = self._replayed(subscription, missed, has_delta=has_delta)
        offset = asked.offset if has_recovered else position
        ttl = _ttl(wanted.expires_at)
        return an_object(
            (b"expires", if_true(ttl is not None)),
            (b"ttl", None if ttl is None else b"%d" % ttl),
            (b"recoverable", if_true(recovers)),
            (b"epoch", json_of(self._service.catch_up.epoch) if is_positioned else None),
            (b"publications", a_list(publications) if publications else None),
            (b"recovered", if_true(has_recovered)),
            (b"offset", if_some(offset) if is_positioned else None),
            (b"positioned", if_true(is_positioned)),
            (b"data", wanted.grant.data),
            (b"was_recovering", if_true(asked.recover)),
            (b"delta", if_true(has_delta)),
        )

    def _replayed(
        self, subscription: Subscription, missed: Missed, *, has_delta: bool
    ) -> list[bytes]:
        if not isinstance(missed, list):
            return []
        formats = self._formats()
        if not has_delta:
            return [each for each in map(formats.replayed(subscription.encode), missed) if each]
        publications = formats.in_turn(missed)
        if publications:  # it has what the next patch is of
            self._service.manager.reformat(subscription, formats.patched)
        return publications

    def _options(self, subscription: Subscription) -> Namespace:
        options = self._service.namespaces.options_of(subscription.channel)
        assert options is not None  # else it would be none
        return options

    def _recovers(self, subscription: Subscription, wanted: Wanted) -> bool:
        """Whether what it misses may be had later."""
        options = self._options(subscription)
        override = wanted.grant.override
        if override is not None and override.force_recovery is not None:
            return override.force_recovery and options.history
        return options.force_recovery or (
            wanted.asked.recoverable
            and self._service.namespaces.may_recover(
                subscription.channel, subscription.member.user_id
            )
        )

    def _is_positioned(self, options: Namespace, wanted: Wanted) -> bool:
        override = wanted.grant.override
        if override is not None and override.force_positioning is not None:
            return override.force_positioning
        assert self._session is not None
        return options.force_positioning or (
            wanted.asked.positioned
            and self._service.namespaces.may_be_positioned(wanted.channel, self._session.user_id)
        )

    def _enter(self, subscription: Subscription, wanted: Wanted) -> None:
        """Be in the channel for others, and hear who comes and goes, itself first, if it has that.

        After the reply: what is pushed to a subscription comes behind it.
        """
        session, options, override = (
            self._session,
            self._options(subscription),
            wanted.grant.override,
        )
        assert session is not None

        def switched(name: str) -> bool:
            own = None if override is None else getattr(override, name)
            return bool(getattr(options, name) if own is None else own)

        if switched("presence"):
            conn_info, chan_info = session.claims.info, wanted.grant.info
            info = ClientInfo(conn_info, chan_info) if conn_info or chan_info else None
            if info is not None and not self._service.presence.takes(info):
                info = None
            session.enter(subscription, info)
        if switched("join_leave") and (
            switched("force_push_join_leave")
            or (wanted.asked.join_leave and self._may_see_presence(subscription.channel))
        ):
            self._service.watch(subscription)

    def _may_see_presence(self, channel: ChannelName) -> bool:
        assert self._session is not None
        return (
            self._service.namespaces.why_not_see_presence(
                channel, self._session.user_id, is_subscribed=True
            )
            is None
        )

    def _unsubscribe(self, command: Command) -> bool:
        asked, session = command.request, self._session
        assert isinstance(asked, commands.Unsubscribe)
        assert session is not None
        if not asked.channel:
            raise Disconnected(codes.BAD_REQUEST)
        subscription = session.subscription_to(_channel(asked.channel))
        if subscription is not None:
            self._service.end(subscription)
            session.unsubscribe(subscription)
        self._reply(command, b"{}")
        return False

    # Publications.

    def _publish(self, command: Command) -> bool:
        asked, session = command.request, self._session
        assert isinstance(asked, commands.Publish)
        assert session is not None
        if not asked.channel:
            raise Disconnected(codes.BAD_REQUEST)
        channel = _channel(asked.channel)
        if asked.data is None:
            raise Refused(Errors.BAD_REQUEST)
        session.publish(
            channel, asked.data, partial(self._published, command), sender=self._sender(channel)
        )
        return True

    def _sender(self, channel: ChannelName) -> Sender:
        assert self._session is not None
        claims = self._session.claims
        subscription = self._session.subscription_to(channel)
        return Sender(
            claims.user_id,
            claims.name,
            self.connection.id,
            _value(claims.info),
            _value(details_of(subscription).grant.info),
        )

    def _published(self, command: Command, result: PublishResult) -> None:
        if isinstance(result, AppError):
            self._refuse(command, error_of(result))
        else:
            self._reply(command, b"{}")
        self._opened_commands().done(self._execute)

    # Asking.

    def _presence(self, command: Command) -> bool:
        return self._run(command, self._read_presence(command, self._seen(command)))

    async def _read_presence(self, command: Command, channel: ChannelName) -> None:
        clients = [
            b"%b:%b" % (
                json_of(each.connection),
                client_info(each.user_id, each.connection, *(each.info or ())),
            )
            for each in await self._clients_in(channel)
        ]  # fmt: skip
        self._reply(command, b'{"presence":{%b}}' % b",".join(clients))

    def _presence_stats(self, command: Command) -> bool:
        return self._run(command, self._read_presence_stats(command, self._seen(command)))

    async def _read_presence_stats(self, command: Command, channel: ChannelName) -> None:
        await self._is_seen_itself(channel)
        clients, users = self._service.presence.stats(channel)
        if self._is_seen_no_more(channel):
            seen = await self._clients_in(channel)
            clients, users = len(seen), len({each.user_id for each in seen})
        self._reply(command, b'{"num_clients":%d,"num_users":%d}' % (clients, users))

    async def _clients_in(self, channel: ChannelName) -> list[Client]:
        """Those who are there, as this client has to see it: itself as it knows to be."""
        await self._is_seen_itself(channel)
        clients = self._service.presence.clients(channel)
        if self._is_seen_no_more(channel):
            return [each for each in clients if each.connection != self.connection.id]
        return clients

    async def _is_seen_itself(self, channel: ChannelName) -> None:
        """Wait a moment for its own entry, if it has just come in."""
        session = self._session
        assert session is not None
        if session.is_subscribed(channel):
            seen = asyncio.Event()
            self._service.presence.when_present(
                channel,
                session.user_id,
                _OWN_ENTRY_SECONDS,
                lambda _is_there: seen.set(),
                connection=self.connection.id,
            )
            await seen.wait()

    def _is_seen_no_more(self, channel: ChannelName) -> bool:
        """Whether its own entry, if any is there still, is of before it left."""
        assert self._session is not None
        return not self._session.is_subscribed(channel)

    def _seen(self, command: Command) -> ChannelName:
        """The channel whose presence may be seen."""
        asked, session = command.request, self._session
        assert isinstance(asked, commands.Presence | commands.PresenceStats)
        assert session is not None
        if not asked.channel:
            raise Disconnected(codes.BAD_REQUEST)
        channel = _channel(asked.channel)
        refusal = self._service.namespaces.why_not_see_presence(
            channel, session.user_id, is_subscribed=session.is_subscribed(channel)
        )
        if refusal is not None:
            raise Refused(codes.ERROR_OF_REFUSAL[refusal])
        return channel

    def _history(self, command: Command) -> bool:
        asked, session = command.request, self._session
        assert isinstance(asked, commands.History)
        assert session is not None
        if not asked.channel:
            raise Disconnected(codes.BAD_REQUEST)
        channel = _channel(asked.channel)
        refusal = self._service.namespaces.why_not_read_history(
            channel, session.user_id, is_subscribed=session.is_subscribed(channel)
        )
        if refusal is not None:
            raise Refused(codes.ERROR_OF_REFUSAL[refusal])
        raise Refused(Errors.NOT_AVAILABLE)  # until history is read in pages

    # What isn't there.

    def _rpc(self, command: Command) -> bool:
        raise Refused(Errors.NOT_AVAILABLE)

    def _send(self, command: Command) -> bool:
        raise Disconnected(Close(3508, "not available"))

    # Tokens.

    def _refresh(self, command: Command) -> bool:
        asked = command.request
        assert isinstance(asked, commands.Refresh)
        if not asked.token:
            raise Disconnected(codes.BAD_REQUEST)
        return self._run(command, self._renew(command, asked.token))

    async def _renew(self, command: Command, token: str) -> None:
        session = self._session
        assert session is not None
        before = session.claims.channels.keys()
        try:
            await session.renew(token, allow_anonymous=self._service.allows_anonymous)
        except TokenExpired:
            raise Disconnected(codes.CONNECTION_EXPIRED) from None
        except AppError as error:
            raise Disconnected(
                codes.INTERNAL_ERROR if error_of(error) is Errors.INTERNAL else codes.INVALID_TOKEN
            ) from error
        if session.claims.channels.keys() != before:
            raise Disconnected(codes.INSUFFICIENT_STATE)
        ttl = _ttl(session.claims.expires_at)
        self._reply(command, _expiry(ttl))

    def _sub_refresh(self, command: Command) -> bool:
        asked, session = command.request, self._session
        assert isinstance(asked, commands.SubRefresh)
        assert session is not None
        if not asked.token:
            raise Refused(Errors.BAD_REQUEST)
        channel = _channel(asked.channel) if asked.channel else None
        return self._run(command, self._renew_subscription(command, channel, asked.token))

    async def _renew_subscription(
        self, command: Command, channel: ChannelName | None, token: str
    ) -> None:
        session = self._session
        assert session is not None
        if channel is not None and not session.is_subscribed(channel):
            raise Refused(Errors.PERMISSION_DENIED)
        authenticator = self._service.access.authenticator
        subscriber = Subscriber(session.user_id, self.connection.id, channel)
        try:
            claims = await authenticator.verify_subscription(token, subscriber)
            authenticator.confirm(claims)
        except TokenExpired:
            # An error would make the SDKs give the subscription up; so they fetch a new token.
            raise Disconnected(codes.SUBSCRIPTION_EXPIRED) from None
        except AppError as error:
            if error_of(error) in (Errors.INTERNAL, Errors.EXPIRED):
                raise
            raise Disconnected(codes.INVALID_TOKEN) from error
        subscription = session.subscription_to(claims.channel)
        if subscription is None:
            raise Refused(Errors.PERMISSION_DENIED)
        self._service.remember(subscription, claims.grant, claims.expires_at)
        self._reply(command, _expiry(_ttl(claims.expires_at)))


_SHARED_POLL = 4
_OWN_ENTRY_SECONDS = 1.0

_METHODS: Mapping[str, Callable[[CentrifugeClient, Command], bool]] = {
    "subscribe": CentrifugeClient._subscribe,
    "unsubscribe": CentrifugeClient._unsubscribe,
    "publish": CentrifugeClient._publish,
    "presence": CentrifugeClient._presence,
    "presence_stats": CentrifugeClient._presence_stats,
    "history": CentrifugeClient._history,
    "rpc": CentrifugeClient._rpc,
    "send": CentrifugeClient._send,
    "refresh": CentrifugeClient._refresh,
    "sub_refresh": CentrifugeClient._sub_refresh,
}


def _channel(name: str) -> ChannelName:
    try:
        return parse_channel(name)
    except BadChannelName:
        raise Refused(Errors.BAD_REQUEST) from None


def _granted(channel: ChannelName, asked: commands.Subscribe, claims: SubscriptionClaims) -> Wanted:
    return Wanted(channel, asked, claims.grant, expires_at=claims.expires_at, by_token=True)


def _judged(verify: Callable[[], SubscriptionClaims | None]) -> SubscriptionClaims | None:
    try:
        return verify()
    except TokenMismatch:
        raise Disconnected(codes.INVALID_TOKEN) from None


async def _judged_later(verifying: Coroutine[Any, Any, SubscriptionClaims]) -> SubscriptionClaims:
    try:
        return await verifying
    except TokenMismatch:
        raise Disconnected(codes.INVALID_TOKEN) from None


def _ttl(expires_at: float) -> int | None:
    """Whole seconds until then, at least 1; None if it never ends."""
    if expires_at == math.inf:
        return None
    return max(1, min(math.ceil(expires_at - our_clock()), _YEAR_SECONDS))


_YEAR_SECONDS = 365 * 24 * 3600


def _expiry(ttl: int | None) -> bytes:
    return b"{}" if ttl is None else b'{"expires":true,"ttl":%d}' % ttl


def _value(raw: bytes | None) -> object:
    return None if raw is None else pydantic_core.from_json(raw)
