"""A process that runs a notifier, for a test to kill: ``worker.py <NATS URL>``."""

import asyncio
import sys

from gateway.notify import Notifier, NotifyLimits
from gateway.streams.history import History
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import connect_bus


async def main(url: str) -> None:
    async with connect_bus(url, name="notify-worker") as bus, start_publisher(bus) as publisher:
        history, limits = History(StreamReader(bus, "RT")), NotifyLimits(publish_seconds=5)
        await Notifier(bus, publisher, history, limits=limits).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
