"""A shop that emits events, and consumers of them, each test with names of its own."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hubbub_client.bus import BusHubbub, ConsumerLimits, EventFailed, Events, connect
from hubbub_client.jetstream.api import JetStreamApi
from hubbub_client.nats.client import Bus

SECONDS = 20.0
QUICK = ConsumerLimits(
    first_pause_seconds=0.05,
    longest_pause_seconds=0.2,
    retry_seconds=0.05,
    wait_seconds=1,
)
"""So that no test waits for what in life takes long."""


class OrderPaid(BaseModel):
    order_id: int


class OrderPaidV2(BaseModel):
    order_id: int
    total: str


class OrderLost(BaseModel):
    order_id: int


def a_name() -> str:
    """Of a service or a consumer, which no other test has."""
    return f"s{secrets.token_hex(6)}"


@asynccontextmanager
async def consuming(events: Events, url: str | Path) -> AsyncGenerator[None]:
    """A process of the consumer, which gets what is emitted in the body."""
    async with events.running(url):
        async with asyncio.timeout(SECONDS):
            await events.until_ready()
        yield


@asynccontextmanager
async def failures_of(consumer: Events, url: str) -> "AsyncGenerator[asyncio.Queue[EventFailed]]":
    """What the consumer could not handle, from now on."""
    heard: asyncio.Queue[EventFailed] = asyncio.Queue()
    watching = Events(a_name(), limits=QUICK)

    @watching.on(EventFailed, service=consumer.name)
    async def hear(failure: EventFailed) -> None:
        heard.put_nowait(failure)

    async with consuming(watching, url):
        yield heard


@asynccontextmanager
async def a_shop(url: str) -> AsyncGenerator[BusHubbub]:
    async with connect(url, service=a_name()) as hubbub:
        yield hubbub


async def state_of(bus: Bus, consumer: str) -> dict[str, Any]:
    """The consumer as the bus has it."""
    return await JetStreamApi(bus).request("CONSUMER.INFO", "EVENTS", consumer)


async def until_older(bus: Bus, consumer: str, *, seconds: float) -> None:
    """Until that much time has passed for the consumer."""

    async def now() -> datetime:
        return datetime.fromisoformat((await state_of(bus, consumer))["ts"])

    began = await now()
    while (await now() - began).total_seconds() < seconds:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def until_settled(bus: Bus, consumer: str) -> None:
    """Until nothing is left to do, of what the consumer has been given.

    For a moment the server does not know yet of what was just stored.
    """
    async with asyncio.timeout(SECONDS):
        while True:
            state = await state_of(bus, consumer)
            if not state["num_pending"] and not state["num_ack_pending"]:
                return
            await asyncio.sleep(0.01)
