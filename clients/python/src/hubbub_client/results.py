"""What commands return, and how it is read from an answer's result."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from hubbub_client.exchange import Answer


class Position(NamedTuple):
    """Where in the stream of all channels something stands."""

    offset: int
    epoch: str

    @classmethod
    def read(cls, result: Answer) -> Self:
        return cls(result["offset"], result["epoch"])


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection, as others see it."""

    id: str
    """Empty of a sender by `/ws/chat`, where connections have no id."""
    user: str
    conn_info: Any = None
    """What its token says of it."""
    chan_info: Any = None
    """What the token of its subscription says of it."""

    @classmethod
    def read(cls, info: Answer) -> Self:
        return cls(
            info.get("client", ""), info["user"], info.get("conn_info"), info.get("chan_info")
        )


@dataclass(frozen=True, slots=True)
class PresenceStats:
    """How many are in a channel."""

    clients: int
    users: int

    @classmethod
    def read(cls, result: Answer) -> Self:
        return cls(result["num_clients"], result["num_users"])


@dataclass(frozen=True, slots=True)
class Publication:
    """What was published in a channel."""

    offset: int
    data: Any
    tags: dict[str, str] | None = None
    sender: Connection | None = None
    """The connection that published it; None for a service's."""

    @classmethod
    def read(cls, values: Answer) -> Self:
        sender = Connection.read(values["info"]) if "info" in values else None
        return cls(values["offset"], values["data"], values.get("tags"), sender)


@dataclass(frozen=True, slots=True)
class History:
    """A page of a channel's publications."""

    publications: list[Publication]
    position: Position
    """Where the stream stands."""

    @classmethod
    def read(cls, result: Answer) -> Self:
        publications = [Publication.read(each) for each in result["publications"]]
        return cls(publications, Position.read(result))


def read_connections(result: Answer) -> list[Connection]:
    return [Connection.read(info) for info in result["presence"].values()]


def read_nothing(_result: Answer) -> None:
    return None
