"""Publications as they lie in the RT stream: what any service may publish into a channel.

Every gateway reads every publication that somebody there listens to, so these are plain
tuples with their checks written out: models cost three times as much.

There is one check of what may be published, wherever it comes from, and readers make it
anew: what is stored is what every reader can read.
"""

import re
from typing import Any, NamedTuple, NotRequired

import pydantic_core
from typing_extensions import TypedDict

from hubbub_client.contracts.ids import (
    ANONYMOUS,
    BadUserId,
    ChannelName,
    UserId,
    user_id_from_json,
    user_id_to_json,
)
from hubbub_client.contracts.json_values import fault_of, is_plain


class BadPublication(ValueError):
    """What not every reader of the RT stream could understand."""


class SenderValues(TypedDict):
    """Who published from a connection."""

    user_id: int | str
    """Empty if nobody in particular."""
    name: str
    client: NotRequired[str]
    conn_info: NotRequired[Any]
    chan_info: NotRequired[Any]


class PublicationValues(TypedDict):
    """What is stored of a publication."""

    data: Any
    """Any JSON value. From `/ws/chat` it is `{"body": "…"}`."""
    sender: NotRequired[SenderValues]
    """Absent if a service published it."""
    event_id: NotRequired[str]
    """The event that it was made from."""
    tags: NotRequired[dict[str, str]]
    """What subscribers may filter by."""
    delta: NotRequired[bool]
    """Whether it may be sent as a patch of the one before it."""


class Sender(NamedTuple):
    """Who published from a connection; services publish without one."""

    user_id: UserId
    name: str
    client: str = ""
    """The connection; empty from `/ws/chat`, whose connections have no name to others."""
    conn_info: Any = None
    """What the connection's token says to others of it, any JSON value."""
    chan_info: Any = None
    """The same, of its subscription to the channel."""


class Publication(NamedTuple):
    """The body of one message on ``rt.pub.<channel>``: ``{"data": …, "sender"?, "event_id"?}``."""

    data: Any
    """Any JSON value. From `/ws/chat` it is ``{"body": "…"}``."""
    sender: Sender | None = None
    event_id: str | None = None
    """The event that it was made from, if any; a redelivered event is found again by it."""
    tags: dict[str, str] | None = None
    """What subscribers may filter by."""
    delta: bool = False
    """Whether it may be sent as a patch of the one before it."""

    def values(self) -> PublicationValues:
        """What there is of it, as JSON has it."""
        values: PublicationValues = {"data": self.data}
        if self.sender is not None:
            user_id = user_id_to_json(self.sender.user_id) if self.sender.user_id else ""
            sender: SenderValues = {"user_id": user_id, "name": self.sender.name}
            if self.sender.client:
                sender["client"] = self.sender.client
            if self.sender.conn_info is not None:
                sender["conn_info"] = self.sender.conn_info
            if self.sender.chan_info is not None:
                sender["chan_info"] = self.sender.chan_info
            values["sender"] = sender
        if self.event_id is not None:
            values["event_id"] = self.event_id
        if self.tags:
            values["tags"] = self.tags
        if self.delta:
            values["delta"] = True
        return values

    def encode(self) -> bytes:
        """As it is stored.

        Raises:
            BadPublication: not every reader could read that.
        """
        try:
            payload = pydantic_core.to_json(self.values())
        except pydantic_core.PydanticSerializationError as error:
            raise BadPublication("not to be written as JSON") from error
        if self.tags is None and is_plain(self.data) and not _has_more(self.sender):
            return payload  # what was just written as UTF-8 is read as it was: all can read it
        read = self.decode(payload)
        if read != self and pydantic_core.to_json(read.values()) != payload:
            raise BadPublication("two names of an object are one in JSON")
        return payload

    @classmethod
    def decode(cls, payload: bytes) -> "Publication":
        """Read what `encode` wrote; what a newer writer adds is ignored.

        Raises:
            BadPublication: anybody may write to the bus, so a reader must expect it.
        """
        try:
            values = pydantic_core.from_json(payload)
        except ValueError as error:
            raise BadPublication("not JSON") from error
        if type(values) is not dict or "data" not in values:
            raise BadPublication("no object with data")
        sender, event_id = values.get("sender"), values.get("event_id")
        if sender is not None:
            sender = _sender(sender)
        if event_id is not None and type(event_id) is not str:
            raise BadPublication("an event id that is no text")
        tags = values.get("tags")
        if tags is not None:
            tags = _tags(tags)
        data = values["data"]
        fault = None if is_plain(data) else fault_of(data)
        if fault is not None:
            raise BadPublication(fault)
        return cls(data, sender, event_id, tags, values.get("delta") is True)


class StoredPublication(NamedTuple):
    """A publication as the stream holds it, or an ephemeral one, which no stream does."""

    offset: int
    """From 1 on; 0 of an ephemeral one."""
    channel: ChannelName
    payload: bytes
    """What `Publication.encode` made."""
    time: str = ""
    """When it was stored: RFC 3339, as NATS writes it."""

    @property
    def is_ephemeral(self) -> bool:
        return not self.offset


class PlainMessage(NamedTuple):
    """What a user said in plain text; each part is JSON as it stands in the payload."""

    body: bytes
    user_id: bytes
    name: bytes


_PLAIN_TEXT = rb'"[ !#-\[\]-~]*"'  # ASCII, and nothing that is escaped in JSON
_PLAIN_USER_ID = rb'[1-9][0-9]{0,14}|"(?![1-9][0-9]*")[!#-\[\]-~]{1,128}"'  # 7, and never "7"
_PLAIN_MESSAGE = re.compile(
    rb'\{"data":\{"body":(%b)\},"sender":\{"user_id":(%b),"name":(%b)\}\}'
    % (_PLAIN_TEXT, _PLAIN_USER_ID, _PLAIN_TEXT)
)
"""Byte for byte what `Publication.encode` makes of it; a test holds the two together."""


def plain_message(payload: bytes) -> PlainMessage | None:
    """A plain message without reading it as JSON, in a tenth of the time; None is for all else."""
    plain = _PLAIN_MESSAGE.fullmatch(payload)
    return None if plain is None else PlainMessage(*plain.groups())


_PLAIN_SENDER_FIELDS = 2


def _has_more(sender: Sender | None) -> bool:
    return sender is not None and sender[2:] != ("", None, None)


def _sender_id(value: object) -> UserId:
    return ANONYMOUS if value == "" else user_id_from_json(value)


def _tags(values: Any) -> dict[str, str]:
    if type(values) is dict and all(type(value) is str for value in values.values()):
        fault = fault_of(values)
        if fault is None:
            return values
    raise BadPublication("tags that are no texts")


def _sender(values: Any) -> Sender:
    if type(values) is dict:
        name = values.get("name")
        if type(name) is str:
            try:
                user_id = _sender_id(values.get("user_id"))
            except BadUserId as error:
                raise BadPublication(f"a sender who is {error}") from error
            if len(values) == _PLAIN_SENDER_FIELDS:
                return Sender(user_id, name)
            client = values.get("client", "")
            infos = [values.get("conn_info"), values.get("chan_info")]
            if type(client) is not str or fault_of(infos) is not None:
                raise BadPublication("a sender of whom not every reader could read all")
            return Sender(user_id, name, client, *infos)
    raise BadPublication("a sender who is nobody")
