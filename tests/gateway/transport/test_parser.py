"""Bytes to messages, for any bytes in any pieces."""

import struct
import tracemalloc
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import CloseCode, Opcode

from gateway.transport.frames import Close
from gateway.transport.parser import (
    FRAGMENT,
    Binary,
    FrameParser,
    Message,
    Ping,
    Pong,
    Text,
    Violation,
    parse_single_text_frame,
)
from tests.gateway.transport.peer_frames import VIOLATIONS, masked

MAX_BYTES = 300


def read(*pieces: bytes, max_bytes: int = MAX_BYTES) -> list[Message]:
    """What the pieces amount to; a violation is the close that it ends with."""
    parser, messages = FrameParser(max_bytes), list[Message]()
    try:
        for piece in pieces:
            parser.feed_data(piece)
            while (message := parser.next_message()) is not None:
                if message is not FRAGMENT:
                    messages.append(message)
    except Violation as violation:
        return [*messages, cast(Close, violation.close)]
    assert parser.is_empty or pieces, "nothing came and something is held"
    return messages


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in pairwise(places)]


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bytes, list[Message]]:
    """Frames of messages, some in fragments with pings between, and what they say."""
    sent, said = b"", list[Message]()
    for _ in range(draw(st.integers(0, 5))):
        text = draw(st.text(max_size=40))
        is_text = draw(st.booleans())
        opcode = Opcode.TEXT if is_text else Opcode.BINARY
        fragments = split(text.encode(), draw(st.lists(st.integers(0, 100), max_size=3))) or [b""]
        for number, fragment in enumerate(fragments):
            kind = opcode if number == 0 else Opcode.CONT
            last = number == len(fragments) - 1
            if not last and draw(st.booleans()):
                sent += masked(kind, fragment, fin=False) + masked(Opcode.PING, b"p")
                said.append(Ping(b"p"))
            else:
                sent += masked(kind, fragment, fin=last)
        said.append(Text(text) if is_text else Binary(text.encode()))
        if draw(st.booleans()):
            sent += masked(Opcode.PONG, b"q")
            said.append(Pong(b"q"))
    return sent, said


@given(conversations(), st.lists(st.integers(0, 10_000), max_size=20))
def test_any_split_of_any_frames_gives_the_same_messages(
    conversation: tuple[bytes, list[Message]], cuts: list[int]
) -> None:
    sent, said = conversation
    assert read(*split(sent, cuts)) == said


@st.composite
def nearly_lone_texts(draw: st.DrawFn) -> bytes:
    """A frame that is a text message by itself, or differs from one by some bytes."""
    fields = [draw(st.sampled_from([0x81, 0x81, 0x81, 0x01, 0x80, 0x82, 0x89, 0xC1]))]
    payload = draw(st.text(max_size=150).map(str.encode) | st.binary(max_size=400))
    size = draw(st.just(len(payload)) | st.integers(0, 500))
    form = draw(st.sampled_from([size, 126, 126, 127])) & 0x7F
    fields.append(form | draw(st.sampled_from([0x80, 0x80, 0x80, 0])))
    length = {126: size.to_bytes(2, "big"), 127: size.to_bytes(8, "big")}.get(form, b"")
    data = bytes(fields) + length + draw(st.binary(min_size=4, max_size=4)) + payload
    return data[: draw(st.just(len(data)) | st.integers(0, len(data)))]


@given(nearly_lone_texts() | st.binary(max_size=20), st.sampled_from([MAX_BYTES, 130]))
@example(b"\x81\xff" + b"x" * 131, MAX_BYTES)  # the form of 127, in as many bytes as that
@example(b"\x81\xfe\x00\x00\0\0\0\0", MAX_BYTES)
@example(b"\x81\x80\0\0\0\0", MAX_BYTES)
@example(masked(Opcode.TEXT, b"x" * 130), 130)
@example(masked(Opcode.TEXT, b"x" * 131), 130)
def test_a_single_text_frame_is_read_as_the_parser_reads_it(data: bytes, max_bytes: int) -> None:
    text = parse_single_text_frame(data, max_bytes)
    parsed = FrameParser(max_bytes)
    parsed.feed_data(data)
    try:
        first, rest = parsed.next_message(), parsed.next_message()
    except Violation:
        first = rest = None
    is_lone = isinstance(first, Text) and rest is None and parsed.is_empty
    if text is not None:
        assert is_lone
        assert first == text
    elif is_lone:
        assert data[1] == 0xFF, "all are but those with a length of eight bytes"


@given(st.lists(st.binary(max_size=60), max_size=10))
def test_any_bytes_end_in_messages_or_a_close(pieces: list[bytes]) -> None:
    for message in read(*pieces):
        assert isinstance(message, Text | Binary | Ping | Pong | Close)


@given(st.binary(min_size=1, max_size=30), st.integers(0, 400))
def test_a_broken_frame_among_whole_ones_costs_only_what_follows_it(noise: bytes, at: int) -> None:
    whole = masked(Opcode.TEXT, b"first")
    second = bytearray(masked(Opcode.TEXT, b"second") + noise)
    second[at % len(second)] ^= 0xFF
    assert read(whole, bytes(second))[0] == Text("first")


TOO_BIG = [
    (masked(Opcode.TEXT, b"x" * (MAX_BYTES + 1)), CloseCode.MESSAGE_TOO_BIG),
    (
        masked(Opcode.BINARY, b"x" * MAX_BYTES, fin=False) + masked(Opcode.CONT, b"x"),
        CloseCode.MESSAGE_TOO_BIG,
    ),
]


@pytest.mark.parametrize(("sent", "code"), [*VIOLATIONS, *TOO_BIG])
def test_each_violation_ends_with_the_code_of_rfc_6455(sent: bytes, code: int) -> None:
    [close] = read(sent)
    assert isinstance(close, Close)
    assert close.code == code


def test_text_that_is_not_utf8_ends_before_the_message_is_whole() -> None:
    begun = masked(Opcode.TEXT, "aé".encode()[:-1], fin=False)
    assert read(begun) == []
    [close] = read(begun, masked(Opcode.CONT, b"(", fin=False))
    assert close == Close(CloseCode.INVALID_DATA, "not UTF-8")
    [close] = read(begun, masked(Opcode.CONT, b"", fin=True))
    assert close == Close(CloseCode.INVALID_DATA, "not UTF-8")


def test_empty_fragments_are_not_kept_however_many_come() -> None:
    parser = FrameParser(MAX_BYTES)
    parser.feed_data(
        masked(Opcode.TEXT, b"a", fin=False) + masked(Opcode.CONT, b"", fin=False) * 1000
    )
    assert [parser.next_message() for _ in range(1002)] == [FRAGMENT] * 1001 + [None]
    parser.feed_data(masked(Opcode.CONT, b"b"))
    assert parser.next_message() == Text("ab")
    assert parser.is_empty


def test_a_text_in_the_smallest_fragments_costs_no_more_than_what_is_counted() -> None:
    parser = FrameParser(64 * 1024)
    parser.feed_data(masked(Opcode.TEXT, b"", fin=False))
    parser.next_message()
    fragment = masked(Opcode.CONT, "Ā".encode(), fin=False)
    tracemalloc.start()
    for _ in range(10_000):
        parser.feed_data(fragment)
        parser.next_message()
    cost, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert parser.held_bytes == 20_000
    assert cost < 2 * parser.held_bytes
    parser.feed_data(masked(Opcode.CONT, b""))
    assert parser.next_message() == Text("Ā" * 10_000)


def test_a_ping_comes_through_between_the_fragments_of_a_message_that_is_full() -> None:
    begun = masked(Opcode.BINARY, b"x" * MAX_BYTES, fin=False)
    whole = Binary(b"x" * MAX_BYTES)
    assert read(begun, masked(Opcode.PING, b"p" * 125), masked(Opcode.CONT, b"")) == [
        Ping(b"p" * 125),
        whole,
    ]


def test_a_close_says_why_or_nothing() -> None:
    assert read(masked(Opcode.CLOSE, struct.pack("!H", 1001) + b"bye")) == [Close(1001, "bye")]
    assert read(masked(Opcode.CLOSE, b"")) == [Close(1005, "")]
