"""Replies and pushes as JSON, in the framing of each transport. Zero values are left out.

Source: centrifugal/protocol, client.proto and its struct tags. Members are written in that order.
"""

from collections.abc import Callable, Iterable

import pydantic_core

from gateway.channels.connection import Format, Frame
from gateway.protocols.centrifuge.codes import ErrorCode
from gateway.transport.deflate import deflated_text_frame
from gateway.transport.frames import ping_frame, text_frame
from hubbub_client.contracts.ids import ChannelName, UserId
from hubbub_client.contracts.publications import (
    Publication,
    Sender,
    StoredPublication,
    plain_message,
)

TRUE = b"true"


def json_of(value: object) -> bytes:
    return pydantic_core.to_json(value)


def an_object(*members: tuple[bytes, bytes | None]) -> bytes:
    """An object of members that are JSON already; those that are None are left out."""
    return b"{%b}" % b",".join(
        [b'"%b":%b' % (name, value) for name, value in members if value is not None]
    )


def if_true(value: bool) -> bytes | None:
    return TRUE if value else None


def if_some(value: int | str) -> bytes | None:
    """The number or text; None for 0 and the empty text."""
    return json_of(value) if value else None


def a_list(items: Iterable[bytes]) -> bytes:
    return b"[%b]" % b",".join(items)


def client_info(
    user_id: UserId, client: str, conn_info: bytes | None = None, chan_info: bytes | None = None
) -> bytes:
    """A connection as others see it; user and client are there even if empty."""
    return an_object(
        (b"user", json_of(user_id)),
        (b"client", json_of(client)),
        (b"conn_info", conn_info),
        (b"chan_info", chan_info),
    )


def publication_json(stored: StoredPublication) -> bytes:
    """A publication as a push and the result of a command have it.

    Raises:
        BadPublication: not everybody could read it.
    """
    plain = None if stored.is_ephemeral else plain_message(stored.payload)
    if plain is not None:  # what was said at `/ws/chat` is not even read as JSON
        user = plain.user_id if plain.user_id.startswith(b'"') else b'"%b"' % plain.user_id
        return b'{"data":{"body":%b},"info":{"user":%b,"client":""},"offset":%d}' % (
            plain.body, user, stored.offset,
        )  # fmt: skip
    publication = Publication.decode(stored.payload)
    return publication_of(publication, json_of(publication.data), stored.offset)


def publication_of(
    publication: Publication, data: bytes, offset: int, *, is_patch: bool = False
) -> bytes:
    sender, tags = publication.sender, publication.tags
    return an_object(
        (b"data", data),
        (b"info", None if sender is None else _sender(sender)),
        (b"offset", if_some(offset)),
        (b"tags", json_of(tags) if tags else None),
        (b"delta", if_true(is_patch)),
    )


def _sender(sender: Sender) -> bytes:
    infos = [None if info is None else json_of(info) for info in sender[3:]]
    return client_info(sender.user_id, sender.client, *infos)


class Codec:
    """How the protocol looks on one kind of transport."""

    def __init__(
        self,
        transport: str,
        frame: Callable[[bytes], Frame],
        *,
        is_unidirectional: bool = False,
        says_farewell: bool = True,
        beside_ping: bytes = b"",
    ) -> None:
        """
        Args:
            transport: What it is called in the protocol's family.
            frame: Puts one JSON text into the transport's framing.
            is_unidirectional: Pushes are sent bare, and nothing else is.
            says_farewell: Why a connection ends is pushed, since its end itself says nothing.
            beside_ping: What makes the peer's transport answer a ping that the client does not.
        """
        self.transport = transport
        self.frame = frame
        self.says_farewell = says_farewell
        self.is_unidirectional = is_unidirectional
        self.ping = Frame(frame(b"{}") + beside_ping)
        self.publication: Format = self._publication  # one object: listeners are grouped by it

    def _publication(self, stored: StoredPublication) -> Frame:
        return self.push(stored.channel, b"pub", publication_json(stored))

    def push(self, channel: ChannelName | None, kind: bytes, body: bytes) -> Frame:
        push = an_object((b"channel", None if channel is None else json_of(channel)), (kind, body))
        return self.frame(push if self.is_unidirectional else b'{"push":%b}' % push)

    def reply(self, command_id: int, method: bytes, result: bytes) -> Frame:
        return self.frame(b'{"id":%d,"%b":%b}' % (command_id, method, result))

    def error(self, command_id: int, error: ErrorCode) -> Frame:
        body = an_object(
            (b"code", b"%d" % error.code),
            (b"message", json_of(error.message)),
            (b"temporary", if_true(error.temporary)),
        )
        return self.frame(b'{"id":%d,"error":%b}' % (command_id, body))


def sse_event(text: bytes) -> Frame:
    """One event of `text/event-stream`; JSON has no line breaks of its own."""
    return Frame(b"data: %b\n\n" % text)


def json_line(text: bytes) -> Frame:
    return Frame(b"%b\n" % text)


WEBSOCKET = Codec("websocket", text_frame, says_farewell=False)
SSE = Codec("sse", sse_event)
HTTP_STREAM = Codec("http_stream", json_line)
UNI_WEBSOCKET = Codec("uni_websocket", text_frame, is_unidirectional=True, beside_ping=ping_frame())
DEFLATED = {
    WEBSOCKET: Codec(WEBSOCKET.transport, deflated_text_frame, says_farewell=False),
    UNI_WEBSOCKET: Codec(
        UNI_WEBSOCKET.transport,
        deflated_text_frame,
        is_unidirectional=True,
        beside_ping=ping_frame(),
    ),
}
"""What is spoken in place of each where messages are compressed."""
UNI_SSE = Codec("uni_sse", sse_event, is_unidirectional=True)
UNI_HTTP_STREAM = Codec("uni_http_stream", json_line, is_unidirectional=True)
