"""What the SDKs of Centrifuge find in channels, in the AsyncAPI document."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from gateway.protocols.chat.frames import Body
from shared.documents.asyncapi import Channel, Message, Server
from shared.documents.schemas import given


class Said(BaseModel):
    """What somebody said in a room, at `/ws/chat` or by an SDK."""

    body: Body


class EventData(BaseModel):
    """An event, with its own fields beside these."""

    model_config = ConfigDict(extra="allow")

    event: str
    id: str


_SAID = Message("Said", given(Said), "What somebody said in a room.")
_ANYTHING = Message("AnyData", given(Any), "What a service published: any JSON value.")
_EVENT = Message("EventData", given(EventData), "An event of which a service tells.")

CHANNELS = (
    Channel(
        key="room",
        address="chat:{room}",
        server=Server.CENTRIFUGE,
        description="A chat room, the same as at `/ws/chat`.",
        parameters={"room": "The room's name."},
        sends=[_SAID, _EVENT, _ANYTHING],
        receives=[_SAID],
    ),
    Channel(
        key="personal",
        address="#{user_id}",
        server=Server.CENTRIFUGE,
        description="A user's personal channel: every connection of theirs has it without asking.",
        parameters={"user_id": "The user's id."},
        sends=[_EVENT, _ANYTHING],
    ),
)
