"""What an application has published, as its tests ask for it."""

from abc import ABC, abstractmethod
from typing import Any, TypeVar

from hubbub_client.arguments import User, user_id
from hubbub_client.events import RESERVED, Readable, event_name, read_fields
from hubbub_client.exchange import Answer

E = TypeVar("E", bound=Readable)


class Published(ABC):
    """The recorder knows it, and a real system: the same test runs on either."""

    @abstractmethod
    def data(self, channel: str) -> list[Any]:
        """What was published in a channel, in its order."""

    def notifications(self, user: User) -> list[Any]:
        """What a user was told."""
        return self.data(f"#{user_id(user)}")

    def events(self, model: type[E], *, channel: str) -> list[E]:
        """The events of that class in a channel."""
        return events_in(self.data(channel), model)


def events_in(published: list[Any], model: type[E]) -> list[E]:
    """Those that are of the class."""
    name = event_name(model)
    return [
        read_fields(model, _fields(data))
        for data in published
        if isinstance(data, dict) and name == (data.get("event"), data.get("version", 1))
    ]


def _fields(data: Answer) -> Answer:
    """Less what every event says."""
    return {name: value for name, value in data.items() if name not in RESERVED}
