"""What goes past nats-py, with a transport that only remembers it."""

import asyncio
from typing import cast

from hubbub_client.nats.parser import Tap


class Behind(asyncio.Protocol):
    """In the place of nats-py's own protocol."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)

    def eof_received(self) -> bool:
        self.heard.append("eof")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.heard.append(exc)

    def pause_writing(self) -> None:
        self.heard.append("pause")

    def resume_writing(self) -> None:
        self.heard.append("resume")


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.protocol: asyncio.BaseProtocol = Behind()
        self.written: list[object] = []
        self.closing = False

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: object) -> None:
        self.written.append(data)


def a_tap() -> tuple[Wire, Behind, Tap]:
    wire = Wire()
    behind = cast(Behind, wire.protocol)
    return wire, behind, Tap(wire, {})


async def test_what_falls_due_in_one_turn_of_the_loop_leaves_in_one_write() -> None:
    wire, _, tap = a_tap()

    tap.write(b"a")
    tap.write(b"b")
    assert wire.written == []
    await asyncio.sleep(0)
    tap.write(b"c")
    await asyncio.sleep(0)

    assert wire.written == [b"ab", b"c"]
    assert tap.unsent_bytes == 0


async def test_nothing_is_written_to_a_server_that_takes_nothing() -> None:
    wire, behind, tap = a_tap()
    tap.pause_writing()

    tap.write(b"a")
    await asyncio.sleep(0)
    tap.write(b"bc")
    await asyncio.sleep(0)

    assert wire.written == []
    assert tap.unsent_bytes == 3
    tap.resume_writing()
    assert wire.written == [b"abc"]
    assert tap.unsent_bytes == 0
    assert behind.heard == ["pause", "resume"]


async def test_nothing_is_written_to_a_socket_that_is_closed() -> None:
    wire, _, tap = a_tap()

    tap.write(b"a")
    wire.closing = True
    await asyncio.sleep(0)

    assert wire.written == []


async def test_whoever_was_there_before_hears_all_that_is_no_message() -> None:
    wire, behind, tap = a_tap()
    lost = ConnectionResetError()

    assert wire.protocol is tap
    tap.data_received(b"PI")
    tap.data_received(b"NG\r\n")
    assert tap.eof_received() is True
    tap.connection_lost(lost)

    assert behind.heard == [b"PING\r\n", "eof", lost]
