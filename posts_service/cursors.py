"""Cursors: where a list continues. Opaque to callers, so that the content may change."""

import base64
import binascii
import re
from typing import ClassVar

from hubbub_client.contracts.errors import AppError, ErrorKind

MAX_ID = 2**63 - 1
"""The greatest id that the databases can hold."""

_CONTENT = re.compile(r"(.+)\|([1-9][0-9]{0,18})", re.ASCII)


class BadCursor(AppError):
    """This list did not give out the cursor."""

    kind: ClassVar[ErrorKind] = ErrorKind.INVALID
    code: ClassVar[str] = "bad_cursor"

    def __init__(self) -> None:
        super().__init__("the cursor is not one that this list gave out")


def encode_cursor(list_name: str, last_id: int) -> str:
    """The position after ``last_id`` in a list; only the same list accepts it."""
    return base64.urlsafe_b64encode(f"{list_name}|{last_id}".encode()).decode().rstrip("=")


def decode_cursor(list_name: str, cursor: str) -> int:
    """Read the id after which the list continues.

    Raises:
        BadCursor: any text but what `encode_cursor` made for this list.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        content = base64.b64decode(padded, altchars="-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise BadCursor from error
    found = _CONTENT.fullmatch(content)
    if found is None:
        raise BadCursor
    last_id = int(found[2])
    if last_id > MAX_ID or encode_cursor(list_name, last_id) != cursor:
        raise BadCursor
    return last_id
