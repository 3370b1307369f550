"""The application's own users: they sign up with a name and a password, and get JWTs of its own."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import jwt
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

TOKEN_SECONDS = 3600
ALGORITHM = "HS256"
_hasher = PasswordHasher()


class NameTaken(Exception):
    """Somebody has that name already."""


class BadCredentials(Exception):
    """Nobody has that name and that password, or such a JWT."""


@dataclass(frozen=True, slots=True)
class User:
    name: str
    password_hash: str = field(repr=False)
    id: UUID = field(default_factory=uuid4)


class Users:
    """They are kept in memory: the end of the process is theirs, too."""

    def __init__(self, secret: str) -> None:
        """
        Args:
            secret: Signs the JWTs; Hubbub does not know it.
        """
        self._secret = secret
        self._by_name: dict[str, User] = {}
        self._by_id: dict[UUID, User] = {}

    def sign_up(self, name: str, password: str) -> User:
        """
        Raises:
            NameTaken: by somebody else.
        """
        user = User(name, _hasher.hash(password))
        if self._by_name.setdefault(name, user) is not user:
            raise NameTaken(name)
        self._by_id[user.id] = user
        return user

    def sign_in(self, name: str, password: str) -> User:
        """
        Raises:
            BadCredentials: the name or the password is wrong.
        """
        user = self._by_name.get(name)
        try:
            if user is not None and _hasher.verify(user.password_hash, password):
                return user
        except VerifyMismatchError:
            pass
        raise BadCredentials

    def named(self, name: str) -> User | None:
        return self._by_name.get(name)

    def token_of(self, user: User) -> str:
        """The JWT that a page shows to this application."""
        expiry = datetime.now(UTC) + timedelta(seconds=TOKEN_SECONDS)
        return jwt.encode({"sub": str(user.id), "exp": expiry}, self._secret, ALGORITHM)

    def of_token(self, token: str) -> User:
        """
        Raises:
            BadCredentials: it is none of ours, or has expired.
        """
        try:
            claims = jwt.decode(token, self._secret, [ALGORITHM], options={"require": ["exp"]})
            return self._by_id[UUID(claims["sub"])]
        except (jwt.InvalidTokenError, KeyError, ValueError) as error:
            raise BadCredentials from error
