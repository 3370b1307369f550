"""One tab in one room: how it gets in, keeps up, and is over."""

from collections.abc import Mapping
from typing import ClassVar

import structlog

from gateway.channels.registry import CATCHING_UP, Subscription
from gateway.errors import EndReason, MayNotSubscribe, TooManyConnections
from gateway.protocols.chat.close_codes import CLOSE_CODES
from gateway.protocols.chat.codec import PROTOCOL, BadCommand, decode_command, encode
from gateway.protocols.chat.frames import Authenticate, Reset
from gateway.session.arrival import Arrival
from gateway.session.clock import unix_now
from gateway.session.commands import Commands
from gateway.session.handshake import ChatHandshake
from gateway.session.lag import SlowConsumer
from gateway.session.parts import ChatParts
from gateway.session.rate import CONNECT_UNITS, units_of_replay
from gateway.session.replay import ConnectionLost, Replay
from gateway.session.surviving import isolate_failure
from gateway.transport.connection import Connection
from gateway.transport.frames import Close, Frame
from shared.contracts.channels import personal_channel
from shared.contracts.errors import AppError, Unavailable
from shared.contracts.ids import ChannelName, UserId, user_id_to_json
from shared.tokens.access_tokens import Claims, InvalidToken
from shared.web.user_rates import TooFast

log = structlog.get_logger(__name__)

_REFUSALS: dict[type[AppError], EndReason] = {
    InvalidToken: EndReason.INVALID_TOKEN,
    MayNotSubscribe: EndReason.INVALID_CHANNEL,
    TooManyConnections: EndReason.TOO_MANY_OF_USER,
    TooFast: EndReason.RATE_LIMIT,
}


class ChatSession:
    """The life of one `/ws/chat` connection: awaiting a token, arriving, live, lost.

    Nothing here waits: what takes its time calls back, or runs as work of the connection.
    So a session that idles is this object and nothing else.
    """

    protocol: ClassVar[str] = PROTOCOL
    close_codes: ClassVar[Mapping[EndReason, Close]] = CLOSE_CODES

    __slots__ = (
        "_awaits_token", "_claims", "_commands", "_handshake", "_is_welcomed", "_parts",
        "_personal", "_room", "_way", "connection",
    )  # fmt: skip

    def __init__(self, connection: Connection, handshake: ChatHandshake, parts: ChatParts) -> None:
        self.connection = connection
        self._handshake: ChatHandshake | None = handshake
        """What it asked for, until it has that."""
        self._parts = parts
        self._awaits_token = False
        self._is_welcomed = False
        self._claims: Claims | None = None
        self._room: Subscription | None = None
        self._personal: Subscription | None = None
        self._way: Replay | None = None
        self._commands: Commands | None = None
        """None before the first: most only listen."""

    # As the registry knows it.

    @property
    def claims(self) -> Claims:
        assert self._claims is not None  # who isn't admitted isn't registered
        return self._claims

    @property
    def user_id(self) -> UserId:
        return self.claims.user_id

    def send(self, frame: Frame) -> None:
        if not (self.connection.is_stalled and self._is_live):
            self.connection.send(frame)
        elif not self.connection.offer(frame):
            self._fall_behind(self.place)  # it is told anew who is here

    def offer(self, frame: Frame, offset: int) -> None:
        if not self.connection.offer(frame):
            self._fall_behind(offset - 1)

    def close(self, reason: EndReason) -> None:
        self.connection.close(reason)

    def cut(self, reason: EndReason) -> None:
        self.connection.cut(reason)

    def abandon(self, error: Exception, event: str) -> None:
        self.connection.abandon(error, event)

    def end_with_token(self) -> None:
        self.connection.close_after(self.claims.expires_at - unix_now(), EndReason.TOKEN_EXPIRED)

    # As its connection knows it.

    def open(self) -> None:
        """Begin, with a token or waiting for one."""
        isolate_failure(self.connection, self._begin)

    def _begin(self) -> None:
        asked = self._handshake
        assert asked is not None
        no_room = self._parts.occupancy.enter(self, asked.address)
        if no_room is not None:
            self.close(no_room)
        elif asked.channel is None:
            self.close(EndReason.INVALID_CHANNEL)
        elif self._parts.not_ready():
            self.close(EndReason.NOT_READY)
        elif asked.token is not None:
            self._sign_in(asked.token, asked, asked.channel)
        else:
            self._awaits_token = True
        if self._claims is None:  # no token yet, or its issuer is asked for keys
            self.connection.close_after(self._parts.settings.auth_seconds, EndReason.INVALID_TOKEN)

    def received(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self.close(EndReason.UNSUPPORTED_DATA)
        elif self._awaits_token:
            self._take_token(message)
        else:
            if self._commands is None:
                self._commands = Commands(self, self._parts)
                if self._is_welcomed:
                    self._commands.open()
            self._commands.take(message)

    def lost(self, close: Close) -> None:
        self._parts.occupancy.leave(self)
        self._parts.manager.disconnect(self)
        if self._claims is None or self._room is None:
            # A peer may leave with any close, also with one of ours.
            closing = self.connection.closing
            self._parts.metrics.refused(closing.code if isinstance(closing, Close) else closing)
            log.debug("refused", connection_id=self.connection.id, reason=close.reason)
            self.let_go()
            return
        self._parts.presence.leave(self._room.channel, self._claims.user_id, self.connection.id)
        log.debug(  # not info: a line costs a third of what a connect does
            "disconnected",
            connection_id=self.connection.id,
            user_id=user_id_to_json(self._claims.user_id),
            code=int(close.code),
            reason=close.reason,
        )
        if self._commands is None or self._commands.is_idle:
            self.let_go()

    def start_over(self, reason: str) -> None:
        """The stream's offsets began anew, or some are lost to everybody here."""
        if isinstance(self._way, SlowConsumer) and not self._way.is_live:
            self._way.start_over(reason)
        elif self._is_live:  # who arrives finds out by itself
            for subscription in self._parts.manager.subscriptions_of(self):
                subscription.live_from = 0
            self._parts.metrics.resets.inc()
            self.connection.send(encode(Reset(reason=reason)))

    # As its commands know it.

    @property
    def admitted_as(self) -> UserId | None:
        return None if self._claims is None else self._claims.user_id

    @property
    def room(self) -> ChannelName:
        assert self._room is not None  # no command is executed before the welcome
        return self._room.channel

    def renew(self, claims: Claims) -> None:
        self._claims = claims
        self._parts.manager.connect(self)
        self.end_with_token()

    def let_go(self) -> None:
        """Leave nothing that refers to itself: it would wait for the collector, with its socket."""
        self._room = self._personal = self._way = self._commands = None

    # Signing in.

    def _take_token(self, message: str) -> None:
        asked = self._handshake
        try:
            command = decode_command(message)
        except BadCommand:
            command = None
        if not isinstance(command, Authenticate) or asked is None or asked.channel is None:
            self.close(EndReason.INVALID_TOKEN)
            return
        self._awaits_token = False
        if self._parts.not_ready():
            self.close(EndReason.NOT_READY)
        else:
            self._sign_in(command.token, asked, asked.channel)

    def _sign_in(self, token: str, asked: ChatHandshake, channel: ChannelName) -> None:
        """Admit at once whom nothing has to be awaited for; the gateway is ready."""
        try:
            claims = self._parts.guard.verify_at_once(token)
            if claims is not None:
                self._admit(claims, asked, channel)
                return
        except AppError as error:
            self._turn_away(error)
            return
        self.connection.start(self._sign_in_later(token, asked, channel))

    async def _sign_in_later(self, token: str, asked: ChatHandshake, channel: ChannelName) -> None:
        """When the token's issuer has been asked for its keys."""
        try:
            claims = await self._parts.guard.verify(token)
            if not self.connection.is_open:
                return
            if self._parts.not_ready():  # such as: what was revoked may not have reached us
                raise Unavailable("not ready")
            self._parts.guard.confirm(claims)
            self._admit(claims, asked, channel)
        except AppError as error:
            self._turn_away(error)

    def _turn_away(self, error: AppError) -> None:
        end = _REFUSALS.get(type(error), EndReason.NOT_READY)
        if end is EndReason.NOT_READY:
            log.info("sign_in_failed", connection_id=self.connection.id, reason=str(error))
        self.close(end)

    def _admit(self, claims: Claims, asked: ChatHandshake, channel: ChannelName) -> None:
        """Register the connection, in the step in which its claims were found to hold."""
        parts = self._parts
        options = parts.namespaces.options_of(channel)
        if options is None or not parts.namespaces.may_subscribe(channel, claims.user_id):
            raise MayNotSubscribe(f"no subscribing to {channel}")
        if parts.user_limit.is_reached(claims.user_id):
            raise TooManyConnections(f"user {claims.user_id} has enough")
        parts.user_rates.charge(claims.user_id, CONNECT_UNITS + units_of_replay(asked.history))
        self._claims = claims
        self.end_with_token()
        parts.manager.connect(self)
        self._room = parts.manager.subscribe(self, channel)
        self._personal = parts.manager.subscribe(self, personal_channel(claims.user_id))
        if options.presence:
            parts.presence.enter(channel, claims.user_id, claims.name, self.connection.id)
        self._way = arrival = Arrival(
            self.connection, parts, asked, claims, self._room, self._personal,
            options=options, on_welcomed=self._welcomed, on_live=self._arrived,
        )  # fmt: skip
        log.debug(
            "connected",
            connection_id=self.connection.id,
            user_id=user_id_to_json(claims.user_id),
            session_id=claims.session_id,
        )
        arrival.begin()

    def _welcomed(self) -> None:
        self._is_welcomed = True
        if self._commands is not None:
            self._commands.open()

    def _arrived(self) -> None:
        self._way = self._handshake = None

    # Keeping up.

    @property
    def _is_live(self) -> bool:
        return self._room is not None and self._room.live_from != CATCHING_UP

    @property
    def place(self) -> int:
        """Nothing at or below this offset is missing from what the tab was sent."""
        if self._way is not None and not self._way.is_live:
            return self._way.sent_up_to
        assert self._room is not None  # there is no welcome without one
        return max(self._parts.feed.position, self._room.live_from - 1)

    def _fall_behind(self, place: int) -> None:
        """Get nothing live from now on, and what comes after the place at the tab's own pace."""
        assert self._room is not None
        assert self._personal is not None  # nobody offers anything before both are there
        options = self._parts.namespaces.options_of(self._room.channel)
        assert options is not None
        lag = SlowConsumer(
            self.connection, self._parts, self._room, self._personal, options, sent_up_to=place
        )
        lag.begin()
        self._way = lag
        self.connection.start(self._catch_up(lag))

    async def _catch_up(self, lag: SlowConsumer) -> None:
        try:
            await lag.run_to_live()
        except ConnectionLost:
            return
        if self._way is lag:  # else it has fallen behind again
            self._way = None
