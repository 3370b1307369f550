"""The identities that services exchange, as distinct types, and the form of a user's in JSON."""

from typing import Annotated, NewType

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from hubbub_client.arguments import MAX_USER_ID_CHARS, NUMBERS_END, USER_ID

UserId = NewType("UserId", str)
"""The `sub` of a user's tokens, opaque; made only by `parse_user_id` and `user_id_from_json`."""
ANONYMOUS = UserId("")
"""Who connected without a token, or with one that names nobody."""
PostId = NewType("PostId", int)
ConnectionId = NewType("ConnectionId", str)
"""One open socket of one tab; dies with it."""
ChannelName = NewType("ChannelName", str)
"""A checked channel name; made only by `hubbub_client.contracts.channels`."""

_EXACT_NUMBERS_END = 2**53  # larger integers are inexact to many readers of JSON
_LONGEST_NUMBER = len(str(_EXACT_NUMBERS_END))


class BadUserId(ValueError):
    """It is no user id: empty, too long, or with a character that none may have."""


def parse_user_id(text: str) -> UserId:
    """Check a user id that came from outside.

    Raises:
        BadUserId: not 1 to 128 printable ASCII characters, none of them a space.
    """
    if not USER_ID.fullmatch(text):
        raise BadUserId(
            f"not 1-{MAX_USER_ID_CHARS} characters of printable ASCII without the space"
        )
    return UserId(text)


def user_id_to_json(user_id: UserId) -> int | str:
    """The number, where the id is a positive integer in canonical decimal below 2^53."""
    if user_id.isdecimal() and user_id[0] != "0" and len(user_id) <= _LONGEST_NUMBER:
        number = int(user_id)
        if number < _EXACT_NUMBERS_END:
            return number
    return user_id


def user_id_from_json(value: object) -> UserId:
    """Read either form; 7 and "7" are the same user.

    Raises:
        BadUserId: it is neither a positive integer nor a text that `parse_user_id` takes.
    """
    if type(value) is int and 0 < value < NUMBERS_END:
        return UserId(str(value))
    if type(value) is str:
        return parse_user_id(value)
    raise BadUserId("neither a positive integer nor a text")


JsonUserId = Annotated[
    UserId,
    BeforeValidator(user_id_from_json),
    PlainSerializer(user_id_to_json, return_type=int | str),
    WithJsonSchema({"type": ["integer", "string"]}),
]
"""A user id in a pydantic model."""
