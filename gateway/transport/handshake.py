"""The opening handshake of RFC 6455, section 4: the request, and the responses to it. Pure.

The request was parsed by llhttp, so its form is sound. Header names are in lower case.
"""

from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha1
from http import HTTPStatus
from typing import NamedTuple

import httptools

from shared.web.http_protocol import origin_form

Headers = Iterable[tuple[bytes, bytes]]

_METHOD = b"GET "
_END = b"\r\n\r\n"
_VERSION = b"13"
_KEY_BYTES = 16
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
    b"sec-websocket-accept: "
)


class Head(NamedTuple):
    """A GET for a WebSocket, read from the bytes that came."""

    target: bytes
    headers: list[tuple[bytes, bytes]]
    length: int
    """What comes after it belongs to the WebSocket."""


class Request(NamedTuple):
    """A valid opening handshake."""

    path: bytes
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    key: bytes
    subprotocols: list[str]


class InvalidHandshake(Exception):
    """The request is no opening handshake of RFC 6455; it is answered with this status."""

    def __init__(self, status: HTTPStatus, reason: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers


def read_head(data: bytes, *, max_bytes: int) -> Head | None:
    """Read a GET that asks for a WebSocket and came in one piece, as nearly all do.

    Returns:
        None for anything else; a parser that can wait for more has to read it.
    """
    if not data.startswith(_METHOD):
        return None
    length = data.find(_END) + len(_END)
    if not len(_END) <= length <= max_bytes:
        return None
    parsed = _ParsedHead()
    try:
        httptools.HttpRequestParser(parsed).feed_data(data[:length])  # not what comes after it
    except httptools.HttpParserUpgrade as upgrade:
        # It stops elsewhere if the request has a body, or another request came before it.
        if upgrade.args[0] == length and asks_for_websocket(parsed.headers):
            return Head(parsed.target, parsed.headers, length)
    except httptools.HttpParserError:
        pass
    return None


def asks_for_websocket(headers: Headers) -> bool:
    """Whether a request asks for an upgrade, and WebSocket is among the protocols it names."""
    names_websocket = asks_for_upgrade = False
    for name, value in headers:
        if name == b"upgrade":
            names_websocket = names_websocket or _has(value, b"websocket")
        elif name == b"connection":
            asks_for_upgrade = asks_for_upgrade or _has(value, b"upgrade")
    return names_websocket and asks_for_upgrade


def read_request(method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Request:
    """Read a request that asks for a WebSocket.

    Raises:
        InvalidHandshake: RFC 6455 does not allow it.
    """
    if method != b"GET":
        raise InvalidHandshake(HTTPStatus.METHOD_NOT_ALLOWED, "GET only", (b"allow", b"GET"))
    key = version = None
    subprotocols: list[str] = []
    for name, value in headers:
        if not name.startswith(b"sec-websocket-"):
            if name == b"transfer-encoding" or (name == b"content-length" and int(value)):
                raise InvalidHandshake(HTTPStatus.BAD_REQUEST, "a handshake has no body")
            continue
        if name == b"sec-websocket-key":
            if key is not None:
                raise InvalidHandshake(HTTPStatus.BAD_REQUEST, "more than one Sec-WebSocket-Key")
            key = value
        elif name == b"sec-websocket-version":
            version = value
        elif name == b"sec-websocket-protocol":
            offered = (each.strip() for each in value.decode("latin-1").split(","))
            subprotocols.extend(each for each in offered if each)
    if version != _VERSION:
        supported = (b"sec-websocket-version", _VERSION)
        raise InvalidHandshake(HTTPStatus.UPGRADE_REQUIRED, "version 13 only", supported)
    path, _, query = origin_form(target).partition(b"?")
    return Request(path, query, headers, _check_key(key), subprotocols)


def switching_protocols(key: bytes, *, subprotocol: str | None, lines: bytes) -> bytes:
    """The response that opens the connection; ``lines`` are more headers, see `header_lines`."""
    accept = b2a_base64(sha1(key + _GUID, usedforsecurity=False).digest(), newline=False)
    if subprotocol is not None:
        lines += b"sec-websocket-protocol: %b\r\n" % subprotocol.encode("latin-1")
    return b"%b%b\r\n%b\r\n" % (_SWITCHING, accept, lines)


def header_of(headers: Headers, name: bytes) -> str | None:
    """A header's value; several of one name are joined, as RFC 9110 has it."""
    values = [value for each, value in headers if each == name]
    return b", ".join(values).decode("latin-1") if values else None


def header_lines(headers: Headers) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])


@lru_cache(maxsize=64)
def status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (status, _phrase(status))


def response(status: int, headers: Headers, body: bytes) -> bytes:
    """A whole response, after which the connection is closed."""
    return b"%b%bcontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
        status_line(status),
        header_lines(headers),
        len(body),
        body,
    )


def rejection(invalid: InvalidHandshake, headers: Headers) -> bytes:
    """The response to an invalid handshake."""
    plain = (b"content-type", b"text/plain; charset=utf-8")
    return response(invalid.status, [*headers, *invalid.headers, plain], invalid.reason.encode())


def _has(value: bytes, token: bytes) -> bool:
    """Whether a comma-separated list has the token, in whatever case."""
    value = value.lower()
    return value == token or token in [each.strip() for each in value.split(b",")]


def _check_key(key: bytes | None) -> bytes:
    try:
        if key is not None and len(a2b_base64(key, strict_mode=True)) == _KEY_BYTES:
            return key
    except ValueError:
        pass
    raise InvalidHandshake(HTTPStatus.BAD_REQUEST, "no valid Sec-WebSocket-Key")


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


class _ParsedHead:
    """Collects what httptools calls back with."""

    __slots__ = ("headers", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.rstrip(b" \t")))
