"""What is sent, as a parser that is none of ours reads it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close as ClosePayload
from websockets.frames import Frame as RawFrame
from websockets.frames import Opcode
from websockets.streams import StreamReader

from gateway.transport.frames import Close, Frame, close_frame, text_frame


def parsed(frame: Frame) -> RawFrame:
    reader = StreamReader()
    reader.feed_data(frame)
    with pytest.raises(StopIteration) as done:
        next(RawFrame.parse(reader.read_exact, mask=False))
    assert not reader.buffer
    raw: RawFrame = done.value.value
    return raw


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
def test_a_text_of_any_size_is_one_text_frame(size: int) -> None:
    text = b"x" * size
    raw = parsed(text_frame(text))
    assert (raw.opcode, raw.fin, bytes(raw.data)) == (Opcode.TEXT, True, text)


@given(st.sampled_from([1000, 1008, 1012, 3500, 4999]), st.text(max_size=200))
def test_any_reason_fits_into_a_close(code: int, reason: str) -> None:
    payload = ClosePayload.parse(bytes(parsed(close_frame(Close(code, reason))).data))
    assert payload.code == code
    assert reason.startswith(payload.reason)


@pytest.mark.parametrize("code", [1005, 1006])
def test_a_code_that_may_not_be_sent_is_left_out(code: int) -> None:
    assert parsed(close_frame(Close(code, "lost"))).data == b""
