"""POSTs in one piece: which are read without the connection's parser, and as what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transport.whole_post import PostHead, WholePost, read_whole_post

LIMIT = 1000
WHOLE = b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nX-Name:  y \r\nContent-Length: 5\r\n\r\nhello"


def read(data: bytes, *, max_head_bytes: int = LIMIT) -> WholePost | None:
    return read_whole_post(data, max_head_bytes=max_head_bytes)


def changed(old: bytes, new: bytes) -> bytes:
    assert old in WHOLE
    return WHOLE.replace(old, new)


def test_a_post_in_one_piece_is_read_with_lower_case_names_and_trimmed_values() -> None:
    headers = [(b"host", b"x"), (b"x-name", b"y"), (b"content-length", b"5")]
    assert read(WHOLE) == WholePost(PostHead("/a", b"b=c", headers, body_bytes=5), b"hello")


def test_a_body_may_be_empty_and_the_connection_may_be_named() -> None:
    request = b"POST /a HTTP/1.1\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"
    post = read(request)
    assert post is not None
    assert (post.head.query, post.body) == (b"", b"")


@given(st.binary(min_size=5, max_size=5))
def test_a_head_that_came_before_has_another_body(body: bytes) -> None:
    post = read(changed(b"hello", body))
    assert post is not None
    assert post.body == body


@given(st.integers(min_value=0, max_value=len(WHOLE) - 1))
def test_a_part_of_one_is_not_read(length: int) -> None:
    assert read(WHOLE[:length]) is None


@given(st.binary(min_size=1, max_size=20) | st.just(WHOLE))
def test_one_with_anything_behind_it_is_not_read(more: bytes) -> None:
    assert read(WHOLE + more) is None


@pytest.mark.parametrize(
    "request_",
    [
        changed(b"POST", b"PUT"),
        changed(b"HTTP/1.1", b"HTTP/1.0"),
        changed(b"HTTP/1.1", b"HTTP/1.1 "),
        changed(b"/a?b=c", b"/a?b=c#d"),
        changed(b"Host: x", b"Connection: close"),
        changed(b"Host: x", b"Expect: 100-continue"),
        changed(b"Host: x", b"Connection: upgrade\r\nUpgrade: h2c"),
        changed(b"Host: x", b"Transfer-Encoding: chunked"),
        changed(b"Host: x", b"Content-Length: 5"),
        changed(b"Host: x", b"Host : x"),
        changed(b"Host: x", b"Host: x\r\n folded"),
        changed(b"Host: x", b"Host: \0"),
        changed(b"Host: x\r\n", b"Host: x\n"),
        changed(b"Length: 5", b"Length: +5"),
        changed(b"Content-Length: 5\r\n\r\nhello", b"\r\nhello"),
        changed(
            b"Content-Length: 5\r\n\r\nhello",
            b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        changed(
            b"Content-Length: 5\r\n\r\nhello",
            b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n",
        ),
        b"\r\n" + WHOLE,
        b"",
    ],
)
def test_what_is_unusual_or_wrong_is_left_to_the_connections_parser(request_: bytes) -> None:
    assert read(request_) is None


def test_a_long_head_is_left_to_the_connections_parser() -> None:
    head_bytes = len(WHOLE) - len(b"hello")
    assert read(WHOLE, max_head_bytes=head_bytes) is not None
    assert read(WHOLE, max_head_bytes=head_bytes - 1) is None
