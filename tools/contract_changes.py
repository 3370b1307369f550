"""What of a new document breaks those who use the old one: OpenAPI or AsyncAPI.

Users must be able to send what they sent before, and find what they found before. So of what
Hubbub takes nothing may be refused or needed anew, and of what it gives nothing may go away. More
members, codes, statuses and messages are no break: users ignore what they don't know.
"""

from typing import Any

from tools.channel_changes import breaks_of_channels
from tools.operation_changes import breaks_of_operations


def unannounced_breaks(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What breaks users although the first number of the version is the same: a line for each."""
    if _major(new) > _major(old):
        return []
    breaks = breaks_of_operations if "openapi" in old else breaks_of_channels
    return list(dict.fromkeys(breaks(old, new)))


def _major(document: dict[str, Any]) -> int:
    return int(document["info"]["version"].partition(".")[0])
