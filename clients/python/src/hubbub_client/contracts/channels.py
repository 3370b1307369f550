"""Channel names: the only place that knows their grammar.

A channel is ``namespace:name``; ``#<user id>`` is a user's personal channel and a
leading ``$`` marks one that needs a subscription token. Where a namespace has it so, a name that
ends with ``#<user id>,<user id>`` lists the users whom the channel is for.
"""

import re
from collections.abc import Collection

from hubbub_client.contracts.ids import ChannelName, PostId, UserId

MAX_CHANNEL_BYTES = 255
PERSONAL = "#"
PRIVATE = "$"
ROOMS = "chat"
"""The namespace of chat rooms."""
LISTED = "#"
"""Of the users whom a channel is for."""

_NO_ROOM = (PERSONAL, PRIVATE, "@")
_CHANNEL = re.compile(r"[!-~]+")  # printable ASCII but the space


class BadChannelName(ValueError):
    """The text is no channel name: empty, too long, or with a character that none may have."""


def parse_channel(text: str) -> ChannelName:
    """Check a channel name that came from outside.

    Raises:
        BadChannelName: not 1 to 255 printable ASCII characters, none of them a space.
    """
    if len(text) > MAX_CHANNEL_BYTES or not _CHANNEL.fullmatch(text):
        raise BadChannelName(
            f"not 1-{MAX_CHANNEL_BYTES} characters of printable ASCII without the space"
        )
    return ChannelName(text)


def room_channel(room: str) -> ChannelName:
    """The channel of a chat room.

    Raises:
        BadChannelName: the room's name does not fit into a channel name, or begins as no room's.
    """
    if not room:
        raise BadChannelName("a room has a name")
    if room.startswith(_NO_ROOM):
        raise BadChannelName(f"no room's name begins with {room[0]!r}")
    return parse_channel(f"{ROOMS}:{room}")


def personal_channel(user_id: UserId) -> ChannelName:
    """The channel that every connection of the user gets without asking."""
    return ChannelName(f"{PERSONAL}{user_id}")


def owner_of(channel: ChannelName) -> UserId | None:
    """Whose personal channel it is; None if it is nobody's."""
    return UserId(channel[1:]) if channel.startswith(PERSONAL) else None


def post_channel(post_id: PostId) -> ChannelName:
    """The channel on which a post's likes and comments move live."""
    return ChannelName(f"post:{post_id}")


def namespace_of(channel: ChannelName) -> str:
    """The text before the first ``:`` after a leading ``$``; empty if there is none."""
    head, colon, _ = channel.removeprefix(PRIVATE).partition(":")
    return head if colon else ""


def name_of(channel: ChannelName) -> str:
    """What stands behind the namespace."""
    head, colon, name = channel.removeprefix(PRIVATE).partition(":")
    return name if colon else head


def listed_users(channel: ChannelName) -> Collection[UserId] | None:
    """The users behind the last ``#`` of a name; None if there is none. Nobody else is among them.

    The anonymous user can't be listed, nor one whose id has a ``,`` or a ``#``.
    """
    _, mark, users = channel.rpartition(LISTED)
    return [UserId(each) for each in users.split(",") if each] if mark else None
