"""The AsyncAPI document of `/ws/chat` and `/ws/notifications`, from the messages' own types."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.protocols.chat.close_codes import CLOSE_CODES
from gateway.protocols.chat.frames import COMMANDS, NOTIFICATION_PUSHES, PUSHES

_QUERY = {
    "token": "An access token; or in Sec-WebSocket-Protocol, or as the first message.",
    "room": "The room; `lobby` if none is named.",
    "since": "The last offset that this client has: what came after it is replayed.",
    "epoch": "The epoch of `since`, from `welcome`.",
    "history": "How many of the room's last messages a newcomer wants, at most 100.",
}


def chat_document(*, version: str) -> dict[str, Any]:
    """Build the AsyncAPI 3 document; from the gateway's side, so tabs send what it receives."""
    pushes = list(dict.fromkeys([*PUSHES, *NOTIFICATION_PUSHES]))
    models = [*COMMANDS, *pushes]
    names, definitions = models_json_schema(
        [(model, _mode(model)) for model in models],
        ref_template="#/components/schemas/{model}",
    )
    messages = {
        model.__name__: {
            "name": model.model_fields["type"].default,
            "summary": (model.__doc__ or "").strip(),
            "payload": names[(model, _mode(model))],
        }
        for model in models
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Hubbub gateway: the plain protocol", "version": version},
        "defaultContentType": "application/json",
        "channels": {
            "chat": _channel("/ws/chat", [*COMMANDS, *PUSHES], _QUERY),
            "notifications": _channel(
                "/ws/notifications",
                [*COMMANDS, *NOTIFICATION_PUSHES],
                {name: text for name, text in _QUERY.items() if name != "room"},
            ),
        },
        "operations": {
            "command": _operation("chat", "receive", COMMANDS),
            "push": _operation("chat", "send", PUSHES),
            "notificationsCommand": _operation("notifications", "receive", COMMANDS),
            "notificationsPush": _operation("notifications", "send", NOTIFICATION_PUSHES),
        },
        "components": {"messages": messages, "schemas": definitions["$defs"]},
    }


def _message(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/messages/{name}"}


def _mode(model: type[BaseModel]) -> Literal["serialization", "validation"]:
    return "validation" if model in COMMANDS else "serialization"


def _channel(
    address: str, models: list[type[BaseModel]], query: Mapping[str, str]
) -> dict[str, Any]:
    properties = {name: {"type": "string", "description": text} for name, text in query.items()}
    return {
        "address": address,
        "messages": {model.__name__: _message(model.__name__) for model in models},
        "bindings": {
            "ws": {"method": "GET", "query": {"type": "object", "properties": properties}}
        },
        "x-closes": [close._asdict() for close in CLOSE_CODES.values()],
    }


def _operation(channel: str, action: str, models: tuple[type[BaseModel], ...]) -> dict[str, Any]:
    messages = f"#/channels/{channel}/messages"
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"{messages}/{model.__name__}"} for model in models],
    }
