"""Streams of a test's own, so that tests can share a server."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from hubbub_client.contracts.envelope import Envelope
from hubbub_client.contracts.subjects import event_subject
from hubbub_client.jetstream.api import StoredMessage
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus
from shared.jetstream.follower import Follower


async def js_api(bus: Bus, call: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
    payload = b"" if request is None else json.dumps(request).encode()
    answer: dict[str, Any] = json.loads(
        await bus.request(f"$JS.API.{call}", payload, timeout_seconds=20)
    )
    assert "error" not in answer, answer["error"]
    return answer


async def a_stream(bus: Bus, name: str | None = None, **config: Any) -> str:
    """Create ``<name>``: ``<name>.pub.>`` → ``<name>.live.>``, with an epoch."""
    name = name or f"t{uuid4().hex[:12]}"
    request = {
        "name": name,
        "subjects": [f"{name}.pub.>"],
        "republish": {"src": f"{name}.pub.>", "dest": f"{name}.live.>"},
        "storage": "file",
        "allow_direct": True,
        "duplicate_window": 120_000_000_000,
        "metadata": {"epoch": uuid4().hex},
        **config,
    }
    await js_api(bus, f"STREAM.CREATE.{name}", request)
    return name


async def publish_numbers(
    publisher: Publisher, stream: str, numbers: range, *, key: str = "k"
) -> list[int]:
    """Publish one message per number, one after the other; return their sequences."""
    return [
        (
            await publisher.publish(
                f"{stream}.pub.{key}", str(number).encode(), message_id=f"{key}-{number}"
            )
        ).offset
        for number in numbers
    ]


async def publish_event(
    publisher: Publisher, event: Envelope, *, message_id: str | None = None
) -> None:
    """As the outbox of the posts service does."""
    await publisher.publish(
        event_subject("posts", event.type),
        event.model_dump_json().encode(),
        message_id=message_id or event.id,
    )


def announce_leader(bus: Bus, stream: str) -> None:
    """Tell all followers that the stream has a new leader, so that they ask it."""
    bus.send(f"$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.{stream}", b"{}")


async def read_all(bus: Bus, stream: str) -> list[StoredMessage]:
    """Everything that a stream on one node holds."""
    reader, messages = StreamReader(bus, stream, answer_seconds=10), list[StoredMessage]()
    while True:
        after = messages[-1].sequence + 1 if messages else 1
        batch = await reader.batch({"seq": after, "batch": 1000})
        messages += batch.messages
        if not batch.pending:
            return messages


@asynccontextmanager
async def following(*followers: Follower) -> AsyncGenerator[None]:
    """Run the followers beside the body."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(follower.run()) for follower in followers]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
