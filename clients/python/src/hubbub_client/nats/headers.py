"""NATS header blocks as bytes. Only the header in question is parsed, as parsing is costly."""

import re
from collections.abc import Mapping
from functools import lru_cache

from hubbub_client.nats.errors import MessageRejected

BAD_HEADER = 10004  # "bad request", as the server calls what it can't read

_PREAMBLE = b"NATS/1.0"
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SEQUENCE = b"\r\nNats-Sequence: "
_END = b"\r\n"
_KNOWN_NAMES = 64
_MESSAGE_ID = b"NATS/1.0\r\nNats-Msg-Id: %b\r\n\r\n"


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """Write a header block.

    Raises:
        MessageRejected: a name or value would break the block, and with it the connection.
    """
    lines = [_PREAMBLE]
    for name, value in headers.items():
        if not value.isprintable() and _CONTROL.search(value):  # isprintable() is the quick check
            raise MessageRejected(BAD_HEADER, f"not a header: {name!r}")
        lines.append(b"%b: %b" % (_checked(name), value.encode()))
    lines.append(_END)
    return b"\r\n".join(lines)


def encode_message_id(message_id: str) -> bytes:
    """Write the header block of most messages: ``Nats-Msg-Id`` alone.

    Raises:
        MessageRejected: as `encode_headers` says.
    """
    if message_id.isascii() and message_id.isprintable():
        return _MESSAGE_ID % message_id.encode()
    return encode_headers({"Nats-Msg-Id": message_id})


@lru_cache(maxsize=_KNOWN_NAMES)
def _checked(name: str) -> bytes:
    if not _NAME.fullmatch(name):
        raise MessageRejected(BAD_HEADER, f"not a header: {name!r}")
    return name.encode()


def header(headers: bytes, name: bytes) -> bytes | None:
    """The last value of the header: the server's headers come after the publisher's."""
    key = b"\r\n" + name + b": "
    start = headers.rfind(key)
    if start < 0:
        return None
    start += len(key)
    return headers[start : headers.index(b"\r\n", start)]


def number(headers: bytes, name: bytes) -> int:
    """The header's value as a number, 0 if it isn't there."""
    value = header(headers, name)
    return int(value) if value else 0


def sequence_of(headers: bytes) -> int:
    """``Nats-Sequence``: the message's sequence in its stream.

    Raises:
        ValueError: there is none.
    """
    start = headers.rindex(_SEQUENCE) + len(_SEQUENCE)
    return int(headers[start : headers.index(b"\r\n", start)])


def status(headers: bytes | None) -> int | None:
    """The status of an answer that is not a message, such as 404 or 503; None of a message."""
    if headers is None or headers[len(_PREAMBLE) : len(_PREAMBLE) + 1] != b" ":
        return None
    return int(headers[len(_PREAMBLE) + 1 : len(_PREAMBLE) + 4])
