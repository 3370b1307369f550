"""What a tab asks for as it connects, read from the query and the headers. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hubbub_client.contracts.channels import BadChannelName, room_channel
from hubbub_client.contracts.ids import ChannelName

DEFAULT_ROOM = "lobby"
SUBPROTOCOL = "bearer"
MAX_HISTORY = 100

_OFFSET = re.compile(r"[0-9]{1,19}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Since:
    """Where a returning tab says that it has stopped reading."""

    offset: int | None
    """None if what it said is no offset."""
    epoch: str | None


class ChatHandshake(NamedTuple):
    """The request of one tab, for one room or for its user's notifications alone."""

    room: str | None
    """None at `/ws/notifications`."""
    channel: ChannelName | None
    """The room's; None if there can be no such room."""
    token: str | None
    """None if it is to come as the first message."""
    subprotocol: str | None
    """To be answered; a browser fails if it offered one and none is chosen."""
    since: Since | None
    history: int
    """How many of the channel's last publications a newcomer wants."""
    address: str | None = None
    """Where it comes from; None if that can't be known."""


def read_handshake(
    query: Mapping[str, str],
    subprotocols: Sequence[str],
    *,
    address: str | None = None,
    has_room: bool = True,
) -> ChatHandshake:
    """Read the request; what is wrong with it is for the session to answer."""
    room = (query.get("room") or DEFAULT_ROOM) if has_room else None
    offered, token_offered = _bearer(subprotocols)
    return ChatHandshake(
        room=room,
        channel=None if room is None else _channel(room),
        token=query.get("token") or token_offered,
        subprotocol=SUBPROTOCOL if offered else None,
        since=_since(query),
        history=_history(query.get("history", "")),
        address=address,
    )


def _channel(room: str) -> ChannelName | None:
    try:
        return room_channel(room)
    except BadChannelName:
        return None


def _bearer(subprotocols: Sequence[str]) -> tuple[bool, str | None]:
    if SUBPROTOCOL not in subprotocols:
        return False, None
    after = subprotocols[subprotocols.index(SUBPROTOCOL) + 1 :]
    return True, after[0] if after else None


def _since(query: Mapping[str, str]) -> Since | None:
    text = query.get("since")
    if not text:
        return None
    offset = int(text) if _OFFSET.fullmatch(text) else None
    return Since(offset, query.get("epoch") or None)


def _history(text: str) -> int:
    return min(int(text), MAX_HISTORY) if _OFFSET.fullmatch(text) else 0
