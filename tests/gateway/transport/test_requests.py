"""Requests for a WebSocket, and others, plain and odd: how each of them is answered."""

import pytest

from tests.gateway.transport.memory_server import MemoryServer
from tests.gateway.transport.sockets import a_handshake

HANDSHAKE = a_handshake()
PLAIN = b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
ACCEPT = b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"


def but(part: bytes, instead: bytes) -> bytes:
    assert part in HANDSHAKE
    return HANDSHAKE.replace(part, instead)


def among(header: bytes) -> bytes:
    return a_handshake(more=header + b"\r\n")


REQUESTS = [
    (HANDSHAKE, 101),
    (PLAIN, 200),
    # Methods, versions, targets.
    (a_handshake(method=b"POST"), 405),
    (a_handshake(method=b"HEAD"), 405),
    (a_handshake(method=b"CONNECT", target=b"x:1"), 405),
    (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    (a_handshake(method=b"get"), 400),
    (but(b"HTTP/1.1", b"HTTP/1.0"), 101),
    (but(b"HTTP/1.1", b"HTTP/0.9"), 101),
    (but(b"HTTP/1.1", b"HTTP/3.1"), 400),
    (b"\r\n" + HANDSHAKE, 101),
    (a_handshake(target=b"/?a?b"), 101),
    (a_handshake(target=b"/unknown"), 403),
    (a_handshake(target=b"/%2e"), 403),
    (a_handshake(target=b"/#x"), 403),
    (a_handshake(target=b"*"), 403),
    (a_handshake(target=b"http://x/"), 101),
    (a_handshake(target=b"http://x"), 101),
    (a_handshake(target=b"WS://x:80?a=/unknown"), 101),
    (a_handshake(target=b"http://x/unknown"), 403),
    (a_handshake(target=b"x"), 400),
    (a_handshake(target=b"/ x"), 400),
    # Key and version.
    (but(KEY, b""), 400),
    (but(KEY, KEY + KEY), 400),
    (a_handshake(key=b"abc"), 400),
    (a_handshake(key=b"dGhlIHNhbXBsZSBub25jZQ=!"), 400),
    (a_handshake(version=b"8"), 426),
    (but(b"Sec-WebSocket-Version: 13\r\n", b""), 426),
    (among(b"Sec-WebSocket-Version: 8"), 426),
    # What is asked for.
    (HANDSHAKE.replace(b"Upgrade:", b"upgrade:").replace(b"Sec-WebSocket", b"sec-websocket"), 101),
    (HANDSHAKE.replace(b"Upgrade:", b"UPGRADE:").replace(b"Sec-WebSocket", b"SEC-WEBSOCKET"), 101),
    (but(b"Upgrade: websocket", b"Upgrade: WebSocket"), 101),
    (but(b"Upgrade: websocket", b"Upgrade:websocket"), 101),
    (but(b"Upgrade: websocket", b"Upgrade: h2c"), 200),
    (but(b"Upgrade: websocket", b"Upgrade: h2c, websocket"), 101),
    (but(b"Upgrade: websocket", b"Upgrade: h2c\r\nUpgrade: websocket"), 101),
    (but(b"Upgrade: websocket", b"Upgrade: websocket\r\nUpgrade: h2c"), 101),
    (but(b"Upgrade: websocket", b"Upgrade: websocket \t"), 101),
    (but(b"Upgrade: websocket", b"Upgrade: websockets"), 200),
    (but(b"Upgrade: websocket\r\n", b""), 200),
    (but(b"Connection: Upgrade\r\n", b""), 200),
    (but(b"Connection: Upgrade", b"Connection: keep-alive, upgrade"), 101),
    (but(b"Connection: Upgrade", b"Connection: close,Upgrade"), 101),
    (but(b"Connection: Upgrade", b"Connection: keep-alive\r\nConnection: Upgrade"), 101),
    (but(b"Connection: Upgrade", b"Connection: Upgrade\r\nConnection: keep-alive"), 101),
    (but(b"Connection: Upgrade", b"Connection: UPGRADE \t"), 101),
    (but(b"Connection: Upgrade", b"Connection: upgraded"), 200),
    # Heads that are odd otherwise.
    (but(b"Host: x\r\n", b""), 101),
    (but(KEY, KEY.replace(b"\r", b" \t\r")), 101),
    (a_handshake(version=b"13 \t"), 101),
    (among(b"Content-Length: 0 "), 101),
    (among(b"Content-Length: 1") + b"x", 400),
    (among(b"Content-Length: 3\r\nContent-Length: 4"), 400),
    (among(b"Content-Length: 3\r\nTransfer-Encoding: chunked"), 400),
    (among(b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    (among(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 400),
    (among(b"Expect: 100-continue"), 101),
    (among(b"Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b"), 101),
    # Whose page asks.
    (among(b"Origin: https://x"), 101),
    (among(b"Origin: https://y"), 403),
    (among(b"Origin: https://x\r\nOrigin: https://y"), 403),
    (among(b"Origin: null"), 403),
    (among(b"X:  \t y \t "), 101),
    (among(b"X: \xff"), 101),
    (among(b"X: y\r\n z"), 400),
    (among(b"X: a\rb"), 400),
    (among(b"X: \0"), 400),
    (among(b": y"), 400),
    (but(b"Upgrade: websocket", b"Upgrade : websocket"), 400),
    (HANDSHAKE.replace(b"\r\n", b"\n"), 400),
    (b"\x16\x03\x01\0\0\r\nupgrade: websocket\r\n\r\n", 400),
]


@pytest.mark.parametrize(("request_", "status"), REQUESTS)
@pytest.mark.parametrize("way", ["whole", "byte by byte", "after another"])
async def test_a_request_is_answered_alike_however_it_comes(
    way: str, request_: bytes, status: int
) -> None:
    peer, before = MemoryServer().peer(), list[int]()
    if way == "after another":
        peer.send(PLAIN)
        before = await peer.answered()
    peer.send(*([request_] if way != "byte by byte" else bytewise(request_)))

    assert await peer.answered(len(before) + 1) == [*before, status]
    assert (ACCEPT in peer.got) == (status == 101)
    assert peer.is_closing() == (status not in {101, 200})


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]
