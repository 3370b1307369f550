"""A connected client, as its commands see it: whose session it is, and how one is answered."""

import math
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.protocols.centrifuge.codec import Codec
from gateway.protocols.centrifuge.codes import (
    DISCONNECT_OF_ERROR,
    INTERNAL_ERROR,
    PERMISSION_DENIED,
    Disconnected,
    ErrorCode,
    Errors,
    Refused,
    error_of,
)
from gateway.protocols.centrifuge.commands import Command
from gateway.protocols.centrifuge.service import CentrifugeService
from gateway.proxies.errors import ApplicationDisconnects, ApplicationRefuses
from gateway.proxies.headers import NO_HEADERS, Headers
from gateway.proxies.proxies import Caller
from gateway.session.command_queue import CommandQueue
from gateway.session.recovery import ConnectionLost
from gateway.session.session import Session
from gateway.transport.connection import Connection
from gateway.transport.frames import Close
from hubbub_client.contracts.channels import BadChannelName, parse_channel
from hubbub_client.contracts.errors import AppError
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.jetstream.clock import our_clock

_YEAR_SECONDS = 365 * 24 * 3600
_MAX_BESIDE = 8
"""Commands of one client that are under way while those behind them go on."""
_OF_APPLICATION = "application"
"""The label of its error codes, which may be any."""

_Failure = Refused | AppError | Disconnected | ApplicationRefuses | ApplicationDisconnects
_FAILURES = (Refused, AppError, Disconnected, ApplicationRefuses, ApplicationDisconnects)


class Dialogue:
    """Commands and replies of one connection."""

    __slots__ = (
        "_asking", "_beside", "_commands", "_session", "codec", "connection", "headers", "left",
        "service",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        service: CentrifugeService,
        codec: Codec,
        headers: Headers = NO_HEADERS,
    ) -> None:
        self.connection = connection
        self.service = service
        self.codec = codec
        self._session: Session | None = None
        """None until it is admitted."""
        self._commands: CommandQueue[Command] | None = None
        self._beside = 0
        self._asking: dict[ChannelName, Command] | None = None
        self.headers = headers
        """That the application is shown."""
        self.left: frozenset[ChannelName] = frozenset()
        """The channels in which it was when its connection was lost: what it said there counts."""

    @classmethod
    def of(cls, session: Session, service: CentrifugeService, codec: Codec) -> "Dialogue":
        """With a client that asked for nothing: the server does something for it."""
        dialogue = cls(session.connection, service, codec)  # type: ignore[arg-type]
        dialogue._session = session
        return dialogue

    @property
    def session(self) -> Session:
        assert self._session is not None  # no command is executed before
        return self._session

    @property
    def asking(self) -> dict[ChannelName, Command]:
        """The channels about which the application is being asked, by the command to subscribe."""
        if self._asking is None:
            self._asking = {}
        return self._asking

    @property
    def caller(self) -> Caller:
        """As whom the application is asked."""
        claims = self.session.claims
        return Caller(
            self.connection.id, self.codec.transport, claims.user_id, claims.meta, self.headers
        )

    def execute(self, command: Command) -> bool:
        """Begin a command; return whether it is under way, and `done` will be called for it."""
        raise NotImplementedError

    def attempt(self, command: Command, method: Callable[["Dialogue", Command], bool]) -> bool:
        """Begin a command, and answer for it if that fails."""
        try:
            return method(self, command)
        except _FAILURES as failure:
            self.fail(command, failure)
        return False

    def run(self, command: Command, work: Coroutine[Any, Any, None]) -> bool:
        """Let a command be answered later."""
        self.connection.start(self._answer_later(command, work))
        return True

    def run_beside(self, command: Command, work: Coroutine[Any, Any, None]) -> bool:
        """Let a command be answered later, and those behind it before; unless many are already."""
        if self._beside >= _MAX_BESIDE:
            return self.run(command, work)
        self._beside += 1
        self.connection.start(self._answer_beside(command, work))
        return False

    async def _answer_later(self, command: Command, work: Coroutine[Any, Any, None]) -> None:
        try:
            await self._answer(command, work)
        finally:
            self.done()

    async def _answer_beside(self, command: Command, work: Coroutine[Any, Any, None]) -> None:
        try:
            await self._answer(command, work)
        finally:
            self._beside -= 1

    async def _answer(self, command: Command, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except ConnectionLost:
            pass
        except _FAILURES as failure:
            self.fail(command, failure)
        except Exception as error:
            self.connection.abandon(error, "command_failed")

    def done(self) -> None:
        """What was under way is answered: the next command has its turn."""
        assert self._commands is not None
        self._commands.done(self.execute)

    def reply(self, command: Command, result: bytes) -> None:
        if command.id:
            method = command.method.encode()
            self.connection.send(self.codec.reply(command.id, method, result))

    def refuse(self, command: Command, error: Errors) -> None:
        close = DISCONNECT_OF_ERROR.get(error, INTERNAL_ERROR)
        self._refuse(command, error.value, str(error.value.code), close)

    def _refuse(self, command: Command, error: ErrorCode, label: str, close: Close) -> None:
        """
        Args:
            close: Where nobody reads replies, on unidirectional transports.
        """
        self.service.metrics.errors.labels(label).inc()
        if self.codec.is_unidirectional:
            self.connection.close(close)
        elif command.id:
            self.connection.send(self.codec.error(command.id, error))

    def fail(self, command: Command, failure: _Failure) -> None:
        """Answer a command that failed, or end the connection for it."""
        if isinstance(failure, Disconnected):
            self.connection.close(failure.close)
        elif isinstance(failure, ApplicationDisconnects):
            self.connection.close(Close(failure.code, failure.reason))
        elif isinstance(failure, ApplicationRefuses):
            self._refuse_for_application(command, failure)
        elif isinstance(failure, Refused):
            self.refuse(command, failure.error)
        else:
            self.refuse(command, error_of(failure))

    def _refuse_for_application(self, command: Command, refusal: ApplicationRefuses) -> None:
        error = ErrorCode(refusal.code, refusal.message, refusal.temporary)
        close = INTERNAL_ERROR if refusal.temporary else PERMISSION_DENIED
        self._refuse(command, error, _OF_APPLICATION, close)


def checked_channel(name: str) -> ChannelName:
    """The channel of that name.

    Raises:
        Refused: there can be none.
    """
    try:
        return parse_channel(name)
    except BadChannelName:
        raise Refused(Errors.BAD_REQUEST) from None


def ttl_of(expires_at: float) -> int | None:
    """Whole seconds until then, at least 1; None if it never ends."""
    if expires_at == math.inf:
        return None
    return max(1, min(math.ceil(expires_at - our_clock()), _YEAR_SECONDS))


def expiry_json(ttl: int | None) -> bytes:
    """What a refresh is answered, or pushed."""
    return b"{}" if ttl is None else b'{"expires":true,"ttl":%d}' % ttl
