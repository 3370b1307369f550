"""What callers give: users, and lists of them or of channels. Nothing here imports pydantic."""

import re
from collections.abc import Iterable
from typing import TypeAlias, TypeVar
from uuid import UUID

T = TypeVar("T")

User: TypeAlias = str | int | UUID
"""A user's id, as in the `sub` of their tokens."""

MAX_USER_ID_CHARS = 128
USER_ID = re.compile(rf"[!-~]{{1,{MAX_USER_ID_CHARS}}}")  # printable ASCII but the space
NUMBERS_END = 2**63
"""Ids that are numbers are below it, as a database's integers are."""


def user_id(user: User) -> str:
    """
    Raises:
        ValueError: nobody is called so.
    """
    if not _is_user(user):
        raise ValueError(f"no user id: {user!r}")
    return str(user)


def user_ids(users: Iterable[User]) -> list[str]:
    """
    Raises:
        ValueError: nobody is called so, or it is a text instead of a list.
    """
    return [user_id(each) for each in listed(users)]


def listed(values: Iterable[T]) -> list[T]:
    """
    Raises:
        ValueError: it is a text, each letter of which would be taken for a value.
    """
    if isinstance(values, str | bytes):
        raise ValueError(f"a list is meant, not a text: {values!r}")
    return list(values)


def _is_user(value: object) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and 0 < value < NUMBERS_END
    return isinstance(value, UUID) or (
        isinstance(value, str) and USER_ID.fullmatch(value) is not None
    )
