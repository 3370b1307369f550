"""An upgrade request to an ASGI scope and its answers, by RFC 6455, section 4. Pure.

The request was parsed and rebuilt by uvicorn's HTTP side, so its form is sound: a request
line, and headers with lower-case names.
"""

from base64 import b64decode
from collections.abc import Iterable
from http import HTTPStatus
from typing import NamedTuple

from websockets.utils import accept_key

Headers = Iterable[tuple[bytes, bytes]]

_VERSION = b"13"
_KEY_BYTES = 16


class Request(NamedTuple):
    """An upgrade request; header names are in lower case."""

    path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    key: str
    subprotocols: list[str]


class Refused(Exception):
    """The request asks for no WebSocket that we speak: answered with this status."""

    def __init__(self, status: HTTPStatus, reason: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers


def read_request(head: bytes) -> Request:
    """Read what uvicorn hands over.

    Raises:
        Refused: it asks for no WebSocket.
    """
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    method, target, _ = first.split(b" ", 2)
    if method != b"GET":
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "GET only", (b"allow", b"GET"))
    key = version = None
    headers: list[tuple[bytes, bytes]] = []
    subprotocols: list[str] = []
    for line in lines:
        name, _, value = line.partition(b": ")
        headers.append((name, value))
        if name == b"sec-websocket-key":
            if key is not None:
                raise Refused(HTTPStatus.BAD_REQUEST, "more than one Sec-WebSocket-Key")
            key = value
        elif name == b"sec-websocket-version":
            version = value
        elif name == b"sec-websocket-protocol":
            offered = (each.strip() for each in value.decode("latin-1").split(","))
            subprotocols.extend(each for each in offered if each)
    if version != _VERSION:
        supported = (b"sec-websocket-version", _VERSION)
        raise Refused(HTTPStatus.UPGRADE_REQUIRED, "version 13 only", supported)
    path, _, query = target.partition(b"?")
    return Request(path, query, headers, _checked(key), subprotocols)


def switching(request: Request, *, subprotocol: str | None, headers: Headers) -> bytes:
    """The answer that opens the connection."""
    lines = [_SWITCHING, accept_key(request.key).encode()]
    if subprotocol is not None:
        lines += [b"\r\nsec-websocket-protocol: ", subprotocol.encode("latin-1")]
    for name, value in headers:
        lines += [b"\r\n", name, b": ", value]
    lines.append(b"\r\n\r\n")
    return b"".join(lines)


def response(status: int, headers: Headers, body: bytes) -> bytes:
    """An ordinary answer, after which the connection is closed."""
    lines = [b"HTTP/1.1 %d %s" % (status, _phrase(status))]
    lines += [name + b": " + value for name, value in headers]
    lines += [b"content-length: %d" % len(body), b"connection: close", b"", body]
    return b"\r\n".join(lines)


def refusal(refused: Refused, headers: Headers) -> bytes:
    """The answer to a request that asks for no WebSocket that we speak."""
    plain = (b"content-type", b"text/plain; charset=utf-8")
    return response(refused.status, [*headers, *refused.headers, plain], refused.reason.encode())


_SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
    b"sec-websocket-accept: "
)


def _checked(key: bytes | None) -> str:
    try:
        if key is not None and len(b64decode(key, validate=True)) == _KEY_BYTES:
            return key.decode("ascii")
    except ValueError:
        pass
    raise Refused(HTTPStatus.BAD_REQUEST, "no valid Sec-WebSocket-Key")


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
