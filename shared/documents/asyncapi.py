"""The AsyncAPI documents: what is said over channels, from the types of the messages.

Source: https://www.asyncapi.com/docs/reference/specification/v3.1.0
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain
from typing import Any, NamedTuple

from shared.documents.schemas import Schema, with_schemas
from shared.documents.versions import MESSAGES_VERSION

_DESCRIPTION = (
    "Operations are Hubbub's: what it sends, others hear. Objects may have more members than are"
    " listed, as newer versions will."
)


class Server(Enum):
    """What carries a channel."""

    GATEWAY = "gateway"
    CENTRIFUGE = "centrifuge"
    BUS = "bus"


_SERVERS = {
    Server.GATEWAY: {
        "host": "{host}",
        "protocol": "ws",
        "description": "A gateway, or the proxy before all of them: plain JSON.",
        "variables": {"host": {"default": "127.0.0.1:8000"}},
    },
    Server.CENTRIFUGE: {
        "host": "{host}",
        "pathname": "/connection/websocket",
        "protocol": "ws",
        "description": "The same, in Centrifuge's protocol, which its SDKs speak. A channel's"
        " messages are the `data` of its publications.",
        "variables": {"host": {"default": "127.0.0.1:8000"}},
    },
    Server.BUS: {
        "host": "{host}",
        "protocol": "nats",
        "description": "NATS with JetStream.",
        "variables": {"host": {"default": "127.0.0.1:4222"}},
    },
}


class Message(NamedTuple):
    """One kind of message."""

    name: str
    payload: Schema
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """Where messages are sent and received."""

    key: str
    """Of the channel in the document."""
    address: str
    server: Server
    description: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    """What stands for each `{name}` in the address."""
    sends: Sequence[Message] = ()
    receives: Sequence[Message] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    """Bindings and extensions."""


def asyncapi_document(title: str, channels: Iterable[Channel]) -> dict[str, Any]:
    """
    Raises:
        ValueError: two channels, two messages or two schemas have one name.
    """
    by_key: dict[str, Channel] = {}
    for channel in channels:
        if by_key.setdefault(channel.key, channel) is not channel:
            raise ValueError(f"two channels are called {channel.key}")
    used = {channel.server for channel in by_key.values()}
    messages: dict[str, Message] = {}
    for each in chain.from_iterable(map(_messages, by_key.values())):
        if messages.setdefault(each.name, each) != each:
            raise ValueError(f"two messages are called {each.name}")
    document = {
        "asyncapi": "3.1.0",
        "info": {"title": title, "version": MESSAGES_VERSION, "description": _DESCRIPTION},
        "defaultContentType": "application/json",
        "servers": {each.value: _SERVERS[each] for each in Server if each in used},
        "channels": {key: _channel(channel) for key, channel in by_key.items()},
        "operations": {
            f"{key}.{action}": _operation(key, action, said)
            for key, channel in by_key.items()
            for action, said in (("send", channel.sends), ("receive", channel.receives))
            if said
        },
        "components": {
            "messages": {
                each.name: {"name": each.name, "summary": each.summary, "payload": each.payload}
                for each in messages.values()
            }
        },
    }
    return with_schemas(document)


def _messages(channel: Channel) -> list[Message]:
    return [*channel.sends, *channel.receives]


def _channel(channel: Channel) -> dict[str, Any]:
    return {
        "address": channel.address,
        "description": channel.description,
        "servers": [{"$ref": f"#/servers/{channel.server.value}"}],
        "messages": {
            each.name: {"$ref": f"#/components/messages/{each.name}"} for each in _messages(channel)
        },
        "parameters": {name: {"description": text} for name, text in channel.parameters.items()},
        **channel.more,
    }


def _operation(channel: str, action: str, said: Sequence[Message]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{each.name}"} for each in said],
    }
