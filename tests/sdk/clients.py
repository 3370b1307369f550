"""What tests ask of a client, whichever SDK it is of. Names are those of the SDK of browsers."""

import asyncio
from abc import ABC, abstractmethod
from typing import Any

from tests.gateway.serving import DEADLINE_SECONDS

Event = dict[str, Any]


class SdkError(Exception):
    """What the SDK refused a call with, in the server's words or its own."""

    def __init__(self, code: int | None, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class SdkClient(ABC):
    """One client of an SDK. What it emitted and nobody waited for yet lies in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        """All that is known of."""
        self._taken = 0

    @abstractmethod
    async def call(self, method: str, *args: Any, channel: str | None = None) -> Any:
        """Call a method of it, or of its subscription to a channel; what that resolves to.

        Raises:
            SdkError: what it is rejected with.
        """

    @abstractmethod
    async def _more_events(self) -> None:
        """Wait until something happens."""

    async def get(self) -> Event:
        """The next event, whatever it is."""
        while self._taken == len(self.events):
            await self._more_events()
        self._taken += 1
        return self.events[self._taken - 1]

    async def until(self, event: str, **fields: Any) -> Event:
        """Skip to the next event of that name and with those fields."""
        wanted = fields | {"event": event}
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                happened = await self.get()
                if wanted.items() <= happened.items():
                    return happened

    async def connect(self) -> Event:
        await self.call("connect")
        return await self.until("connected")

    async def disconnect(self) -> Event:
        await self.call("disconnect")
        return await self.until("disconnected")

    async def subscribe(self, channel: str, **options: Any) -> Event:
        """Make a subscription, and wait until it is one."""
        await self.call("newSubscription", options, channel=channel)
        return await self.resubscribe(channel)

    async def resubscribe(self, channel: str) -> Event:
        await self.call("subscribe", channel=channel)
        return await self.until("subscribed", channel=channel)

    async def unsubscribe(self, channel: str) -> Event:
        await self.call("unsubscribe", channel=channel)
        return await self.until("unsubscribed", channel=channel)

    async def data(self, count: int) -> list[Any]:
        """What the next publications hold, in the order of their coming."""
        return [(await self.until("publication"))["data"] for _ in range(count)]

    def all_data(self, channel: str) -> list[Any]:
        """What all publications of a channel held so far."""
        return [
            each["data"]
            for each in self.events
            if each["event"] == "publication" and each["channel"] == channel
        ]
