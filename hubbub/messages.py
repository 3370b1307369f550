"""The AsyncAPI document of the whole system."""

from typing import Any

import gateway.messages
import posts_service.messages
from shared.documents.asyncapi import asyncapi_document


def messages_document() -> dict[str, Any]:
    return asyncapi_document(
        "Hubbub", [*gateway.messages.CHANNELS, *posts_service.messages.CHANNELS]
    )
