"""What the commands of the API return, as JSON."""

from typing import Any, NotRequired

from typing_extensions import TypedDict


class Position(TypedDict):
    offset: int
    epoch: str


class ErrorBody(TypedDict):
    """Why a command failed."""

    code: int
    message: str


class ErrorAnswer(TypedDict):
    """Of a command that failed."""

    error: ErrorBody


class Done(TypedDict):
    """It was done, and there is nothing more to say."""


class PublishResult(TypedDict):
    """Empty if nothing was stored."""

    offset: NotRequired[int]
    epoch: NotRequired[str]


class PublishAnswer(TypedDict):
    result: PublishResult


class BroadcastResult(TypedDict):
    responses: list[PublishAnswer | ErrorAnswer]
    """One for each channel, in their order."""


class ConnectionInfo(TypedDict):
    """A connection as others see it."""

    user: str
    client: str
    """Empty of a sender by `/ws/chat`."""
    conn_info: NotRequired[Any]
    chan_info: NotRequired[Any]


class PresenceResult(TypedDict):
    presence: dict[str, ConnectionInfo]
    """By client."""


class PresenceStatsResult(TypedDict):
    num_clients: int
    num_users: int


class PublicationInfo(TypedDict):
    """What was published in a channel."""

    data: Any
    info: NotRequired[ConnectionInfo]
    """Who published it; absent if a service did."""
    offset: NotRequired[int]
    """Absent if it was not stored."""
    tags: NotRequired[dict[str, str]]
    delta: NotRequired[bool]
    """Whether `data` is a patch of the publication before it."""


class HistoryResult(TypedDict):
    publications: list[PublicationInfo]
    epoch: str
    offset: int
    """Where the stream of all channels stands."""


class ChannelInfo(TypedDict):
    num_clients: int


class ChannelsResult(TypedDict):
    channels: dict[str, ChannelInfo]
    """By name."""


class NodeInfo(TypedDict):
    """A gateway."""

    uid: str
    name: str
    version: str
    num_clients: int
    num_users: int
    num_channels: int
    num_subs: int
    uptime: int


class InfoResult(TypedDict):
    nodes: list[NodeInfo]


class BatchAnswer(TypedDict):
    replies: list[dict[str, Any]]
    """One for each command: an object with the method and its result, or with an `error`."""
