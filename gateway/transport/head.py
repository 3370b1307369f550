"""The head of an upgrade request that came in one piece, as nearly all do; read once. Pure."""

from typing import NamedTuple

import httptools

from gateway.transport.request import asks_for_websocket

_METHOD = b"GET "
_END = b"\r\n\r\n"


class Head(NamedTuple):
    """A request for a WebSocket; header names are in lower case."""

    target: bytes
    headers: list[tuple[bytes, bytes]]
    length: int
    """What comes behind is the first of what the WebSocket carries."""


class _Parsed:
    """Is called by the parser."""

    __slots__ = ("headers", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.rstrip(b" \t")))


def read_head(data: bytes, *, max_bytes: int) -> Head | None:
    """Read a whole GET that asks for a WebSocket; None if it is anything else, or odd.

    Whoever gets None has to read the bytes by himself.
    """
    if not data.startswith(_METHOD):
        return None
    length = data.find(_END) + len(_END)
    if not len(_END) <= length <= max_bytes:
        return None
    parsed = _Parsed()
    try:
        httptools.HttpRequestParser(parsed).feed_data(data[:length])  # thousands may follow
    except httptools.HttpParserUpgrade as upgrade:
        # It stops elsewhere if the request has a body, or there was another before it.
        if upgrade.args[0] == length and asks_for_websocket(parsed.headers):
            return Head(parsed.target, parsed.headers, length)
    except httptools.HttpParserError:
        pass
    return None
