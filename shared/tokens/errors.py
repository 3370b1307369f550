"""Why a token is not taken. Each says so in one sentence, with no part of the token in it."""

from hubbub_client.contracts.errors import AppError, ErrorKind, Unavailable


class InvalidToken(AppError):
    """The token is not one that we believe. The reason is ours; no part of the token is in it."""

    kind = ErrorKind.UNAUTHENTICATED
    code = "invalid_token"


class TokenExpired(InvalidToken):
    """It was good once: whoever shows it can ask its issuer for another."""


class GrantExpired(InvalidToken):
    """The token is good, and what it grants is over already: its `expire_at` is in the past."""


class TokenMismatch(InvalidToken):
    """A subscription token that is good, but of another user, connection or channel."""


class KeysUnknown(Unavailable):
    """The issuer's keys were never fetched, so its tokens can't be judged yet."""

    code = "keys_unknown"
