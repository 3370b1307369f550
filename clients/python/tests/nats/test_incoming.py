"""Cutting what a server sends, however it was split on the way."""

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub_client.nats.parser import Handler, NatsParser

HEADERS = b"NATS/1.0\r\nA: MSG a 1 3\r\n\r\n"


class Message(NamedTuple):
    subject: bytes
    payload: bytes
    headers: bytes | None
    reply: bytes

    def on_wire(self, number: int) -> bytes:
        to = b" %b" % self.reply if self.reply else b""
        if self.headers is None:
            line = b"MSG %b %d%b %d" % (self.subject, number, to, len(self.payload))
            return b"%b\r\n%b\r\n" % (line, self.payload)
        size = len(self.headers) + len(self.payload)
        line = b"HMSG %b %d%b %d %d" % (self.subject, number, to, len(self.headers), size)
        return b"%b\r\n%b%b\r\n" % (line, self.headers, self.payload)


class Receiver:
    """Subscribed under the number 1, and to nothing else."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.passed: list[bytes] = []
        self.handlers: dict[int, Handler] = {
            1: lambda *parts: self.heard.append(Message(*parts)),
        }
        self.incoming = NatsParser(self.handlers, pass_on=self.passed.append)

    def take(self, chunks: Iterable[bytes]) -> None:
        for chunk in chunks:
            self.incoming.take(chunk)


names = st.from_regex(rb"[A-Za-z0-9.$_]{1,20}", fullmatch=True)
messages = st.builds(
    Message,
    subject=names,
    payload=st.binary(max_size=40) | st.just(b"\r\nMSG a 1 3\r\n"),
    headers=st.none() | st.just(HEADERS),
    reply=st.just(b"") | names,
)
others = st.sampled_from(
    [b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"-ERR 'no'\r\n", b'INFO {"a":"MSG a 1 3"}\r\n', b"\r\n"]
)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[begin:end] for begin, end in pairwise(places)]


@given(
    st.lists(messages | others | st.tuples(messages), max_size=8),
    st.lists(st.integers(0, 1000), max_size=12),
)
def test_any_split_gives_the_same_messages_and_passes_on_the_same_rest(
    sent: list[Message | bytes | tuple[Message]], cuts: list[int]
) -> None:
    ours = [each for each in sent if isinstance(each, Message)]
    rest = [
        each if isinstance(each, bytes) else each[0].on_wire(2)  # of a subscription not ours
        for each in sent
        if not isinstance(each, Message)
    ]
    wire = b"".join(
        each if isinstance(each, bytes)
        else each.on_wire(1) if isinstance(each, Message)
        else each[0].on_wire(2)
        for each in sent
    )  # fmt: skip
    receiver = Receiver()

    receiver.take(split(wire, cuts))

    assert receiver.heard == ours
    assert receiver.passed == rest


@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"MSG a 1 ", b"HMSG a 1 2 ", b"\r\n"])))
def test_no_bytes_make_it_fail(chunks: list[bytes]) -> None:
    Receiver().take(chunks)


@pytest.mark.parametrize(
    "line",
    [
        b"MSG", b"MSG a", b"MSG a 1", b"MSG a x 3", b"MSG a 1 -3", b"MSG a 1 b c 3", b"MSG a 1 3 x",
        b"HMSG a 1 3", b"HMSG a 1 -1 3", b"HMSG a 1 4 3", b"HMSG a 1 b c 1 3", b"msg a 1 3",
        b"MSGS a 1 3",
    ],
)  # fmt: skip
def test_a_malformed_line_is_passed_on_to_be_judged(line: bytes) -> None:
    receiver = Receiver()

    receiver.take([line + b"\r\n", b"MSG a 1 2\r\nhi\r\n"])

    assert receiver.passed == [line + b"\r\n"]
    assert receiver.heard == [Message(b"a", b"hi", None, b"")]


def test_a_handler_that_raises_costs_only_its_own_message() -> None:
    receiver = Receiver()

    def fail(*_message: object) -> None:
        raise RuntimeError("cannot read that")

    receiver.handlers[2] = fail
    receiver.take([b"MSG a 2 1\r\n1\r\nMSG a 1 1\r\n2\r\nPING\r\n"])

    assert receiver.heard == [Message(b"a", b"2", None, b"")]
    assert receiver.passed == [b"PING\r\n"]


def test_a_handler_may_end_its_subscription() -> None:
    receiver = Receiver()
    receiver.handlers[2] = lambda *_message: receiver.handlers.clear()

    receiver.take([b"MSG a 1 1\r\n1\r\nMSG a 2 1\r\n2\r\nMSG a 1 1\r\n3\r\n"])

    assert [message.payload for message in receiver.heard] == [b"1"]
    assert receiver.passed == [b"MSG a 1 1\r\n3\r\n"]


def test_a_long_message_comes_in_many_small_pieces() -> None:
    receiver, payload = Receiver(), bytes(8 * 1024 * 1024)
    wire = Message(b"a", payload, None, b"").on_wire(1)
    pieces = [wire[at : at + 512] for at in range(0, len(wire), 512)]

    receiver.take(pieces)  # copying what there is for each of them would be 64 GiB

    assert [message.payload for message in receiver.heard] == [payload]
