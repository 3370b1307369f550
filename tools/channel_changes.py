"""What of a new AsyncAPI document breaks those who use the old one."""

from collections.abc import Iterator

from tools.schema_changes import Document, Schema, SchemaChanges, Way


def breaks_of_channels(old: Document, new: Document) -> Iterator[str]:
    schemas = SchemaChanges(old, new)
    for key, server in old["servers"].items():
        if _address(server) != _address(new["servers"].get(key, {})):
            yield f"the server {key} is gone, or elsewhere"
    for key, channel in old["channels"].items():
        found = new["channels"].get(key, {})
        if _place(found) != _place(channel):
            yield f"{channel['address']} ({key}) is gone, or elsewhere"
        else:
            yield from schemas.of(_query(channel), _query(found), f"{key}, query", Way.TAKEN)
            gone = _close_codes(channel) - _close_codes(found)
            yield from (f"{key}, close {code} is gone" for code in sorted(gone))
    for key, operation in old["operations"].items():
        if operation["action"] != new["operations"].get(key, operation)["action"]:
            yield f"{key} goes the other way now"
        way = Way.GIVEN if operation["action"] == "send" else Way.TAKEN
        before, now = _messages(old, key), _messages(new, key)
        for name, payload in before.items():
            if name in now:
                yield from schemas.of(payload, now[name], f"{key}, {name}", way)
            else:
                yield f"{key}, {name} is gone"


def _address(server: Schema) -> list[str | None]:
    return [server.get(part) for part in ("protocol", "pathname")]


def _place(channel: Schema) -> list[str | None]:
    servers = (each["$ref"] for each in channel.get("servers", []))
    return [channel.get("address"), *servers]


def _query(channel: Schema) -> Schema:
    query: Schema = channel.get("bindings", {}).get("ws", {}).get("query", {})
    return query


def _close_codes(channel: Schema) -> set[int]:
    return {close["code"] for close in channel.get("x-closes", [])}


def _messages(document: Document, operation: str) -> dict[str, Schema]:
    """The payloads of an operation, by the message's name."""
    found = document["operations"].get(operation, {}).get("messages", [])
    names = [each["$ref"].rpartition("/")[2] for each in found]
    return {name: document["components"]["messages"][name]["payload"] for name in names}
