"""What can go wrong with accounts and sessions, as callers see it."""

from typing import ClassVar

from hubbub_client.contracts.errors import AppError, ErrorKind, Unavailable


class EmailTaken(AppError):
    """There is an account with this email, in whatever case."""

    kind: ClassVar[ErrorKind] = ErrorKind.CONFLICT
    code: ClassVar[str] = "email_taken"

    def __init__(self) -> None:
        super().__init__("there is an account with this email already")


class WrongCredentials(AppError):
    """No such user, or not their password; the answer does not say which."""

    kind: ClassVar[ErrorKind] = ErrorKind.UNAUTHENTICATED
    code: ClassVar[str] = "wrong_credentials"

    def __init__(self) -> None:
        super().__init__("the email or the password is wrong")


class TooManyFailures(AppError):
    """Too many sign-ins failed, for this account or from this address."""

    kind: ClassVar[ErrorKind] = ErrorKind.THROTTLED
    code: ClassVar[str] = "too_many_failures"

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("too many sign-ins have failed; try again later")
        self.retry_after_seconds = retry_after_seconds


class TooManyRegistrations(AppError):
    """Too many accounts were asked for from this address."""

    kind: ClassVar[ErrorKind] = ErrorKind.THROTTLED
    code: ClassVar[str] = "too_many_registrations"

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("too many have registered from this address; try again later")
        self.retry_after_seconds = retry_after_seconds


class InvalidRefreshToken(AppError):
    """Unknown, expired, used before, or of a session that is over."""

    kind: ClassVar[ErrorKind] = ErrorKind.UNAUTHENTICATED
    code: ClassVar[str] = "invalid_refresh_token"

    def __init__(self) -> None:
        super().__init__("the refresh token is not valid; sign in again")


class RevocationPending(Unavailable):
    """The session is over here, and not yet published; the outbox publishes it later."""

    code: ClassVar[str] = "revocation_pending"
    retry_after_seconds = 1

    def __init__(self) -> None:
        super().__init__("the session is over here but not yet everywhere; ask again")
