"""Frames as a peer sends them: masked, and some that no peer may send."""

import struct

from websockets.frames import CloseCode, Frame, Opcode


def masked(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


def reserved(frame: bytes, bit: int = 0x40) -> bytes:
    """The frame with a reserved bit; the first says that the message is compressed."""
    return bytes([frame[0] | bit]) + frame[1:]


HELLO = masked(Opcode.TEXT, b"hello")
CLOSE = masked(Opcode.CLOSE, struct.pack("!H", 1000))

VIOLATIONS = [
    (b"\x81\x02\xff\xfe", CloseCode.PROTOCOL_ERROR),  # not masked
    (b"\xc1\x80\0\0\0\0", CloseCode.PROTOCOL_ERROR),  # a reserved bit
    (b"\x83\x80\0\0\0\0", CloseCode.PROTOCOL_ERROR),  # a reserved opcode
    (b"\x09\x80\0\0\0\0", CloseCode.PROTOCOL_ERROR),  # a ping in fragments
    (b"\x89\xfe\x00\xff\0\0\0\0" + b"x" * 255, CloseCode.PROTOCOL_ERROR),  # too long a ping
    (b"\x80\x80\0\0\0\0", CloseCode.PROTOCOL_ERROR),  # a continuation of nothing
    (masked(Opcode.TEXT, b"a", fin=False) + masked(Opcode.TEXT, b"b"), CloseCode.PROTOCOL_ERROR),
    (b"\x88\x81\0\0\0\0\x03", CloseCode.PROTOCOL_ERROR),  # a close with half a code
    (masked(Opcode.CLOSE, struct.pack("!H", 999)), CloseCode.PROTOCOL_ERROR),
    (masked(Opcode.CLOSE, struct.pack("!H", 1000) + b"\xff"), CloseCode.INVALID_DATA),
    (masked(Opcode.TEXT, b"\xff\xfe"), CloseCode.INVALID_DATA),
    (masked(Opcode.TEXT, b"\xed\xa0\x80"), CloseCode.INVALID_DATA),
    (masked(Opcode.TEXT, b"\xc3", fin=False) + masked(Opcode.CONT, b"("), CloseCode.INVALID_DATA),
    (b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", CloseCode.MESSAGE_TOO_BIG),
    (b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", CloseCode.MESSAGE_TOO_BIG),
]
"""What ends a connection, and the code that says why."""
