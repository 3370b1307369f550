"""The AsyncAPI document of `/ws/chat`, from the messages' own types."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.protocols.chat.close_codes import CLOSE_CODES
from gateway.protocols.chat.frames import COMMANDS, PUSHES

_QUERY = {
    "token": "An access token; or in Sec-WebSocket-Protocol, or as the first message.",
    "room": "The room; `lobby` if none is named.",
    "since": "The last offset that this client has: what came after it is replayed.",
    "epoch": "The epoch of `since`, from `welcome`.",
    "history": "How many of the room's last messages a newcomer wants, at most 100.",
}


def chat_document(*, version: str) -> dict[str, Any]:
    """Build the AsyncAPI 3 document; from the gateway's side, so tabs send what it receives."""
    models = [*COMMANDS, *PUSHES]
    names, definitions = models_json_schema(
        [(model, "serialization" if model in PUSHES else "validation") for model in models],
        ref_template="#/components/schemas/{model}",
    )
    messages = {
        model.__name__: {
            "name": model.model_fields["type"].default,
            "summary": (model.__doc__ or "").strip(),
            "payload": names[(model, "serialization" if model in PUSHES else "validation")],
        }
        for model in models
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Hubbub gateway: the plain protocol", "version": version},
        "defaultContentType": "application/json",
        "channels": {
            "chat": {
                "address": "/ws/chat",
                "messages": {name: _message(name) for name in messages},
                "bindings": {"ws": {"method": "GET", "query": _query_schema()}},
                "x-closes": [close._asdict() for close in CLOSE_CODES.values()],
            }
        },
        "operations": {
            "command": _operation("receive", COMMANDS),
            "push": _operation("send", PUSHES),
        },
        "components": {"messages": messages, "schemas": definitions["$defs"]},
    }


def _message(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/messages/{name}"}


def _operation(action: str, models: tuple[type[BaseModel], ...]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/chat"},
        "messages": [{"$ref": f"#/channels/chat/messages/{model.__name__}"} for model in models],
    }


def _query_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            name: {"type": "string", "description": text} for name, text in _QUERY.items()
        },
    }
