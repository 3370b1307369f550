"""One tab in one room: who it is, what it may do, and what becomes of each of its commands."""

import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, ClassVar

import structlog
from pydantic import BaseModel

from gateway.channels.manager import CATCHING_UP, Subscription
from gateway.codecs.chat import (
    PROTOCOL,
    BadCommand,
    ChatCommand,
    decode_command,
    encode,
    too_fast,
)
from gateway.codecs.chat_frames import Ack, Authenticate, Error, Ping, Pong, PublishMessage, Reset
from gateway.engine.connection import Connection
from gateway.engine.frame import Frame
from gateway.errors import (
    BINARY_FRAME,
    INVALID_ROOM,
    INVALID_TOKEN,
    NOT_READY,
    RATE_LIMIT,
    TOKEN_EXPIRED,
    TOO_MANY_OF_USER,
    Close,
    MayNotPublish,
    MayNotSubscribe,
    OtherUser,
    TooManyConnections,
    error_code,
)
from gateway.session.arrival import Arrival
from gateway.session.commands import CommandQueue
from gateway.session.handshake import ChatHandshake
from gateway.session.lag import Lag
from gateway.session.parts import ChatParts
from gateway.session.rate import CLOSE, EXECUTE, CommandRate, Verdict
from gateway.session.replay import Gone, Replay
from gateway.session.surviving import survive
from shared.channels import personal_channel
from shared.errors import AppError, Unavailable
from shared.ids import ChannelName, UserId
from shared.publications import Sender
from shared.tokens import Claims, InvalidToken

log = structlog.get_logger(__name__)


class ChatSession:
    """The life of one `/ws/chat` connection: awaiting a token, arriving, live, lost.

    Nothing here waits but what a command or the arrival needs, and that runs as
    work of the connection: a session that idles is this object and nothing else.
    """

    protocol: ClassVar[str] = PROTOCOL

    __slots__ = (
        "_awaits_token", "_claims", "_commands", "_handshake", "_is_welcomed", "_parts",
        "_personal", "_rate", "_room", "_way", "connection",
    )  # fmt: skip

    def __init__(self, connection: Connection, handshake: ChatHandshake, parts: ChatParts) -> None:
        self.connection = connection
        self._handshake: ChatHandshake | None = handshake
        """What it asked for, until it has that."""
        self._parts = parts
        self._awaits_token = False
        self._is_welcomed = False
        self._claims: Claims | None = None
        self._rate: CommandRate | None = None
        self._room: Subscription | None = None
        self._personal: Subscription | None = None
        self._way: Replay | None = None
        self._commands: CommandQueue[ChatCommand | BadCommand] | None = None
        """What waits and is being done; none while there is nothing to do."""

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
            self._fall_behind(self._place)  # it is told anew who is here

    def offer(self, frame: Frame, offset: int) -> None:
        if not self.connection.offer(frame):
            self._fall_behind(offset - 1)

    def close(self, close: Close) -> None:
        self.connection.close(*close)

    def cut(self, close: Close) -> None:
        self.connection.cut(*close)

    # As its connection knows it.

    def open(self) -> None:
        """Begin, with a token or waiting for one."""
        survive(self.connection, self._begin)

    def _begin(self) -> None:
        asked = self._handshake
        assert asked is not None
        no_room = self._parts.occupancy.enter(self, asked.address)
        if no_room is not None:
            self.close(no_room)
        elif asked.channel is None:
            self.close(INVALID_ROOM)
        elif self._parts.not_ready():
            self.close(NOT_READY)
        elif asked.token is not None:
            self._sign_in(asked.token, asked, asked.channel)
        else:
            self._awaits_token = True
            deadline = _now() + self._parts.settings.auth_seconds
            self.connection.close_at(deadline, *INVALID_TOKEN)

    def received(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self.close(BINARY_FRAME)
            return
        command: ChatCommand | BadCommand
        try:
            command = decode_command(message)
        except BadCommand as bad:
            command = bad
        if self._awaits_token:
            self._take_token(command)
            return
        self._parts.metrics.commands.labels(_label(command)).inc()
        verdict = self._pace()
        if verdict is not EXECUTE:
            if verdict is CLOSE:
                self.close(RATE_LIMIT)
                return
            command = too_fast(command)
        if isinstance(command, Ping) and self._is_welcomed:
            self._pong()  # not in its turn: it asks whether we are there
        else:
            self._queue().put(command)

    def lost(self, close: Close) -> None:
        self._parts.occupancy.leave(self)
        self._parts.manager.disconnect(self)
        if self._claims is None or self._room is None:
            self._parts.metrics.refused(close)
            log.debug("refused", connection_id=self.connection.id, reason=close.reason)
            self._let_go()
            return
        self._parts.presence.leave(self._room.channel, self._claims.user_id, self.connection.id)
        log.info(
            "disconnected",
            connection_id=self.connection.id,
            user_id=self._claims.user_id,
            code=int(close.code),
            reason=close.reason,
        )
        if self._commands is None or not self._is_welcomed:
            self._let_go()

    def _let_go(self) -> None:
        """Leave nothing that refers to itself: it would wait for the collector, with its socket."""
        self._room = self._personal = self._way = self._commands = None

    def start_over(self, reason: str) -> None:
        """The stream's offsets began anew, or some are lost to everybody here."""
        if isinstance(self._way, Lag) and not self._way.is_live:
            self._way.start_over(reason)
        elif self._is_live:  # who arrives finds out by itself
            for subscription in self._parts.manager.subscriptions_of(self):
                subscription.live_from = 0
            self._parts.metrics.resets.inc()
            self._tell(Reset(reason=reason))

    # Signing in.

    def _take_token(self, command: ChatCommand | BadCommand) -> None:
        asked = self._handshake
        if not isinstance(command, Authenticate) or asked is None or asked.channel is None:
            self.close(INVALID_TOKEN)
            return
        self._awaits_token = False
        if self._parts.not_ready():
            self.close(NOT_READY)
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
        match error:
            case InvalidToken():
                self.close(INVALID_TOKEN)
            case MayNotSubscribe():
                self.close(INVALID_ROOM)
            case TooManyConnections():
                self.close(TOO_MANY_OF_USER)
            case Unavailable():
                log.info("sign_in_failed", connection_id=self.connection.id, reason=str(error))
                self.close(NOT_READY)
            case _:
                raise error

    def _admit(self, claims: Claims, asked: ChatHandshake, channel: ChannelName) -> None:
        """Register the connection, in the step in which its claims were found to hold."""
        parts = self._parts
        options = parts.namespaces.options_of(channel)
        if options is None or not parts.namespaces.may_subscribe(channel, claims.user_id):
            raise MayNotSubscribe(f"no subscribing to {channel}")
        if parts.user_limit.is_reached(claims.user_id):
            raise TooManyConnections(f"user {claims.user_id} has enough")
        self._claims = claims
        self.connection.close_at(claims.expires_at, *TOKEN_EXPIRED)
        parts.manager.connect(self)
        self._room = parts.manager.subscribe(self, channel)
        self._personal = parts.manager.subscribe(self, personal_channel(claims.user_id))
        if options.presence:
            parts.presence.enter(channel, claims.user_id, claims.name, self.connection.id)
        self._way = arrival = Arrival(
            self.connection, parts, asked, claims, self._room, self._personal,
            options=options, on_welcomed=self._welcomed, on_live=self._arrived,
        )  # fmt: skip
        log.info(
            "connected",
            connection_id=self.connection.id,
            user_id=claims.user_id,
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
    def _place(self) -> int:
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
        lag = Lag(
            self.connection, self._parts, self._room, self._personal, options, sent_up_to=place
        )
        lag.begin()
        self._way = lag
        self.connection.start(self._catch_up(lag))

    async def _catch_up(self, lag: Lag) -> None:
        try:
            await lag.run_to_live()
        except Gone:
            return
        if self._way is lag:  # else it has fallen behind again
            self._way = None

    # Commands.

    def _queue(self) -> CommandQueue[ChatCommand | BadCommand]:
        if self._commands is None:
            self._commands = CommandQueue(
                self.connection,
                self._execute,
                max_waiting=self._parts.settings.max_waiting_commands,
                on_done=self._drop_queue,
            )
            if self._is_welcomed:
                self._commands.open()
        return self._commands

    def _drop_queue(self) -> None:
        """It is larger than all the rest of an idle session."""
        self._commands = None
        if self.connection.is_lost:
            self._let_go()

    def _pace(self) -> Verdict:
        if self._rate is None:  # who only listens needs none
            self._rate = CommandRate(self._parts.rate_limits)
        return self._rate.take(time.monotonic_ns())

    async def _execute(self, command: ChatCommand | BadCommand) -> None:
        match command:
            case BadCommand():
                self._refuse(command.code, command.message, command.command_id)
            case Ping():
                self._pong()
            case PublishMessage():
                await self._answer(command, self._publish(command))
            case Authenticate():
                await self._answer(command, self._prolong(command))

    async def _answer(
        self, command: PublishMessage | Authenticate, work: Coroutine[Any, Any, None]
    ) -> None:
        try:
            await work
        except AppError as error:
            self._refuse(error_code(error), str(error), command.id)

    async def _publish(self, command: PublishMessage) -> None:
        assert self._room is not None  # no command is executed before the welcome
        room, claims = self._room.channel, self.claims
        if not self._parts.namespaces.may_publish(room, claims.user_id):
            raise MayNotPublish("only services publish here")
        self._parts.guard.confirm(claims)  # what waited in the queue of who has left, too
        sender = Sender(user_id=claims.user_id, name=claims.name)
        offset = await self._parts.publisher.publish_by_user(
            room, sender, {"body": command.body}, client_id=command.id
        )
        if command.id is not None:
            self._tell(Ack(id=command.id, offset=offset))

    async def _prolong(self, command: Authenticate) -> None:
        claims = await self._parts.guard.verify(command.token)
        if not self.connection.is_open:
            return
        self._parts.guard.confirm(claims)
        if claims.user_id != self.user_id:
            raise OtherUser("the token is of another user")
        self._claims = claims
        self._parts.manager.connect(self)
        self.connection.close_at(claims.expires_at, *TOKEN_EXPIRED)

    def _pong(self) -> None:
        self._tell(Pong(offset=self._place))

    def _refuse(self, code: str, message: str, command_id: str | None) -> None:
        self._parts.metrics.errors.labels(code).inc()
        self._tell(Error(code=code, message=message, id=command_id))

    def _tell(self, message: BaseModel) -> None:
        self.connection.send(encode(message))


def _label(command: ChatCommand | BadCommand) -> str:
    return "bad" if isinstance(command, BadCommand) else command.type


def _now() -> float:
    return datetime.now(UTC).timestamp()
