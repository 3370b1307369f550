"""A gateway is killed, and all its clients come to another: how long until the last has what it
missed, what that costs the other gateway, and how often it reads the stream.

Each has three of thirty rooms, in each of which it has missed 20 publications. The requests to read
them are counted on the bus.
"""

import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from bench.load import Load
from bench.measures import usage_of
from bench.scenarios.scale import Scale
from bench.targets import Hubbub, Target
from hubbub_client.contracts.channels import room_channel
from hubbub_client.contracts.publications import Publication
from hubbub_client.contracts.subjects import publication_subject
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus, connect_bus

CONNECTIONS = 10_000
AT_ONCE = 1000
"""Handshakes; more would overflow the backlog of the listening socket, and be sent again late."""
CHANNELS = 3
ROOMS = [room_channel(f"storm-{number}") for number in range(30)]
MISSED = 20
TEXT_BYTES = 120
READ_SUBJECTS = ("$JS.API.DIRECT.GET.RT", "$JS.API.STREAM.MSG.GET.RT")


async def measure(target: Target, load: Load, scale: Scale) -> dict[str, float]:
    assert isinstance(target, Hubbub)
    users = range(1, scale.of(CONNECTIONS) + 1)
    async with target.another() as killed:
        lines = [target.sdk_line(user, _rooms_of(user)) for user in users]
        await load.connect(killed.port, lines, at_once=AT_ONCE)
    await load.reset()
    async with connect_bus(f"nats://127.0.0.1:{target.nats_port}", name="bench") as bus:
        await bus.until_connected()
        before = await StreamReader(bus, "RT").state()
        await _publish(bus)
        await scale.until_quiet(target.pid)
        position = {"recover": True, "offset": before.last, "epoch": before.epoch}
        lines = [target.sdk_line(user, _rooms_of(user), position=position) for user in users]
        async with _counting_reads(bus) as reads, usage_of(target.pid, target.profiler) as usage:
            answer = await load.connect(target.port, lines, at_once=AT_ONCE)
            await scale.until_quiet(target.pid)
    return {
        "seconds until the last": round(answer.seconds, 2),
        "µs per connection": usage.cpu_us(len(users)),
        "reads of a channel": max(reads.values(), default=0),
        "reads in total": reads.total(),
        "load busy, %": answer.busy_percent,
        "disturbed, %": usage.disturbed_percent,
    }


def _rooms_of(user: int) -> list[str]:
    return [
        ROOMS[(user + number * len(ROOMS) // CHANNELS) % len(ROOMS)] for number in range(CHANNELS)
    ]


async def _publish(bus: Bus) -> None:
    """What will be missed; without a stamp, or the load would take it for a delivery."""
    said = Publication({"text": TEXT_BYTES * "x"}).encode()
    async with start_publisher(bus) as publisher:
        for number in range(MISSED):
            for room in ROOMS:
                subject = publication_subject(room)
                await publisher.publish(subject, said, message_id=f"{room} {number}")


@asynccontextmanager
async def _counting_reads(bus: Bus) -> AsyncGenerator[Counter[str]]:
    """Count the requests to read one of the rooms, by its subject."""
    rooms = {publication_subject(room) for room in ROOMS}
    reads = Counter[str]()

    def take(_subject: bytes, payload: bytes, _headers: bytes | None, _reply: bytes) -> None:
        asked = json.loads(payload or b"{}")
        subject = asked.get("next_by_subj") or asked.get("last_by_subj")
        if subject in rooms:
            reads[subject] += 1

    subscriptions = [await bus.subscribe(subject, take) for subject in READ_SUBJECTS]
    try:
        yield reads
    finally:
        for subscription in subscriptions:
            subscription.close()
