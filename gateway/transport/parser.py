"""Makes messages of the bytes that a peer sends, by RFC 6455. Pure."""

from codecs import IncrementalDecoder, getincrementaldecoder
from collections.abc import Generator
from typing import NamedTuple

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import Close as ClosePayload
from websockets.frames import CloseCode, Frame, Opcode
from websockets.streams import StreamReader

from gateway.errors import EndReason
from gateway.transport.deflate import Inflater
from gateway.transport.frames import Close

try:
    from websockets.speedups import apply_mask
except ImportError:  # it is not built for every platform
    from websockets.utils import apply_mask

NOT_UTF8 = Close(CloseCode.INVALID_DATA, "not UTF-8")
TOO_BIG = Close(CloseCode.MESSAGE_TOO_BIG, "message too big")


class Text(NamedTuple):
    """A whole text message."""

    text: str


class Binary(NamedTuple):
    """A whole binary message."""

    data: bytes


class Ping(NamedTuple):
    """Answered with a pong that has the same payload."""

    payload: bytes


class Pong(NamedTuple):
    """The answer to a ping, or an unsolicited sign of life."""

    payload: bytes


class Fragment:
    """A frame of a message that is not whole yet."""


Message = Text | Binary | Ping | Pong | Close | Fragment
"""What one frame makes; `Close` is the peer's, and ends the connection."""


FRAGMENT = Fragment()


class Violation(Exception):
    """The peer broke the protocol, or a limit: nothing more is read, and the connection ends."""

    def __init__(self, close: EndReason | Close) -> None:
        super().__init__(close)
        self.close = close


def parse_single_text_frame(data: bytes, max_bytes: int) -> Text | None:
    """Return the message if the bytes are one text message in one frame, and nothing else.

    Nearly all that peers send is that, and this takes a tenth of the parser's time. None means
    that the parser has to decide: the message may be long, in fragments or wrong.
    """
    length = len(data)
    if length < _MASK_END or data[0] != _WHOLE_TEXT:
        return None
    size, begin = data[1] - _IS_MASKED, _MASK_END
    if size == _TWO_BYTES_MORE:
        size, begin = int.from_bytes(data[2:4], "big"), _MASK_END + 2
    elif not 0 <= size < _TWO_BYTES_MORE:
        return None
    if length != begin + size or size > max_bytes:
        return None
    try:
        return Text(str(apply_mask(data[begin:], data[begin - 4 : begin]), "utf-8"))
    except UnicodeDecodeError:
        return None


class FrameParser:
    """Holds what has come of messages that are not whole yet; dropped when it is empty."""

    __slots__ = ("_fragments", "_inflater", "_max_bytes", "_parsing", "_reader")

    def __init__(self, max_message_bytes: int, inflater: Inflater | None = None) -> None:
        """
        Args:
            inflater: Of a peer that may compress its messages.
        """
        self._max_bytes = max_message_bytes
        self._inflater = inflater
        self._reader = StreamReader()
        self._parsing: Generator[None, None, Frame] | None = None
        self._fragments: _Fragments | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it holds nothing of a message."""
        return self._parsing is None and self._fragments is None and not self._reader.buffer

    @property
    def held_bytes(self) -> int:
        """Of messages that are not whole yet, or not asked for yet."""
        held = len(self._reader.buffer)
        if self._fragments is not None:
            held += self._fragments.size
        if self._inflater is not None:
            held += self._inflater.held_bytes
        return held

    def feed_data(self, data: bytes) -> None:
        self._reader.feed_data(data)

    def next_message(self) -> Message | None:
        """Return what the next frame makes; None if more bytes have to come first.

        Raises:
            Violation: what came is no message; nothing may be asked for after it.
        """
        try:
            frame = self._next_frame()
            return None if frame is None else self._read(frame)
        except UnicodeDecodeError as error:
            raise Violation(NOT_UTF8) from error
        except PayloadTooBig as error:
            raise Violation(TOO_BIG) from error
        except ProtocolError as error:
            raise Violation(Close(CloseCode.PROTOCOL_ERROR, str(error))) from error

    def _next_frame(self) -> Frame | None:
        if self._parsing is None:
            if not self._reader.buffer:
                return None
            # A control frame may come between the fragments of a message that is full.
            most = max(self._room, _MAX_CONTROL_BYTES)
            self._parsing = Frame.parse(
                self._reader.read_exact,
                mask=True,
                max_size=most,
                extensions=None if self._inflater is None else [self._inflater],
            )
        try:
            next(self._parsing)
        except StopIteration as parsed:
            self._parsing = None
            frame: Frame = parsed.value
            return frame
        return None

    @property
    def _room(self) -> int:
        return self._max_bytes - (self._fragments.size if self._fragments is not None else 0)

    def _read(self, frame: Frame) -> Message:
        data = frame.data
        match frame.opcode:
            case Opcode.TEXT if frame.fin and self._fragments is None:
                return Text(str(data, "utf-8"))  # nearly every frame is one
            case Opcode.TEXT | Opcode.BINARY:
                if self._fragments is not None:
                    raise ProtocolError("expected a continuation frame")
                self._fragments = _Fragments(is_text=frame.opcode is Opcode.TEXT)
            case Opcode.CONT:
                if self._fragments is None:
                    raise ProtocolError("unexpected continuation frame")
            case Opcode.PING:
                return Ping(bytes(data))
            case Opcode.PONG:
                return Pong(bytes(data))
            case Opcode.CLOSE:
                payload = ClosePayload.parse(bytes(data))
                return Close(payload.code, payload.reason)
        if len(data) > self._room:
            raise PayloadTooBig(len(data), self._room)
        self._fragments.add(bytes(data), is_last=frame.fin)
        if not frame.fin:
            return FRAGMENT
        message, self._fragments = self._fragments.joined(), None
        return message


class _Fragments:
    """The frames of one message.

    Text is checked as it comes, so that a wrong one ends early. It is kept as bytes: a string for
    each fragment could cost 40 times what is counted.
    """

    __slots__ = ("_bytes", "_decoder")

    def __init__(self, *, is_text: bool) -> None:
        self._decoder: IncrementalDecoder | None = _UTF8() if is_text else None
        self._bytes = bytearray()

    @property
    def size(self) -> int:
        return len(self._bytes)

    def add(self, data: bytes, *, is_last: bool) -> None:
        if self._decoder is not None:
            self._decoder.decode(data, final=is_last)
        self._bytes += data

    def joined(self) -> Text | Binary:
        if self._decoder is None:
            return Binary(bytes(self._bytes))
        return Text(str(self._bytes, "utf-8"))


_WHOLE_TEXT = 0x81  # RFC 6455, section 5.2: the last frame of a message, no reserved bit, text
_IS_MASKED = 0x80
_MASK_END = 6
_TWO_BYTES_MORE = 126
_MAX_CONTROL_BYTES = 125  # RFC 6455, section 5.5
_UTF8 = getincrementaldecoder("utf-8")
