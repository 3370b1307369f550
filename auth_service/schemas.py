"""Bodies of requests and answers."""

import unicodedata
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from auth_service.passwords import normalised
from shared.tokens.claims import MAX_NAME_CHARS, shown_name

MAX_EMAIL_CHARS = 254
MIN_PASSWORD_CHARS = 8
MAX_PASSWORD_CHARS = 200


def _without_control_characters(text: str) -> str:
    if any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in text):
        raise ValueError("must not contain control characters")
    return text


def _showable(name: str) -> str:
    if shown_name(name) != name:
        raise ValueError("must not contain control characters")
    return name


def _long_enough(password: str) -> str:
    if len(normalised(password)) < MIN_PASSWORD_CHARS:
        raise ValueError(f"must have at least {MIN_PASSWORD_CHARS} characters")
    return password


Email = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, max_length=MAX_EMAIL_CHARS, pattern=r"^[^@\s]+@[^@\s]+$"
    ),
    AfterValidator(_without_control_characters),
]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_NAME_CHARS),
    AfterValidator(_showable),
]


class NewUser(BaseModel):
    """``POST /auth/register``."""

    email: Email
    name: Name
    password: Annotated[str, AfterValidator(_long_enough)] = Field(
        min_length=MIN_PASSWORD_CHARS, max_length=MAX_PASSWORD_CHARS
    )


class SignIn(BaseModel):
    """``POST /auth/token``: the form of OAuth2's password grant."""

    grant_type: Literal["password"] = "password"
    username: Annotated[
        str,
        StringConstraints(strip_whitespace=True, max_length=MAX_EMAIL_CHARS),
        AfterValidator(_without_control_characters),
    ]
    password: str = Field(max_length=MAX_PASSWORD_CHARS)


class Refresh(BaseModel):
    """``POST /auth/token/refresh``."""

    refresh_token: str = Field(max_length=200)


class User(BaseModel):
    """An account as its owner sees it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    email: str
    name: str


class TokenPair(BaseModel):
    """What signing in and refreshing answer."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"
    expires_in: int
    """Seconds until the access token expires."""
    refresh_token: str
    """Valid for one use, whose answer holds the next one."""


class JwkSet(BaseModel):
    """Public keys, RFC 7517."""

    keys: list[dict[str, str]]
