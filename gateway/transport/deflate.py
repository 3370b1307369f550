"""permessage-deflate, RFC 7692: compressed messages, without anything kept between two of them.

So a frame is compressed once for all who are sent it, and an idle connection holds no window.
"""

import zlib
from collections.abc import Sequence

from websockets.exceptions import InvalidHeaderFormat, NegotiationError
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.headers import build_extension, parse_extension
from websockets.typing import ExtensionHeader, ExtensionParameter

from gateway.transport.frames import Frame, compressed_text_frame, text_frame

INFLATER_BYTES = 40 * 1024
"""What a compressed message takes that is not whole yet, beside what is inflated of it."""

_MIN_BYTES = 100
"""Shorter texts gain next to nothing."""
_WINDOW_BITS = 12
_MEMORY_LEVEL = 6
"""Both smaller than zlib's defaults: what they allocate would take longer than a message does."""
_LEVEL = 1
_END_OF_FLUSH = b"\x00\x00\xff\xff"  # section 7.2.1: it is left out
_MAX_WINDOW_BITS = 15
_FACTORY = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True, client_no_context_takeover=True
)


def negotiate(offered: str) -> bytes | None:
    """Return what answers ``Sec-WebSocket-Extensions``; None if nothing there is acceptable."""
    try:
        offers = parse_extension(offered)
    except InvalidHeaderFormat:
        return None
    for name, parameters in offers:
        answer = _answer(parameters) if name == _FACTORY.name else None
        if answer is not None:
            header: ExtensionHeader = (name, answer)
            return build_extension([header]).encode()
    return None


def deflated_text_frame(text: bytes) -> Frame:
    """A text message for those with whom it was negotiated; compressed if that is shorter."""
    if len(text) < _MIN_BYTES:
        return text_frame(text)
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -_WINDOW_BITS, _MEMORY_LEVEL)
    data = compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH)
    if len(data) >= len(text):
        return text_frame(text)
    return compressed_text_frame(data.removesuffix(_END_OF_FLUSH))


class Inflater(PerMessageDeflate):
    """Inflates what a peer sends."""

    def __init__(self) -> None:
        super().__init__(
            remote_no_context_takeover=True,
            local_no_context_takeover=True,
            remote_max_window_bits=_MAX_WINDOW_BITS,
            local_max_window_bits=_MAX_WINDOW_BITS,
        )

    @property
    def held_bytes(self) -> int:
        """While a compressed message has begun, and is not whole."""
        return INFLATER_BYTES if self.decode_cont_data else 0


def _answer(offered: Sequence[ExtensionParameter]) -> list[ExtensionParameter] | None:
    try:
        answer, agreed = _FACTORY.process_request_params(offered, [])
    except NegotiationError:
        return None
    assert isinstance(agreed, PerMessageDeflate)
    return answer if agreed.local_max_window_bits >= _WINDOW_BITS else None
