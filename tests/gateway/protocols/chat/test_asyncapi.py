import json
from typing import Any

from gateway.protocols.chat.asyncapi import chat_document
from gateway.protocols.chat.frames import COMMANDS, NOTIFICATION_PUSHES, PUSHES


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        found = [value["$ref"]] if "$ref" in value else []
        return found + [ref for inner in value.values() for ref in references(inner)]
    if isinstance(value, list):
        return [ref for inner in value for ref in references(inner)]
    return []


def test_the_document_names_every_message_and_every_reference_leads_somewhere() -> None:
    document = json.loads(json.dumps(chat_document(version="1")))

    messages = document["components"]["messages"]
    assert set(messages) == {model.__name__ for model in (*COMMANDS, *PUSHES, *NOTIFICATION_PUSHES)}
    assert references(document)
    for reference in references(document):
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]
