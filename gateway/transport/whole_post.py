"""Reads a POST that came in one piece, as nearly all of services do. Pure.

What a request is, and where it ends, is llhttp's word here too. What is unusual in any way is left
to the parser of the connection, which can also wait for more. A service sends the same head again
and again, so those that were read are remembered.
"""

from functools import lru_cache
from typing import NamedTuple

import httptools

_METHOD = b"POST "
_END = b"\r\n\r\n"
_REMEMBERED_HEADS = 512
_REMEMBERED_BYTES = 1024
"""The longest head that is remembered. With what is read of them all take 1 MiB, or 10 MiB if
somebody sends heads of nothing but tiny headers."""


class PostHead(NamedTuple):
    """Of an HTTP/1.1 request that keeps its connection. Header names are in lower case."""

    path: str
    """As it was sent: `%` is not decoded."""
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body_bytes: int


class WholePost(NamedTuple):
    head: PostHead
    body: bytes


def read_whole_post(data: bytes, *, max_head_bytes: int) -> WholePost | None:
    """The request that the bytes are, if they are one and nothing else; None for anything else."""
    if not data.startswith(_METHOD):
        return None
    head_bytes = data.find(_END) + len(_END)
    if not len(_END) <= head_bytes <= max_head_bytes:
        return None
    read = _remembered_head if head_bytes <= _REMEMBERED_BYTES else _read_head
    head = read(data[:head_bytes])
    if head is None or head_bytes + head.body_bytes != len(data):
        return None
    return WholePost(head, data[head_bytes:])


def _read_head(data: bytes) -> PostHead | None:
    """None if it is unusual, or does not say how long its body is."""
    read = _Read()
    parser = httptools.HttpRequestParser(read)
    try:
        parser.feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    if read.is_unusual or parser.get_http_version() != "1.1" or b"#" in read.target:
        return None
    lengths = [value for name, value in read.headers if name == b"content-length"]
    if not lengths or any(name == b"transfer-encoding" for name, _ in read.headers):
        return None
    path, _, query = read.target.partition(b"?")
    return PostHead(path.decode("latin-1"), query, read.headers, int(lengths[0]))


_remembered_head = lru_cache(_REMEMBERED_HEADS)(_read_head)


class _Read:
    """Collects what httptools calls back with."""

    __slots__ = ("headers", "is_unusual", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_unusual = False

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        name, value = name.lower(), value.rstrip(b" \t")
        if name == b"expect" or (name == b"connection" and value.lower() != b"keep-alive"):
            self.is_unusual = True
        self.headers.append((name, value))

    def on_body(self, _part: bytes) -> None:
        self.is_unusual = True  # the head would end elsewhere than we think
