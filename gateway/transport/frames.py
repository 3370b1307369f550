"""WebSocket frames, ready to be written, and how a connection ends."""

from typing import NamedTuple, NewType

from websockets import frames

Frame = NewType("Frame", bytes)
"""One WebSocket message as it goes over the wire, ready for any number of connections."""


class Close(NamedTuple):
    """How a connection ends, as its peer reads it. RFC 6455, section 7.1.5 and 7.1.6."""

    code: int
    reason: str


def text_frame(text: bytes) -> Frame:
    """A text message; ``text`` is UTF-8. Nearly all frames are made here, so it is in line."""
    size = len(text)
    if size < _TWO_BYTES_MORE:
        return Frame(b"\x81%c%b" % (size, text))
    if size < 1 << 16:
        return Frame(b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), text))
    return Frame(b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), text))


def compressed_text_frame(data: bytes) -> Frame:
    """A text message, as RFC 7692 marks it; ``data`` is compressed already."""
    return Frame(b"\xc1" + text_frame(data)[1:])


def binary_frame(data: bytes) -> Frame:
    return _serialized(frames.Opcode.BINARY, data)


def ping_frame(payload: bytes = b"") -> Frame:
    return _serialized(frames.Opcode.PING, payload)


def pong_frame(payload: bytes) -> Frame:
    return _serialized(frames.Opcode.PONG, payload)


def close_frame(close: Close) -> Frame:
    """A close frame; a code that may not be sent (1005, 1006) is left out."""
    if close.code in (frames.CloseCode.NO_STATUS_RCVD, frames.CloseCode.ABNORMAL_CLOSURE):
        return _serialized(frames.Opcode.CLOSE, b"")
    reason = close.reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
    return _serialized(frames.Opcode.CLOSE, frames.Close(close.code, reason).serialize())


_TWO_BYTES_MORE = 126  # RFC 6455, section 5.2: in place of a length that follows in two bytes
_MAX_REASON_BYTES = 123  # RFC 6455, section 5.5: 125 in a control frame, less the code


def _serialized(opcode: frames.Opcode, payload: bytes) -> Frame:
    return Frame(frames.Frame(opcode, payload).serialize(mask=False))
