"""What one tab asks for: its commands, executed one after another, and answered.

Publications of one connection are not pipelined, since retries would reorder them: what comes
behind one that isn't answered yet waits here, and not without bound. While nothing is under
way, a command is executed where it comes, and costs neither a task nor a queue.
"""

import time
from collections import deque
from collections.abc import Coroutine
from functools import partial
from typing import Any, Protocol

from pydantic import BaseModel

from gateway.errors import EndReason, MayNotPublish, OtherUser, error_code
from gateway.protocols.chat.codec import (
    BadCommand,
    ChatCommand,
    decode_command,
    encode,
    encode_ack,
    too_fast,
)
from gateway.protocols.chat.frames import Authenticate, Error, Ping, Pong, PublishMessage
from gateway.session.parts import ChatParts
from gateway.session.rate import CLOSE, EXECUTE, CommandRate, units_of_text
from gateway.session.surviving import isolate_failure
from gateway.streams.publishing import PublishResult
from gateway.transport.connection import Connection
from shared.contracts.errors import AppError
from shared.contracts.ids import ChannelName, UserId
from shared.contracts.publications import Sender
from shared.jetstream.publisher import PubAck
from shared.tokens.access_tokens import Claims


class Speaker(Protocol):
    """The session whose commands these are."""

    @property
    def connection(self) -> Connection: ...

    @property
    def claims(self) -> Claims:
        """What its token says, now."""

    @property
    def admitted_as(self) -> UserId | None:
        """Who pays for what it asks; None until its token is judged."""

    @property
    def room(self) -> ChannelName:
        """Where it speaks."""

    @property
    def place(self) -> int:
        """Nothing at or below this offset is missing from what it was sent."""

    def renew(self, claims: Claims) -> None:
        """Go on under another token of the same user."""

    def let_go(self) -> None:
        """It is lost, and all that it asked for is done: keep nothing."""


class Commands:
    """Those of one connection, from its first to its end."""

    __slots__ = ("_connection", "_is_busy", "_is_open", "_parts", "_rate", "_speaker", "_waiting")

    def __init__(self, speaker: Speaker, parts: ChatParts) -> None:
        self._speaker = speaker
        self._connection = speaker.connection
        self._parts = parts
        self._rate = CommandRate(parts.rate_limits)
        self._is_open = False
        self._is_busy = False
        self._waiting: deque[ChatCommand | BadCommand] | None = None
        """Made when something has to wait, thrown away when nothing has."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._is_busy

    def open(self) -> None:
        """Begin to execute: the tab was welcomed."""
        self._is_open = True
        self._work_on()

    def take(self, message: str) -> None:
        """Execute a command, in its turn."""
        command: ChatCommand | BadCommand
        try:
            command = decode_command(message)
            self._parts.metrics.commands.labels(command.type).inc()
        except BadCommand as bad:
            command = bad.with_traceback(None)  # which would refer back to it
            self._parts.metrics.commands.labels("bad").inc()
        now = time.monotonic_ns()
        verdict = self._rate.take(now)
        if verdict is EXECUTE and not self._can_pay(command, message, now):
            verdict = self._rate.refuse()
        if verdict is not EXECUTE:
            if verdict is CLOSE:
                self._connection.close(EndReason.RATE_LIMIT)
                return
            command = too_fast(command)
        if not self._is_open or (self._is_busy and type(command) is not Ping):
            self._wait(command)
        else:  # a ping out of its turn, too: it asks whether we are there
            self._is_busy = self._begin(command) or self._is_busy

    def _can_pay(self, command: ChatCommand | BadCommand, message: str, now: int) -> bool:
        """Take what the command costs out of the user's bucket, if that has it."""
        user_id = self._speaker.admitted_as
        if user_id is None:
            return True  # at most as many as may wait
        text = command.body if type(command) is PublishMessage else message
        return not self._parts.user_rates.take(user_id, units_of_text(text), now)

    def _wait(self, command: ChatCommand | BadCommand) -> None:
        """Let the command wait for its turn, and the peer while too many wait."""
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(command)
        if len(self._waiting) >= self._parts.settings.max_waiting_commands:
            self._connection.pause_reading()

    def _work_on(self) -> None:
        """Execute what waits, until something takes its time."""
        # Once welcomed: what came before the peer left still counts; before we closed, it doesn't.
        while self._waiting and not self._is_busy and self._connection.closing is None:
            command = self._waiting.popleft()
            self._is_busy = True  # for what comes while reading is resumed
            if len(self._waiting) == self._parts.settings.max_waiting_commands - 1:
                self._connection.resume_reading()
            self._is_busy = self._begin(command)
        if not self._is_busy:
            self._waiting = None
            if self._connection.is_lost:
                self._speaker.let_go()

    def _begin(self, command: ChatCommand | BadCommand) -> bool:
        """Execute a command; return whether it is under way, and `_end` will be called for it."""
        match command:
            case PublishMessage():
                return self._publish(command)
            case Ping():
                self._tell(Pong(offset=self._speaker.place))
            case BadCommand():
                self._refuse(command.code, command.message, command.command_id)
            case Authenticate():
                self._connection.start(self._finish(self._prolong(command)))
                return True
        return False

    async def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for what a command needs, and go on; a failure costs this connection."""
        try:
            await work
        except Exception as error:
            self._connection.abandon(error, "command_failed")
        finally:
            self._end()

    def _end(self) -> None:
        self._is_busy = False
        self._work_on()

    def _publish(self, command: PublishMessage) -> bool:
        parts, claims, room = self._parts, self._speaker.claims, self._speaker.room
        try:
            if not parts.namespaces.may_publish(room, claims.user_id):
                raise MayNotPublish("only services publish here")
            parts.guard.confirm(claims)  # what waited in the queue of who has left, too
            parts.publisher.send_by_user(
                room,
                Sender(claims.user_id, claims.name),
                _data(command),
                partial(self._published, command),
                client_id=command.id,
            )
        except AppError as error:
            self._fail(error, command.id)
            return False
        self._connection.begin_work()
        return True

    def _published(self, command: PublishMessage, result: PublishResult) -> None:
        try:
            if isinstance(result, AppError):
                self._fail(result, command.id)
            elif result.duplicate:
                self._connection.start(self._finish(self._resolve_duplicate(command, result)))
                return
            else:
                self._acknowledge(command, result.offset)
        except Exception as error:
            self._connection.abandon(error, "command_failed")
        finally:
            self._connection.end_work()
        isolate_failure(self._connection, self._end)

    async def _resolve_duplicate(self, command: PublishMessage, ack: PubAck) -> None:
        try:
            offset = await self._parts.publisher.resolve_duplicate(ack, _data(command))
        except AppError as error:
            self._fail(error, command.id)
        else:
            self._acknowledge(command, offset)

    def _acknowledge(self, command: PublishMessage, offset: int) -> None:
        if command.id is not None:
            self._connection.send(encode_ack(command.id, offset))

    async def _prolong(self, command: Authenticate) -> None:
        guard = self._parts.guard
        try:
            claims = await guard.verify(command.token)
            if self._connection.is_open:
                guard.confirm(claims)
                if claims.user_id != self._speaker.claims.user_id:
                    raise OtherUser("the token is of another user")
                self._speaker.renew(claims)
        except AppError as error:
            self._fail(error, command.id)

    def _fail(self, error: AppError, command_id: str | None) -> None:
        self._refuse(error_code(error), str(error), command_id)

    def _refuse(self, code: str, message: str, command_id: str | None) -> None:
        self._parts.metrics.errors.labels(code).inc()
        self._tell(Error(code=code, message=message, id=command_id))

    def _tell(self, message: BaseModel) -> None:
        self._connection.send(encode(message))


def _data(command: PublishMessage) -> dict[str, str]:
    return {"body": command.body}
