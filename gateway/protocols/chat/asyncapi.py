"""`/ws/chat` and `/ws/notifications` in the AsyncAPI document, from the messages' own types."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from gateway.protocols.chat.close_codes import CLOSE_CODES
from gateway.protocols.chat.frames import COMMANDS, NOTIFICATION_PUSHES, PUSHES
from shared.documents.asyncapi import Channel, Message, Server
from shared.documents.schemas import Schema, given, members_required, taken

_QUERY = {
    "token": "An access token; or in Sec-WebSocket-Protocol, or as the first message.",
    "room": "The room; `lobby` if none is named.",
    "since": "The last offset that this client has: what came after it is replayed.",
    "epoch": "The epoch of `since`, from `welcome`.",
    "history": "How many of the room's last messages a newcomer wants, at most 100.",
}
_NOTIFICATIONS_QUERY = {name: text for name, text in _QUERY.items() if name != "room"}


def _message(model: type[BaseModel]) -> Message:
    is_command = model in COMMANDS
    payload = taken(model) if is_command else given(model, without_none=True)
    # It has a default in our code alone: in every message it stands.
    return Message(model.__name__, members_required(payload, "type"), (model.__doc__ or "").strip())


def _more(query: Mapping[str, str]) -> dict[str, Any]:
    properties: dict[str, Schema] = {
        name: {"type": "string", "description": text} for name, text in query.items()
    }
    return {
        "bindings": {
            "ws": {"method": "GET", "query": {"type": "object", "properties": properties}}
        },
        "x-closes": [close._asdict() for close in CLOSE_CODES.values()],
    }


CHANNELS = (
    Channel(
        key="chat",
        address="/ws/chat",
        server=Server.GATEWAY,
        description="A chat room, and the user's notifications.",
        sends=[_message(model) for model in PUSHES],
        receives=[_message(model) for model in COMMANDS],
        more=_more(_QUERY),
    ),
    Channel(
        key="notifications",
        address="/ws/notifications",
        server=Server.GATEWAY,
        description="The user's notifications, without a room.",
        sends=[_message(model) for model in NOTIFICATION_PUSHES],
        receives=[_message(model) for model in COMMANDS],
        more=_more(_NOTIFICATIONS_QUERY),
    ),
)
