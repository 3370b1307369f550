"""For tests of the notifier: a server with streams, and what becomes of events on it."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from gateway.notify import Notifier, NotifyCounters, NotifyLimits
from gateway.streams.history import History
from hubbub_client.contracts.envelope import Envelope
from hubbub_client.contracts.ids import ChannelName, UserId
from hubbub_client.contracts.publications import Publication
from hubbub_client.jetstream.clock import our_clock
from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus, connect_bus
from shared.jetstream.stream_configs import StreamSettings
from shared.jetstream.streams import bootstrap
from shared.runtime.process import running
from tests.fixtures.nats import NatsServer
from tests.shared.jetstream.builders import publish_event

ANN, BOB = UserId("1"), UserId("2")
POST = ChannelName("post:7")


def a_like(**changes: Any) -> Envelope:
    return Envelope(
        **{"type": "post_liked", "recipients": (ANN,), "data": {"post_id": 7}, **changes}
    )


@dataclass
class Notifying:
    """A connection to a server with streams, and what notifiers on it have counted."""

    bus: Bus
    publisher: Publisher
    history: History
    limits: NotifyLimits
    counted: Counter[str]

    def notifier(self, *, now: Callable[[], float] = our_clock) -> Notifier:
        counters = NotifyCounters(
            published=lambda: self.counted.update(["published"]),
            found=lambda: self.counted.update(["found"]),
            unreadable=lambda: self.counted.update(["unreadable"]),
            refused=lambda: self.counted.update(["refused"]),
            retried=lambda: self.counted.update(["retried"]),
        )
        return Notifier(
            self.bus,
            self.publisher,
            self.history,
            counters=counters,
            limits=self.limits,
            now=now,
        )

    def stuck_notifier(self) -> tuple[Notifier, Publisher]:
        """One whose publications are never sent, and its publisher."""
        publisher = Publisher(self.bus, window=0)
        return Notifier(self.bus, publisher, self.history, limits=self.limits), publisher

    async def publish(self, *events: Envelope, message_id: str | None = None) -> None:
        """Publish events as a service's outbox does."""
        for event in events:
            await publish_event(self.publisher, event, message_id=message_id)

    async def handle(self, *events: Envelope) -> None:
        """Run a notifier until it has handled these and all earlier events."""
        async with running(self.notifier().run):
            await self.publish(*events)
            await self.until_all_acked()

    async def publications(self, channel: ChannelName) -> list[Publication]:
        end = (await self.history.state()).last
        found = await self.history.last(channel, 100_000, up_to=end)
        return [Publication.decode(each.payload) for each in found]

    async def event_ids(self, channel: ChannelName) -> list[str | None]:
        """The events of the channel's publications."""
        return [each.event_id for each in await self.publications(channel)]

    async def acked_up_to(self) -> int:
        call = "$JS.API.CONSUMER.INFO.EVENTS.notify"
        info = json.loads(await self.bus.request(call, b"", timeout_seconds=20))
        return int(info["ack_floor"]["stream_seq"])

    async def until_ids_are_forgotten(self) -> None:
        """Until all earlier message ids are out of the dedupe window."""
        first = await self._publish_probe()
        async with asyncio.timeout(10):
            while await self._publish_probe() == first:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def _publish_probe(self) -> int:
        """The offset of the probe; the old one while its id is in the dedupe window."""
        return (await self.publisher.publish("rt.pub.probe", b"{}", message_id="probe")).offset

    async def until_all_acked(self, *, seconds: float = 20) -> None:
        # The consumer does not count events that it has not seen yet, so the stream is asked.
        last = (await StreamReader(self.bus, "EVENTS").state()).last
        async with asyncio.timeout(seconds):
            while await self.acked_up_to() < last:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@asynccontextmanager
async def connected(
    server: NatsServer, settings: StreamSettings | None = None
) -> AsyncGenerator[Notifying]:
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        await bootstrap(bus, settings)
        history = History(StreamReader(bus, "RT"))
        yield Notifying(
            bus, publisher, history, NotifyLimits(publish_seconds=5, retry_seconds=0.05), Counter()
        )
