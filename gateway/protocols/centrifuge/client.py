"""One client of the protocol: how it connects, the turn of its commands, its end."""

import secrets
import time
from collections.abc import Callable, Mapping
from typing import ClassVar

import structlog

from gateway.channels.connection import isolate_failure
from gateway.channels.registry import Subscription
from gateway.errors import EndReason, MayNotSubscribe
from gateway.protocols.centrifuge import codes, commands, methods, refreshing, subscriptions
from gateway.protocols.centrifuge.codec import TRUE, Codec, an_object, if_true, json_of
from gateway.protocols.centrifuge.codes import (
    CLOSE_CODES,
    Disconnected,
    ErrorCode,
    Errors,
    Refused,
    close_of,
    error_of,
)
from gateway.protocols.centrifuge.commands import (
    NOTHING_ASKED,
    BadCommand,
    Command,
    read_commands,
    read_connect,
)
from gateway.protocols.centrifuge.dialogue import Dialogue, checked_channel, ttl_of
from gateway.protocols.centrifuge.service import CentrifugeService
from gateway.protocols.centrifuge.staying import Staying
from gateway.protocols.centrifuge.subscriptions import (
    Missed,
    Wanted,
    begin_subscription,
    count_of,
    enter,
    missing_from,
    subscribed,
)
from gateway.proxies.errors import (
    ApplicationAway,
    ApplicationDisconnects,
    ApplicationRefuses,
    CannotBeAsked,
    TooManyAsked,
)
from gateway.proxies.headers import NO_HEADERS, Headers
from gateway.proxies.proxies import Caller
from gateway.session.buckets import Buckets
from gateway.session.command_queue import CommandQueue
from gateway.session.missed import Position
from gateway.session.rate import (
    CLOSE,
    CONNECT_UNITS,
    EXECUTE,
    CommandRate,
    units_of_replay,
    units_of_text,
)
from gateway.session.recovery import ConnectionLost
from gateway.session.session import Session
from gateway.transport.connection import Connection
from gateway.transport.frames import Close, Frame
from hubbub_client.contracts.channels import personal_channel
from hubbub_client.contracts.errors import AppError
from hubbub_client.contracts.ids import ANONYMOUS, ChannelName, user_id_to_json
from hubbub_client.contracts.json_values import RawJson
from hubbub_client.jetstream.clock import our_clock
from shared.tokens.claims import NO_GRANT, Claims, Grant
from shared.tokens.errors import GrantExpired, TokenExpired

log = structlog.get_logger(__name__)

METHODS: Mapping[str, Callable[[Dialogue, Command], bool]] = {
    "subscribe": subscriptions.subscribe,
    "unsubscribe": subscriptions.unsubscribe,
    "publish": methods.publish,
    "presence": methods.presence,
    "presence_stats": methods.presence_stats,
    "history": methods.history,
    "rpc": methods.rpc,
    "send": methods.send,
    "refresh": refreshing.refresh,
    "sub_refresh": refreshing.sub_refresh,
}
"""All but `connect`. Each returns whether the command is under way."""
_COUNT_WITHOUT_THEIR_CLIENT = {"publish", "rpc"}
"""What it said before it left; there is nobody for whom to do the rest."""


class CentrifugeClient(Dialogue):
    """What is above the connection of a client. Nothing here waits."""

    close_codes: ClassVar[Mapping[EndReason, Close]] = CLOSE_CODES

    __slots__ = (
        "_address", "_connect", "_data", "_ephemeral_rate", "_free_subscribes", "_is_refused",
        "_secret", "_staying",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        service: CentrifugeService,
        codec: Codec,
        headers: Headers = NO_HEADERS,
        *,
        address: str | None,
    ) -> None:
        super().__init__(connection, service, codec, headers)
        self._address = address
        self._connect: Command | None = None
        """The command that it began with, until it is answered."""
        self._data: RawJson | None = None
        """What the application has for it, until `connect` is answered."""
        self._staying: Staying | None = None
        self._is_refused = False
        """Whether `connect` was answered with an error."""
        self._secret: str | None = None
        """The session by which other requests name this connection."""
        self._free_subscribes = service.channel_limit
        """A client that comes back subscribes to all its channels at once."""
        self._ephemeral_rate: CommandRate | None = None
        """None before it publishes what isn't stored: few do."""

    @property
    def ping(self) -> Frame:
        return self.codec.ping

    def name_session(self) -> None:
        """Let other requests name its session: those with its commands, and those of services."""
        self._secret = secrets.token_hex(16)
        self.service.named[self._secret] = self.connection

    @property
    def _is_emulated(self) -> bool:
        return self._secret is not None and not self.codec.is_unidirectional

    def open(self) -> None:
        """Wait for `connect`."""
        isolate_failure(self.connection, self._begin)

    def _begin(self) -> None:
        is_full = self.service.access.occupancy.enter(self.connection, self._address)
        if is_full is not None:
            self.connection.close(is_full)
        else:
            self.connection.close_after(self.service.connect_seconds, EndReason.INVALID_TOKEN)

    def received(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self.connection.close(EndReason.UNSUPPORTED_DATA)
            return
        try:
            if self.codec.is_unidirectional:
                self._connect_alone(message)
                return
            if self._is_refused:
                raise BadCommand("it goes on, though it may not connect")
            for command, line in read_commands(message):
                if not self.connection.is_open or self._is_refused:
                    return
                self._take(command, line)
        except BadCommand as bad:
            log.debug("bad_command", connection_id=self.connection.id, reason=str(bad))
            self.connection.close(codes.BAD_REQUEST)

    def farewell(self, close: Close) -> Frame | None:
        if not self.codec.says_farewell or self._is_refused:
            return None
        body = b'{"code":%d,"reason":%b}' % (close.code, json_of(close.reason))
        return self.codec.push(None, b"disconnect", body)

    def lost(self, close: Close) -> None:
        self.service.access.occupancy.leave(self.connection)
        if self._secret is not None:
            self.service.named.pop(self._secret, None)
        if self._staying is not None:
            self._staying.end()
            self._staying = None
        session = self._session
        if session is None:
            closing = self.connection.closing
            reason = closing.code if isinstance(closing, Close) else closing
            self.service.metrics.refused(reason)
            log.debug("refused", connection_id=self.connection.id, reason=close.reason)
            return
        self.left = frozenset(each.channel for each in session.subscriptions)
        for subscription in session.subscriptions:
            self.service.end(subscription)
        session.end()
        log.debug(
            "disconnected",
            connection_id=self.connection.id,
            user_id=session.user_id and user_id_to_json(session.user_id),
            code=int(close.code),
            reason=close.reason,
        )

    def _connect_alone(self, message: str) -> None:
        """Where only the server speaks, the first message is the request to connect."""
        if self._connect is None and self._session is None:
            self._connect = read_connect(message)
            self._sign_in(self._connect.request)
        else:
            self._charge_message()

    # In their turn.

    def _take(self, command: Command, line: str) -> None:
        if not command.method:
            if command.id:
                raise BadCommand("no method")
            self._charge_message()
        elif self._connect is None and self._session is None:
            if command.method != "connect":
                raise BadCommand("a command before connect")
            self._connect = command
            self._sign_in(command.request)
        elif command.method == "connect":
            raise BadCommand("connect twice")
        else:
            self._take_in_turn(command, line)

    def _charge_message(self) -> None:
        """One that asks for nothing, such as a pong, counts all the same."""
        if self._opened_commands().rate.take(time.monotonic_ns()) is CLOSE:
            self.connection.close(EndReason.RATE_LIMIT)

    def _take_in_turn(self, command: Command, line: str) -> None:
        queue, now = self._opened_commands(), time.monotonic_ns()
        self.service.metrics.commands.labels(command.method).inc()
        service, rate, verdict = self.service, queue.rate, EXECUTE
        buckets = service.access.buckets
        if self._is_ephemeral(command):
            rate, buckets = self._opened_ephemeral_rate(), service.ephemeral_buckets
        if command.method == "subscribe" and self._free_subscribes:
            self._free_subscribes -= 1
        else:
            verdict = rate.take(now)
        if verdict is EXECUTE and not self._can_pay(buckets, line, now):
            verdict = rate.refuse()
        if verdict is CLOSE:
            self.connection.close(EndReason.RATE_LIMIT)
        elif verdict is EXECUTE:
            queue.put(command, self.execute)
        else:
            self.refuse(command, Errors.TOO_MANY_REQUESTS)

    def _is_ephemeral(self, command: Command) -> bool:
        asked = command.request
        return isinstance(asked, commands.Publish) and self.service.namespaces.is_ephemeral(
            ChannelName(asked.channel)
        )

    def _opened_ephemeral_rate(self) -> CommandRate:
        if self._ephemeral_rate is None:
            self._ephemeral_rate = CommandRate(self.service.ephemeral_limits)
        return self._ephemeral_rate

    def _can_pay(self, buckets: Buckets, line: str, now: int) -> bool:
        if self._session is None:
            return True  # at most as many as may wait
        return not buckets.take(self._session, units_of_text(line), now)

    def _opened_commands(self) -> CommandQueue[Command]:
        if self._commands is None:
            self._commands = CommandQueue(
                self.connection,
                self.service.rate_limits,
                max_waiting=self.service.max_waiting_commands,
            )
            if self._session is not None and self._connect is None:
                self._commands.open(self.execute)
        return self._commands

    def execute(self, command: Command) -> bool:
        if not self.connection.is_open and command.method not in _COUNT_WITHOUT_THEIR_CLIENT:
            return False
        return self.attempt(command, METHODS[command.method])

    # Connect.

    def _sign_in(self, asked: commands.Request) -> None:
        assert isinstance(asked, commands.Connect)
        access = self.service.access
        if asked.headers:
            self.headers += self.service.proxies.headers.emulated(asked.headers)
        if access.not_ready():
            self.connection.close(EndReason.NOT_READY)
        elif asked.token:
            access.sign_in(
                asked.token,
                self.connection,
                admit=self._admit,
                refuse=self._refuse_entry,
                allow_anonymous=self.service.allows_anonymous,
            )
        elif self.service.proxies.asks_connect:
            # However late it came, there is an answer by then.
            seconds = 2 * self.service.proxies.limits.timeout_seconds
            self.connection.close_after(seconds, EndReason.NOT_READY)
            self.connection.start(self._ask_who_it_is(asked))
        else:
            self._admit_anonymous()

    async def _ask_who_it_is(self, asked: commands.Connect) -> None:
        command = self._connect
        assert command is not None
        try:
            admission = await self.service.proxies.connect(
                Caller(self.connection.id, self.codec.transport, headers=self.headers),
                address=self._address,
                name=asked.name,
                version=asked.version,
                data=asked.data,
                channels=[*asked.subs],
            )
            if not self.connection.is_open:
                return
            if self.service.access.not_ready():  # such as: it is draining now
                self.connection.close(EndReason.NOT_READY)
            elif admission is None:
                self._admit_anonymous()
            elif admission.claims.expires_at <= our_clock():
                self.refuse(command, Errors.EXPIRED)
            else:
                self.service.access.authenticator.confirm(admission.claims)
                self._data = admission.data
                self._admit(admission.claims)
        except (
            ApplicationAway,
            TooManyAsked,
            ApplicationRefuses,
            ApplicationDisconnects,
            CannotBeAsked,
        ) as failure:
            self.fail(command, failure)
        except AppError as error:
            self._refuse_entry(error)

    def _admit_anonymous(self) -> None:
        """Whoever it is that nobody knows."""
        if not self.service.allows_anonymous:
            self.connection.close(codes.BAD_REQUEST)
            return
        try:
            self._admit(self.service.anonymous_claims())
        except AppError as error:
            self._refuse_entry(error)

    def _refuse(self, command: Command, error: ErrorCode, label: str, close: Close) -> None:
        super()._refuse(command, error, label, close)
        if command is self._connect and not self.codec.is_unidirectional:
            self._is_refused = True
            if self._is_emulated:  # there is no more to say; on a WebSocket the client leaves
                self.connection.close(EndReason.INVALID_TOKEN)

    def _refuse_entry(self, error: AppError) -> None:
        command = self._connect
        assert command is not None
        if isinstance(error, TokenExpired | GrantExpired | MayNotSubscribe):
            self.refuse(command, error_of(error))
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
            self.refuse(command, refused.error)
        except Disconnected as disconnected:
            self.connection.close(disconnected.close)

    def _begin_session(self, claims: Claims, command: Command) -> None:
        asked = command.request
        assert isinstance(asked, commands.Connect)
        session = Session(self.connection, claims, self.service.kind_of(self.codec))
        session.admit(CONNECT_UNITS + units_of_replay(len(asked.subs)))
        wanted = self._server_side(session, asked)
        session.begin()
        self._session = session
        if self.service.proxies.asks_refresh and not claims.is_of_token:
            self._staying = Staying(self)
            self._staying.begin()
        log.debug(
            "connected",
            connection_id=self.connection.id,
            user_id=session.user_id and user_id_to_json(session.user_id),
            session_id=claims.session_id,
        )
        subscriptions = {begin_subscription(self, each): each for each in wanted}
        positions = missing_from(self, subscriptions)
        recent = session.recent(positions)
        if recent is not None:
            self._connected(subscriptions, recent)
        else:
            self.service.hold(session)
            self.connection.start(self._connect_later(subscriptions, positions))

    def _server_side(self, session: Session, asked: commands.Connect) -> list[Wanted]:
        """What the connection is subscribed to without asking, and what it asks for at once.

        Raises:
            MayNotSubscribe: the token names a channel that there is not.
            Disconnected: they are too many.
        """
        granted = dict(session.claims.channels)
        wanted: dict[ChannelName, Wanted] = {}

        def want(channel: ChannelName, grant: Grant, *, by_token: bool) -> None:
            held = asked.subs.get(channel)
            position = NOTHING_ASKED if held is None else held.as_subscribe(channel)
            options = session.options_of(channel, by_token=by_token)
            wanted[channel] = Wanted(channel, options, position, grant, is_server_side=True)

        if session.user_id != ANONYMOUS:
            want(personal_channel(session.user_id), NO_GRANT, by_token=False)
        for channel, grant in granted.items():
            want(channel, grant, by_token=True)
        for name in asked.subs:
            channel = checked_channel(name)
            if channel not in wanted:
                refusal = self.service.namespaces.why_not_subscribe(channel, session.user_id)
                if refusal is None:
                    want(channel, NO_GRANT, by_token=False)
        if len(wanted) > self.service.channel_limit:
            raise Disconnected(codes.CHANNEL_LIMIT)
        return list(wanted.values())

    async def _connect_later(
        self,
        subscriptions: Mapping[Subscription, Wanted],
        positions: Mapping[Subscription, Position | None],
    ) -> None:
        assert self._session is not None
        try:
            missed = await self._session.missed(positions)
            if self.connection.is_open:
                self._connected(subscriptions, missed)
        except ConnectionLost:
            return
        except AppError as error:
            self.connection.close(close_of(error))
        finally:
            self.service.release(self._session)

    def _connected(
        self,
        subscriptions: Mapping[Subscription, Wanted],
        missed: Mapping[Subscription, Missed],
    ) -> None:
        command, session = self._connect, self._session
        assert command is not None
        assert session is not None
        session.pay_for(sum(map(count_of, missed.values())))
        subs = [
            b"%b:%b" % (
                json_of(wanted.channel),
                subscribed(self, subscription, wanted, missed.get(subscription)),
            )
            for subscription, wanted in subscriptions.items()
        ]  # fmt: skip
        service = self.service
        # Who came without a token has none to refresh; at the end the client comes again.
        ttl = ttl_of(session.claims.expires_at) if session.claims.is_of_token else None
        result = an_object(
            (b"client", json_of(self.connection.id)),
            (b"version", json_of(service.version)),
            (b"expires", if_true(ttl is not None)),
            (b"ttl", None if ttl is None else b"%d" % ttl),
            (b"data", self._data),
            (b"subs", b"{%b}" % b",".join(subs) if subs else None),
            (b"ping", b"%d" % service.ping_seconds),
            (b"pong", None if self.codec.is_unidirectional else TRUE),
            (b"session", None if self._secret is None else json_of(self._secret)),
            (b"node", json_of(service.cluster.node) if self._is_emulated else None),
        )
        self._connect = self._data = None
        if not service.proxies.urls.show_headers_later:
            self.headers = NO_HEADERS
        if self.codec.is_unidirectional:
            self.connection.send(self.codec.push(None, b"connect", result))
        else:
            self.reply(command, result)
        for subscription, wanted in subscriptions.items():
            enter(self, subscription, wanted)
        if self._commands is not None:
            self._commands.open(self.execute)
