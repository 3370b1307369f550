"""Compressed messages: RFC 7692, with a client of its own, and without."""

import random
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
)
from websockets.frames import CloseCode, Frame, Opcode
from websockets.streams import StreamReader

from gateway.transport.deflate import INFLATER_BYTES, Inflater, deflated_text_frame, negotiate
from gateway.transport.frames import text_frame
from gateway.transport.parser import FRAGMENT, FrameParser, Message, Text, Violation
from gateway.transport.websocket import DeflatingConnection, WebSocketConnection
from tests.gateway.transport.peer_frames import masked, reserved
from tests.gateway.transport.sockets import a_gateway, ended
from tests.gateway.transport.transports import AHub, Wire

OURS = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("offered", "answer"),
    [
        ("permessage-deflate", OURS),
        ("permessage-deflate; client_max_window_bits", OURS),
        ("permessage-deflate; client_max_window_bits=10", OURS + b"; client_max_window_bits=10"),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", OURS),
        ("permessage-deflate; server_max_window_bits=12", OURS + b"; server_max_window_bits=12"),
        ("permessage-deflate; server_max_window_bits=11", None),
        ("permessage-deflate; server_max_window_bits=9, permessage-deflate", OURS),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; unknown", None),
        ("permessage-deflate; client_no_context_takeover=1", None),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
        ("x-webkit-deflate-frame, permessage-deflate; client_max_window_bits", OURS),
        ("x-webkit-deflate-frame", None),
        ("permessage-deflate;", None),
        ("", None),
        (", ;", None),
    ],
)
def test_an_offer_is_answered_where_nothing_has_to_be_kept_between_messages(
    offered: str, answer: bytes | None
) -> None:
    assert negotiate(offered) == answer


@given(st.text(max_size=3000), st.integers(0, 20))
def test_whoever_reads_by_the_standard_reads_what_is_compressed(text: str, times: int) -> None:
    data = text.encode() * times
    reader, peer = StreamReader(), PerMessageDeflate(True, True, 12, 15)
    for _ in range(2):  # nothing refers to an earlier message
        reader.feed_data(deflated_text_frame(data))
        parsing = Frame.parse(reader.read_exact, mask=False, extensions=[peer])
        with pytest.raises(StopIteration) as parsed:
            next(parsing)
        assert bytes(parsed.value.value.data) == data


def test_what_gains_nothing_is_sent_as_it_is() -> None:
    noise = bytes(random.Random(1).choices(range(33, 127), k=150))
    dense = zlib.compress(noise).hex().encode()[:150]
    for text in (b"short" * 10, noise):
        assert deflated_text_frame(text) == text_frame(text)
    assert len(deflated_text_frame(dense)) <= len(text_frame(dense))
    assert len(deflated_text_frame(b"long and long again " * 10)) < 50


def compressed(text: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    data = compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return data.removesuffix(b"\0\0\xff\xff")


def in_frames(data: bytes, places: list[int]) -> bytes:
    """A compressed message in fragments."""
    cuts = sorted({0, len(data), *(each % (len(data) + 1) for each in places)})
    parts = [data[begin:end] for begin, end in pairwise(cuts)]
    sent = b""
    for number, part in enumerate(parts):
        opcode = Opcode.TEXT if number == 0 else Opcode.CONT
        frame = masked(opcode, part, fin=number == len(parts) - 1)
        sent += reserved(frame) if number == 0 else frame
    return sent


def read(data: bytes, max_bytes: int = 65536) -> list[Message]:
    parser = FrameParser(max_bytes, Inflater())
    parser.feed_data(data)
    messages = []
    while (message := parser.next_message()) is not None:
        if message is not FRAGMENT:
            messages.append(message)
    assert parser.is_empty
    assert parser.held_bytes == 0
    return messages


@given(st.lists(st.tuples(st.text(max_size=500), st.lists(st.integers(0, 999), max_size=3))))
def test_compressed_messages_are_read_in_any_fragments_and_others_between_them(
    said: list[tuple[str, list[int]]],
) -> None:
    other = masked(Opcode.TEXT, b"-")
    sent = b"".join([in_frames(compressed(text.encode()), cuts) + other for text, cuts in said])
    texts = [message.text for message in read(sent) if isinstance(message, Text)]
    assert texts == [each for text, _ in said for each in (text, "-")]


@pytest.mark.parametrize("places", [[], [5], [1, 2, 3]])
@pytest.mark.parametrize(("size", "is_taken"), [(1000, True), (1001, False), (10_000_000, False)])
def test_what_is_inflated_is_bounded_like_any_message(
    size: int, is_taken: bool, places: list[int]
) -> None:
    sent = in_frames(compressed(b"0" * size), places)
    if is_taken:
        assert read(sent, 1000) == [Text("0" * size)]
    else:
        with pytest.raises(Violation) as violation:
            read(sent, 1000)
        assert violation.value.close[0] == CloseCode.MESSAGE_TOO_BIG  # type: ignore[index]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (in_frames(b"\xff\xff\xff\xff", []), CloseCode.PROTOCOL_ERROR),
        (in_frames(compressed(b"\xff"), []), CloseCode.INVALID_DATA),
        (reserved(masked(Opcode.PING)), CloseCode.PROTOCOL_ERROR),
        (reserved(masked(Opcode.TEXT), 0x20), CloseCode.PROTOCOL_ERROR),
        (
            reserved(masked(Opcode.TEXT, b"a", fin=False)) + reserved(masked(Opcode.CONT, b"b")),
            CloseCode.PROTOCOL_ERROR,
        ),
    ],
)
def test_what_is_not_compressed_rightly_ends_the_connection(sent: bytes, code: int) -> None:
    with pytest.raises(Violation) as violation:
        read(sent)
    assert violation.value.close[0] == code  # type: ignore[index]


async def test_a_message_that_has_begun_counts_with_its_window() -> None:
    hub = AHub(total_unfinished_bytes=3 * INFLATER_BYTES)
    wires = [Wire(hub, DeflatingConnection) for _ in range(4)]
    begun = reserved(masked(Opcode.TEXT, compressed(b"a")[:1], fin=False))
    for wire in wires:
        wire.connection.data_received(begun)
    assert [wire.connection.is_open for wire in wires] == [False, True, True, True]


async def test_an_idle_connection_costs_no_more() -> None:
    assert DeflatingConnection.__basicsize__ == WebSocketConnection.__basicsize__


@pytest.mark.parametrize(
    "offer",
    [
        ClientPerMessageDeflateFactory(),
        ClientPerMessageDeflateFactory(client_max_window_bits=True),
        ClientPerMessageDeflateFactory(server_max_window_bits=12, client_max_window_bits=9),
        ClientPerMessageDeflateFactory(
            server_no_context_takeover=True, client_no_context_takeover=True
        ),
    ],
)
async def test_a_client_that_offers_it_speaks_compressed(
    offer: ClientPerMessageDeflateFactory,
) -> None:
    async with (
        a_gateway(True) as gateway,
        connect(f"ws://127.0.0.1:{gateway.port}/", compression=None, extensions=[offer]) as tab,
    ):
        assert [each.name for each in tab.protocol.extensions] == ["permessage-deflate"]
        for text in ("", "short", "again and again " * 100, "ä" * 10_000):
            await tab.send(text)
            assert await tab.recv() == text
        await tab.send(["in ", "many ", "parts " * 100])
        assert await tab.recv() == "in many " + "parts " * 100
        await tab.send(b"binary " * 100)
        assert await tab.recv() == b"binary " * 100
        await (await tab.ping())
        await tab.send("0" * 1_000_000)
        assert await ended(tab) == (1009, "message too big")


@pytest.mark.parametrize("compresses", [True, False])
async def test_it_is_spoken_only_where_both_sides_want_it(compresses: bool) -> None:
    url = "ws://127.0.0.1:{}/"
    async with (
        a_gateway(compresses) as gateway,
        connect(url.format(gateway.port), compression=None if compresses else "deflate") as tab,
    ):
        assert tab.protocol.extensions == []
        await tab.send("again and again " * 100)
        assert await tab.recv() == "again and again " * 100
        assert not gateway.echoes[0].connection.deflates
