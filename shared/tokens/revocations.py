"""Sessions that are over though their tokens have not expired. Pure: never awaits."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal, NamedTuple, TypeVar
from uuid import uuid4

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from hubbub_client.contracts.ids import JsonUserId, UserId
from shared.tokens.claims import MAX_SESSION_ID_CHARS, Claims, SessionId, SubscriptionClaims
from shared.tokens.issuers import CLOCK_SKEW_SECONDS

log = structlog.get_logger(__name__)

SESSION_REVOKED_SUBJECT = "ctl.pub.auth.session_revoked"
REVOCATIONS_COMPLETE_SUBJECT = "ctl.pub.auth.revocations_complete"

_Key = TypeVar("_Key")
_SessionId = Annotated[SessionId, Field(min_length=1, max_length=MAX_SESSION_ID_CHARS)]


class _ControlMessage(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    v: Literal[1] = 1
    id: str = Field(default_factory=lambda: str(uuid4()), min_length=1, max_length=64)
    time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))


class SessionRevoked(_ControlMessage):
    """A session is over, and with it all its tokens."""

    type: Literal["session_revoked"] = "session_revoked"
    session_id: _SessionId
    user_id: JsonUserId


class UserRevoked(_ControlMessage):
    """All tokens that the user got until ``time`` are revoked."""

    type: Literal["user_revoked"] = "user_revoked"
    user_id: JsonUserId


class RevocationsComplete(_ControlMessage):
    """In this epoch the stream holds all revocations of the auth service that are in force."""

    type: Literal["revocations_complete"] = "revocations_complete"
    epoch: str = Field(min_length=1, max_length=64)


class CompletePosition(NamedTuple):
    """Up to where the auth service knows the stream to hold all revocations in force."""

    epoch: str
    sequence: int

    def is_reached(self, *, epoch: str, position: int) -> bool:
        """Whether a follower at that position has all of them."""
        return epoch == self.epoch and position >= self.sequence


_Known = SessionRevoked | UserRevoked | RevocationsComplete
_MESSAGE: TypeAdapter[_Known] = TypeAdapter(Annotated[_Known, Field(discriminator="type")])


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
    """All revocations that a token which is still valid may fall under.

    Each is kept for the longest life of a token, from its arrival and by the monotonic clock: a
    system clock that is wrong for a moment would let revoked tokens in.
    """

    def __init__(
        self, *, max_token_seconds: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """No token lives longer than ``max_token_seconds``, so no revocation is kept longer."""
        self._keep_seconds = max_token_seconds + CLOCK_SKEW_SECONDS
        self._monotonic = monotonic
        self._sessions: dict[SessionId, _Entry] = {}
        self._users: dict[UserId, _Entry] = {}
        self._complete_in = ""

    def __len__(self) -> int:
        return len(self._sessions) + len(self._users)

    def apply(self, payload: bytes, *, stored_at: float | None = None) -> Revocation | None:
        """Apply a message of the CTL stream, in its order; repeats are harmless.

        Args:
            stored_at: When the stream stored it, by the bus's clock, in unix seconds.

        Returns:
            What it revokes; None if it is not a revocation.
        """
        try:
            message = _MESSAGE.validate_json(payload)
        except ValidationError as error:
            log.warning("control_message_unreadable", problems=error.error_count())
            return None
        if isinstance(message, RevocationsComplete):
            self._complete_in = message.epoch
            return None
        now = self._monotonic()
        _drop_until(self._sessions, now - self._keep_seconds)
        _drop_until(self._users, now - self._keep_seconds)
        until = message.time.timestamp()
        if stored_at is not None:
            # If the writer's clock is ahead, later tokens must not fall under it. Its tokens are
            # ahead as well, by the skew at most.
            until = min(until, stored_at + CLOCK_SKEW_SECONDS)
        if isinstance(message, SessionRevoked):
            self._sessions.pop(message.session_id, None)
            self._sessions[message.session_id] = _Entry(until, now)
            return Revocation(message.session_id, message.user_id, until)
        before = self._users.pop(message.user_id, None)
        newest = until if before is None else max(until, before.until)
        self._users[message.user_id] = _Entry(newest, now)
        return Revocation(None, message.user_id, until)

    def are_complete(self, epoch: str) -> bool:
        """Whether the stream holds all that are in force, in this epoch.

        Only the auth service knows. It says so in each new epoch, and again before the stream
        drops that message. The age of a stream proves nothing: it may have been emptied.
        """
        return self._complete_in == epoch

    def is_revoked(self, claims: Claims | SubscriptionClaims) -> bool:
        """Whether the claims are of a session that is over."""
        if claims.session_id in self._sessions:
            return True
        entry = self._users.get(claims.user_id)
        return entry is not None and (claims.issued_at is None or claims.issued_at <= entry.until)


class _Entry(NamedTuple):
    until: float
    """Tokens issued until then are revoked: unix seconds."""
    since: float
    """When it came, by the monotonic clock."""


def _drop_until(entries: dict[_Key, _Entry], limit: float) -> None:
    """Drop the oldest; they are in the order of their arrival."""
    while entries:
        oldest = next(iter(entries))
        if entries[oldest].since >= limit:
            return
        del entries[oldest]
