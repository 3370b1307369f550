"""One tab at `/ws/chat`: its token, its arrival, its commands, its end."""

import time
from collections.abc import Mapping
from enum import Enum
from functools import partial
from typing import ClassVar

import structlog
from pydantic import BaseModel

from gateway.channels.connection import isolate_failure
from gateway.channels.registry import Subscription
from gateway.errors import EndReason, error_code
from gateway.protocols.chat.arrival import Arrival
from gateway.protocols.chat.close_codes import CLOSE_CODES
from gateway.protocols.chat.codec import (
    PUBLICATION_FORMATS,
    BadCommand,
    ChatCommand,
    decode_command,
    encode,
    encode_ack,
    too_fast,
)
from gateway.protocols.chat.frames import Authenticate, Error, Ping, Pong, PublishMessage
from gateway.protocols.chat.handshake import ChatHandshake, read_handshake
from gateway.protocols.chat.service import ChatService
from gateway.session.access import end_reason
from gateway.session.command_queue import CommandQueue
from gateway.session.rate import CLOSE, CONNECT_UNITS, EXECUTE, units_of_replay, units_of_text
from gateway.session.session import Session
from gateway.streams.publishing import PublishResult
from gateway.transport.connection import Connection
from gateway.transport.frames import Close, Frame
from gateway.transport.upgrade import Upgrade
from hubbub_client.contracts.channels import personal_channel
from hubbub_client.contracts.errors import AppError
from hubbub_client.contracts.ids import user_id_to_json
from shared.tokens.claims import Claims
from shared.web.query import read_query

log = structlog.get_logger(__name__)


class Phase(Enum):
    """What the next message of a tab is."""

    AWAITING_TOKEN = "awaiting_token"
    """The token."""
    ARRIVING = "arriving"
    """A command that has to wait for the welcome."""
    WELCOMED = "welcomed"
    """A command."""


_AWAITING_TOKEN, _ARRIVING, _WELCOMED = Phase  # an attribute is slow to read before Python 3.12


class ChatClient:
    """What is above the connection of a tab. Nothing here waits."""

    close_codes: ClassVar[Mapping[EndReason, Close]] = CLOSE_CODES
    ping: ClassVar[Frame | None] = None

    __slots__ = (
        "_commands", "_handshake", "_phase", "_room", "_service", "_session", "connection",
    )  # fmt: skip

    def __init__(
        self, connection: Connection, handshake: ChatHandshake, service: ChatService
    ) -> None:
        self.connection = connection
        self._handshake: ChatHandshake | None = handshake
        """What the tab asked for, until it is admitted."""
        self._service = service
        self._phase = _ARRIVING
        self._session: Session | None = None
        """None until it is admitted."""
        self._room: Subscription | None = None
        self._commands: CommandQueue[ChatCommand | BadCommand] | None = None
        """None before the first: most only listen."""

    def open(self) -> None:
        """Begin, with a token or waiting for one."""
        isolate_failure(self.connection, self._begin)

    def _begin(self) -> None:
        access, asked = self._service.sessions.access, self._handshake
        assert asked is not None
        no_room = access.occupancy.enter(self.connection, asked.address)
        if no_room is not None:
            self.connection.close(no_room)
        elif asked.room is not None and asked.channel is None:
            self.connection.close(EndReason.INVALID_CHANNEL)
        elif access.not_ready():
            self.connection.close(EndReason.NOT_READY)
        elif asked.token is not None:
            self._sign_in(asked.token, asked)
        else:
            self._phase = _AWAITING_TOKEN
        if self._session is None:  # no token yet, or its issuer is asked for keys
            seconds = self._service.settings.auth_seconds
            self.connection.close_after(seconds, EndReason.INVALID_TOKEN)

    def received(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self.connection.close(EndReason.UNSUPPORTED_DATA)
        elif self._phase is _AWAITING_TOKEN:
            self._take_token(message)
        else:
            self._take_command(message)

    def farewell(self, close: Close) -> Frame | None:
        return None

    def lost(self, close: Close) -> None:
        self._service.sessions.access.occupancy.leave(self.connection)
        session = self._session
        if session is None:
            # A peer may leave with any close, also with one of ours.
            closing = self.connection.closing
            reason = closing.code if isinstance(closing, Close) else closing
            self._service.sessions.metrics.refused(reason)
            log.debug("refused", connection_id=self.connection.id, reason=close.reason)
            return
        session.end()
        log.debug(  # not info: a line costs a third of what a connect does
            "disconnected",
            connection_id=self.connection.id,
            user_id=user_id_to_json(session.user_id),
            code=int(close.code),
            reason=close.reason,
        )

    # Signing in.

    def _take_token(self, message: str) -> None:
        asked = self._handshake
        try:
            command = decode_command(message)
        except BadCommand:
            command = None
        if not isinstance(command, Authenticate) or asked is None:
            self.connection.close(EndReason.INVALID_TOKEN)
            return
        self._phase = _ARRIVING
        if self._service.sessions.access.not_ready():
            self.connection.close(EndReason.NOT_READY)
        else:
            self._sign_in(command.token, asked)

    def _sign_in(self, token: str, asked: ChatHandshake) -> None:
        self._service.sessions.access.sign_in(
            token,
            self.connection,
            admit=lambda claims: self._admit(claims, asked),
            refuse=self._refuse_entry,
        )

    def _refuse_entry(self, error: AppError) -> None:
        reason = end_reason(error)
        if reason is EndReason.NOT_READY:
            log.info("sign_in_failed", connection_id=self.connection.id, reason=str(error))
        self.connection.close(reason)

    def _admit(self, claims: Claims, asked: ChatHandshake) -> None:
        own = personal_channel(claims.user_id)
        channel = own if asked.channel is None else asked.channel
        session = Session(self.connection, claims, self._service.sessions)
        session.admit(CONNECT_UNITS + units_of_replay(asked.history))
        options = session.options_of(channel)
        session.begin()
        self._session, self._handshake = session, None
        encode = PUBLICATION_FORMATS[self.connection.deflates]
        self._room = session.kind.manager.subscribe(session, channel, encode)
        if options.presence:
            session.enter(self._room)
        personal = session.subscribe(own, encode)
        log.debug(
            "connected",
            connection_id=self.connection.id,
            user_id=user_id_to_json(claims.user_id),
            session_id=claims.session_id,
        )
        Arrival(
            self._service, session, asked, self._room, personal, options,
            on_welcomed=self._welcomed,
        ).begin()  # fmt: skip

    def _welcomed(self) -> None:
        self._phase = _WELCOMED
        if self._commands is not None:
            self._commands.open(self._execute)

    # Commands.

    def _take_command(self, message: str) -> None:
        """Decode a command, and execute it in its turn."""
        commands, metrics = self._opened_commands(), self._service.sessions.metrics
        command: ChatCommand | BadCommand
        try:
            command = decode_command(message)
            metrics.commands.labels(command.type).inc()
        except BadCommand as bad:
            command = bad.with_traceback(None)  # which would refer back to it
            metrics.commands.labels("bad").inc()
        now = time.monotonic_ns()
        verdict = commands.rate.take(now)
        if verdict is EXECUTE and not self._can_pay(command, message, now):
            verdict = commands.rate.refuse()
        if verdict is CLOSE:
            self.connection.close(EndReason.RATE_LIMIT)
            return
        if verdict is not EXECUTE:
            command = too_fast(command)
        # A ping asks whether we are there, so it waits for nothing.
        commands.put(command, self._execute, may_overtake=type(command) is Ping)

    def _opened_commands(self) -> CommandQueue[ChatCommand | BadCommand]:
        if self._commands is None:
            self._commands = CommandQueue(
                self.connection,
                self._service.rate_limits,
                max_waiting=self._service.settings.max_waiting_commands,
            )
            if self._phase is _WELCOMED:
                self._commands.open(self._execute)
        return self._commands

    def _can_pay(self, command: ChatCommand | BadCommand, message: str, now: int) -> bool:
        """Take what the command costs out of the user's bucket, if that has it."""
        if self._session is None:
            return True  # at most as many as may wait
        text = command.body if type(command) is PublishMessage else message
        buckets = self._service.sessions.access.buckets
        return not buckets.take(self._session, units_of_text(text), now)

    def _execute(self, command: ChatCommand | BadCommand) -> bool:
        """Begin a command; return whether it is under way."""
        assert self._session is not None  # no command is executed before the welcome
        match command:
            case PublishMessage():
                return self._publish(command, self._session)
            case Ping():
                self._tell(Pong(offset=self._session.delivered_offset))
            case BadCommand():
                self._refuse(command.code, command.message, command.command_id)
            case Authenticate():
                self.connection.start(self._renew(command, self._session))
                return True
        return False

    def _publish(self, command: PublishMessage, session: Session) -> bool:
        assert self._room is not None
        try:
            session.publish(
                self._room.channel,
                {"body": command.body},
                partial(self._published, command),
                client_id=command.id,
                as_subscriber=True,
            )
        except AppError as error:
            self._fail(error, command.id)
            return False
        return True

    def _published(self, command: PublishMessage, result: PublishResult) -> None:
        try:
            if isinstance(result, AppError):
                self._fail(result, command.id)
            elif command.id is not None:
                self.connection.send(encode_ack(command.id, result.offset))
        except Exception as error:
            self.connection.abandon(error, "command_failed")
        self._done()

    async def _renew(self, command: Authenticate, session: Session) -> None:
        try:
            await session.renew(command.token)
        except AppError as error:
            self._fail(error, command.id)
        except Exception as error:
            self.connection.abandon(error, "command_failed")
        finally:
            self._done()

    def _done(self) -> None:
        assert self._commands is not None  # something was under way
        self._commands.done(self._execute)

    def _fail(self, error: AppError, command_id: str | None) -> None:
        self._refuse(error_code(error), str(error), command_id)

    def _refuse(self, code: str, message: str, command_id: str | None) -> None:
        self._service.sessions.metrics.errors.labels(code).inc()
        self._tell(Error(code=code, message=message, id=command_id))

    def _tell(self, message: BaseModel) -> None:
        self.connection.send(encode(message))


def chat_endpoint(service: ChatService, upgrade: Upgrade, *, has_room: bool = True) -> None:
    """Open a connection at `/ws/chat`, or without a room at `/ws/notifications`.

    Nothing of the request is kept.
    """
    request = upgrade.request
    handshake = read_handshake(
        read_query(request.query),
        request.subprotocols,
        address=upgrade.client_host,
        has_room=has_room,
    )
    try:
        client = upgrade.accept(
            lambda connection: ChatClient(connection, handshake, service),
            subprotocol=handshake.subprotocol,
        )
    except ConnectionResetError:  # it went away in its own handshake
        return
    client.open()
