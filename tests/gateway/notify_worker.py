"""A process that does nothing but notify, for a test to kill: ``notify_worker.py <NATS URL>``."""

import asyncio
import sys

from gateway.notify import Notifier
from gateway.streams.history import History
from shared.jetstream.publisher import start_publisher
from shared.jetstream.stream_reader import StreamReader
from shared.nats.client import connect_bus


async def main(url: str) -> None:
    async with connect_bus(url, name="notify-worker") as bus, start_publisher(bus) as publisher:
        await Notifier(bus, publisher, History(StreamReader(bus, "RT"))).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
