"""Sessions that are over although their tokens have not expired. Pure: never awaits."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar
from uuid import uuid4

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from shared.ids import SessionId, UserId
from shared.tokens import CLOCK_SKEW_SECONDS, MAX_SESSION_ID_CHARS, MAX_USER_ID, Claims

log = structlog.get_logger(__name__)

SESSION_REVOKED_SUBJECT = "ctl.pub.auth.session_revoked"

_Key = TypeVar("_Key")
_UserId = Annotated[UserId, Field(ge=1, le=MAX_USER_ID)]
_SessionId = Annotated[SessionId, Field(min_length=1, max_length=MAX_SESSION_ID_CHARS)]


class _ControlMessage(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    v: Literal[1] = 1
    id: str = Field(default_factory=lambda: str(uuid4()), min_length=1, max_length=64)
    time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))


class SessionRevoked(_ControlMessage):
    """One sign-in is over, and with it every token that descends from it."""

    type: Literal["session_revoked"] = "session_revoked"
    session_id: _SessionId
    user_id: _UserId


class UserRevoked(_ControlMessage):
    """Every token that the user got until ``time`` is over."""

    type: Literal["user_revoked"] = "user_revoked"
    user_id: _UserId


_REVOCATION: TypeAdapter[SessionRevoked | UserRevoked] = TypeAdapter(
    Annotated[SessionRevoked | UserRevoked, Field(discriminator="type")]
)


@dataclass(frozen=True, slots=True)
class Revocation:
    """What a control message revokes."""

    session_id: SessionId | None
    """If given, the revocation is of this session; else of all sessions of the user."""
    user_id: UserId
    time: float
    """Unix seconds."""

    def covers(self, claims: Claims) -> bool:
        if self.session_id is not None:
            return claims.session_id == self.session_id
        return claims.user_id == self.user_id and (
            claims.issued_at is None or claims.issued_at <= self.time
        )


class Revocations:
    """All revocations that a living token may fall under."""

    def __init__(
        self,
        *,
        max_token_seconds: float,
        now: Callable[[], float] = lambda: datetime.now(UTC).timestamp(),
    ) -> None:
        """No token lives longer than ``max_token_seconds``, so no revocation is kept longer."""
        self._keep_seconds = max_token_seconds + CLOCK_SKEW_SECONDS
        self._now = now
        self._sessions: dict[SessionId, float] = {}
        self._users: dict[UserId, float] = {}

    def __len__(self) -> int:
        return len(self._sessions) + len(self._users)

    def apply(self, payload: bytes) -> Revocation | None:
        """Take in a message of the CTL stream, in its order; repeats are harmless.

        Returns:
            What it revokes; none if it is no revocation or so old that it can't matter.
        """
        try:
            message = _REVOCATION.validate_json(payload)
        except ValidationError as error:
            log.warning("control_message_unreadable", problems=error.error_count())
            return None
        now = self._now()
        _drop_until(self._sessions, now - self._keep_seconds)
        _drop_until(self._users, now - self._keep_seconds)
        # A clock ahead of ours must not hold it for ever; but as far ahead as the tokens that it
        # is of may be, or it would not cover them.
        time = min(message.time.timestamp(), now + CLOCK_SKEW_SECONDS)
        if time < now - self._keep_seconds:
            return None
        if isinstance(message, SessionRevoked):
            self._sessions[message.session_id] = time
            return Revocation(message.session_id, message.user_id, time)
        self._users[message.user_id] = max(time, self._users.pop(message.user_id, time))
        return Revocation(None, message.user_id, time)

    def is_revoked(self, claims: Claims) -> bool:
        """Whether the claims are of a session that is over."""
        if claims.session_id in self._sessions:
            return True
        until = self._users.get(claims.user_id)
        return until is not None and (claims.issued_at is None or claims.issued_at <= until)


def _drop_until(entries: dict[_Key, float], limit: float) -> None:
    """Drop the oldest; they lie in the order of the stream, so what is left behind is soon next."""
    while entries:
        oldest = next(iter(entries))
        if entries[oldest] >= limit:
            return
        del entries[oldest]
