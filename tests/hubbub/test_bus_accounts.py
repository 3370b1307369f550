"""The embedded bus lets in the services, each as itself, and nobody else."""

import asyncio
import os
import shutil
import signal
import stat
from pathlib import Path

import pytest

from hubbub.bus_accounts import provide
from hubbub.errors import CommandFailed
from hubbub.nats_child import nats_server as embedded_server
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import connect_bus
from shared.jetstream.streams import bootstrap
from tests.fixtures.nats import NatsServer
from tests.fixtures.waiting import eventually

USERS = {"auth", "posts", "gateway", "bootstrap", "operator", "application"}


async def test_who_names_no_password_or_a_wrong_one_is_not_let_in(tmp_path: Path) -> None:
    async with embedded_server(tmp_path) as server:
        wrong = server.url.replace("nats://", "nats://gateway:guessed@")
        async with connect_bus(server.url, name="a") as one, connect_bus(wrong, name="b") as two:
            await eventually(
                lambda: server.log_file.read_text().count("authentication error") >= 2, seconds=10
            )

            assert not one.connected
            assert not two.connected


async def test_each_service_may_do_what_its_user_may_in_containers_and_no_more(
    tmp_path: Path,
) -> None:
    async with embedded_server(tmp_path) as server:
        assert set(server.urls()) == USERS
        async with connect_bus(server.url_of("bootstrap"), name="bootstrap") as bus:
            await bootstrap(bus)
        async with (
            connect_bus(server.url_of("posts"), name="posts") as bus,
            start_publisher(bus) as publisher,
        ):
            await publisher.publish("events.posts.post_liked", b"{}", message_id="1")
            bus.send("rt.pub.chat:lobby", b"{}")

            await eventually(
                lambda: '"HUBBUB/user:posts" - Publish Violation' in server.log_file.read_text(),
                seconds=10,
            )


def test_passwords_are_made_once_and_are_for_their_owner_alone(tmp_path: Path) -> None:
    first = provide(tmp_path)

    assert provide(tmp_path) == first
    assert set(first) == USERS
    assert len(set(first.values())) == len(USERS)
    file = tmp_path / "secrets/passwords.conf"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


async def test_who_signs_in_goes_on_by_the_same_password_though_its_file_is_lost(
    tmp_path: Path,
) -> None:
    home = tmp_path / "nats"
    async with (
        embedded_server(home) as server,
        connect_bus(server.url_of("gateway"), name="gateway") as bus,
    ):
        await bus.until_connected()
        down = asyncio.Event()
        bus.on_disconnected(down.set)
        pid = int(server.pid_file.read_text())

        shutil.rmtree(home)
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            await down.wait()
            await bus.until_connected()


def test_passwords_that_cannot_be_read_are_a_sentence(tmp_path: Path) -> None:
    provide(tmp_path)
    file = tmp_path / "secrets/passwords.conf"
    file.write_text("half a fi")

    with pytest.raises(CommandFailed, match=f"cannot read the bus's passwords in {file}: delete"):
        provide(tmp_path)


async def test_what_was_stored_before_there_were_passwords_is_kept(tmp_path: Path) -> None:
    before = NatsServer(tmp_path)
    before.start()
    async with connect_bus(before.url, name="test") as bus, start_publisher(bus) as publisher:
        await bootstrap(bus)
        await publisher.publish("rt.pub.chat:lobby", b"{}", message_id="1")
        kept = await StreamReader(bus, "RT").state()
    before.stop()

    async with (
        embedded_server(before.store) as server,
        connect_bus(server.url_of("gateway"), name="gateway") as bus,
    ):
        await bus.until_connected()
        assert await StreamReader(bus, "RT").state() == kept
