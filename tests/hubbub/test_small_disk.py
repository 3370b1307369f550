"""`hubbub up` on a disk that is small, or full for a while."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.sync.client import connect

from hubbub.nats_child import nats_server
from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.nats.client import BusUnavailable, connect_bus
from shared.jetstream.stream_configs import StreamSettings
from shared.jetstream.streams import bootstrap
from tests.fixtures import plain_http
from tests.fixtures.small_disk import SmallDisk
from tests.system.processes import HubbubProcess, Processes, until

MountDisk = Callable[[int], SmallDisk]

GOES_ON_SECONDS = 30.0
"""After there is room again, at the most."""
SMALL_STREAMS = StreamSettings(
    rt_max_bytes=8 << 20, pres_max_bytes=8 << 20, ctl_max_bytes=8 << 20, events_max_bytes=8 << 20
)


def test_a_second_start_on_a_small_disk_is_like_the_first(
    small_disk: MountDisk, processes: Processes
) -> None:
    disk = small_disk(1600)
    for _ in range(2):
        system = processes.up(data=disk.path / "data")
        system.until_ready(seconds=60)
        assert system.stop() == 0


def test_a_disk_that_is_too_small_is_a_sentence(
    small_disk: MountDisk, processes: Processes
) -> None:
    disk = small_disk(60)
    system = processes.up(data=disk.path / "data")

    assert system.wait(seconds=60) == 1
    assert system.log.splitlines()[-1].startswith(
        "Error: the bus has too little room: its streams need at least 64 MiB"
    )
    assert "Traceback" not in system.log


def test_to_start_on_a_full_disk_is_a_sentence_that_says_where_room_is_needed(
    small_disk: MountDisk, processes: Processes
) -> None:
    disk = small_disk(10)
    disk.fill()
    system = processes.up(data=disk.path / "data")

    assert system.wait(seconds=60) == 1
    assert system.log.splitlines()[-1] == (
        f"Error: {disk.path}/data/.gitignore: No space left on device; make room on that disk"
    )


def test_after_a_full_disk_all_goes_on_and_nothing_that_was_answered_is_lost(
    small_disk: MountDisk, processes: Processes
) -> None:
    disk = small_disk(300)
    data = disk.path / "data"
    system = processes.up(data=data, env={"HUBBUB_GATEWAY_PUBLISH_SECONDS": "2"})
    system.until_ready(seconds=60)
    token = sign_in(system)
    stored = [number for number in range(10) if publishes(system, data, number)]
    assert len(stored) == 10

    disk.fill()
    number = 10
    while publishes(system, data, number):
        stored.append(number)
        number += 1
    not_ready = plain_http.get(f"{system.url}/readyz")
    assert not_ready.status_code == 503
    assert "the bus does not store publications" in not_ready.json()["detail"]

    disk.free()
    until(
        lambda: publishes(system, data, number), seconds=GOES_ON_SECONDS, why="publishing goes on"
    )
    system.until_ready(seconds=60)
    post = {"title": "t", "body": "b"}
    me = {"Authorization": f"Bearer {token}"}
    answer = plain_http.post(f"{system.url}/posts", json=post, headers=me)
    assert answer.status_code == 201
    assert history_of(system, token, len(stored) + 1) == [*stored, number]


async def test_a_server_that_was_started_on_a_full_disk_stores_again_when_there_is_room(
    small_disk: MountDisk,
) -> None:
    disk = small_disk(100)
    async with nats_server(disk.path / "nats") as server:
        async with connect_bus(server.url_of("bootstrap"), name="bootstrap") as bus:
            await bootstrap(bus, SMALL_STREAMS)
        async with (
            connect_bus(server.url_of("operator"), name="publish") as bus,
            start_publisher(bus) as publisher,
        ):
            await store(publisher, "1", seconds=GOES_ON_SECONDS)
            down = asyncio.Event()
            bus.on_disconnected(down.set)

            disk.fill()
            os.kill(int(server.pid_file.read_text()), signal.SIGKILL)
            await down.wait()
            with pytest.raises(BusUnavailable):  # its first failure to write is behind it
                await store(publisher, "2", seconds=1.0)

            disk.free()
            await store(publisher, "2", seconds=GOES_ON_SECONDS)


async def store(publisher: Publisher, message_id: str, *, seconds: float) -> None:
    await publisher.publish(
        "rt.pub.chat:lobby", bytes(100_000), message_id=message_id, deadline_seconds=seconds
    )


def sign_in(system: HubbubProcess) -> str:
    form = {"username": "ada@example.com", "password": "hubbub-demo"}
    answer = plain_http.post(f"{system.url}/auth/token", data=form)
    return str(answer.json()["access_token"])


def publishes(system: HubbubProcess, data: Path, number: int) -> bool:
    """Whether it is answered as stored."""
    body = {
        "channel": "chat:lobby",
        "data": {"number": number, "padding": "x" * 4000},
        "idempotency_key": str(number),
    }
    headers = {"X-API-Key": (data / "api_key").read_text().strip()}
    answer = plain_http.post(f"{system.url}/api/publish", json=body, headers=headers)
    return "result" in answer.json()


def history_of(system: HubbubProcess, token: str, count: int) -> list[int]:
    url = f"{system.ws_url}/ws/chat?history={count}&token={token}"
    with connect(url, proxy=None, open_timeout=20) as tab:
        assert json.loads(tab.recv(timeout=20))["type"] == "welcome"
        return [json.loads(tab.recv(timeout=20))["data"]["number"] for _ in range(count)]
