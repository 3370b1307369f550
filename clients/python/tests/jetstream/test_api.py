"""The calls of JetStream's API, on a real server."""

import re
from pathlib import Path
from uuid import uuid4

import pytest

from hubbub_client.jetstream.api import ApiError, JetStreamApi
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.nats.client import Bus, StreamMissing
from tests.shared.jetstream.builders import a_stream, publish_numbers

ROOT = Path(__file__).resolve().parents[4]
ROOMS = ("clients/python/src", "shared", "gateway", "auth_service", "posts_service", "hubbub")


async def test_a_stream_is_made_updated_and_described(bus: Bus) -> None:
    api, name = JetStreamApi(bus), f"t{uuid4().hex[:12]}"
    await api.create_stream({"name": name, "subjects": [f"{name}.>"], "metadata": {"epoch": "e"}})

    made = await api.stream_info(name)
    await api.update_stream({**made.config, "max_bytes": 1_000_000})
    updated = await api.stream_info(name)

    assert (made.state.first, made.state.last, made.state.epoch) == (1, 0, "e")
    assert (made.metadata["epoch"], made.stored_bytes) == ("e", 0)
    assert updated.config["max_bytes"] == 1_000_000
    assert updated.created == made.created


async def test_only_the_messages_of_a_subject_are_purged(bus: Bus) -> None:
    api, stream = JetStreamApi(bus), await a_stream(bus)
    async with start_publisher(bus) as publisher:
        await publish_numbers(publisher, stream, range(3), key="a")
        await publish_numbers(publisher, stream, range(2), key="b")

    assert await api.purge_stream(stream, subject=f"{stream}.pub.a") == 3
    assert await api.get_message(stream, {"last_by_subj": f"{stream}.pub.a"}) is None
    assert await api.get_message(stream, {"last_by_subj": f"{stream}.pub.b"}) is not None


async def test_a_consumer_is_made_once_and_described(bus: Bus) -> None:
    api, stream = JetStreamApi(bus), await a_stream(bus)
    assert await api.consumer_info(stream, "workers") is None

    for _ in range(2):
        await api.create_consumer(stream, {"durable_name": "workers", "ack_policy": "explicit"})

    consumer = await api.consumer_info(stream, "workers")
    assert consumer is not None
    assert consumer.ack_floor == 0
    assert consumer.config["durable_name"] == "workers"


async def test_of_a_stream_that_is_missing_every_call_says_so(bus: Bus) -> None:
    api = JetStreamApi(bus)

    with pytest.raises(StreamMissing, match="NOWHERE"):
        await api.stream_info("NOWHERE")
    with pytest.raises(StreamMissing, match="NOWHERE"):
        await api.purge_stream("NOWHERE", subject=">")
    with pytest.raises(StreamMissing, match="NOWHERE"):
        await api.get_message("NOWHERE", {"seq": 1})
    with pytest.raises(StreamMissing, match="NOWHERE"):
        await api.consumer_info("NOWHERE", "workers")


async def test_a_refusal_bears_the_codes_of_the_server_and_what_it_is_about(bus: Bus) -> None:
    api, stream = JetStreamApi(bus), await a_stream(bus)

    with pytest.raises(ApiError, match=f"stream {stream}: ") as caught:
        await api.create_stream({"name": stream, "subjects": ["elsewhere"]})

    assert (caught.value.status, caught.value.err_code) == (400, 10058)


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_but_the_client_names_the_api(room: str) -> None:
    naming = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / room).rglob("*.py")
        if re.search(r"\$JS\.API", path.read_text())
    }

    assert naming <= {"clients/python/src/hubbub_client/jetstream/api.py"}
