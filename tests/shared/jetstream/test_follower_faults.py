"""The follower through outages: servers that are killed, restored from a backup, or cut off."""

import asyncio
import shutil

from hubbub_client.jetstream.api import StoredMessage
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.nats.client import connect_bus
from shared.jetstream.follower import Follower
from shared.jetstream.limits import FollowerLimits
from shared.jetstream.position import EPOCH_CHANGED, ROLLED_BACK
from tests.fixtures.nats import NatsServer, StartServer
from tests.fixtures.waiting import eventually
from tests.shared.jetstream.builders import a_stream, following, publish_numbers, read_all
from tests.shared.jetstream.test_follower import PATIENT, Lossy, Reader


async def test_every_acked_publication_is_delivered_once_in_order_through_kill_9(
    nats_server: StartServer,
) -> None:
    server, reader = nats_server(), Reader()
    acked: dict[str, int] = {}
    stop = asyncio.Event()

    async with (
        connect_bus(server.url, name="writer", reconnect_seconds=0.02) as writer,
        # Back later than the writer, so that it misses what is stored in between.
        connect_bus(server.url, name="reader", reconnect_seconds=0.4) as bus,
        start_publisher(writer) as publisher,
    ):
        await writer.until_connected()
        stream = await a_stream(writer)

        async def publish(key: int) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                name = f"{key}-{number}"
                stored = await publisher.publish(
                    f"{stream}.pub.{key}", name.encode(), message_id=name, deadline_seconds=30
                )
                acked[name] = stored.offset

        follower = reader.follower(bus, stream, from_start=True)
        async with following(follower):
            async with asyncio.TaskGroup() as group:
                for key in range(10):
                    group.create_task(publish(key))
                for _ in range(3):
                    goal = len(acked) + 300
                    await eventually(lambda goal=goal: len(acked) > goal, seconds=30)  # type: ignore[misc]
                    server.kill()
                    await eventually(lambda: not follower.caught_up)
                    server.start()
                goal = len(acked) + 300
                await eventually(lambda: len(acked) > goal, seconds=30)
                stop.set()
            stored = await read_all(writer, stream)
            await eventually(lambda: follower.position == stored[-1].sequence)

    assert acked == {message.payload.decode(): message.sequence for message in stored}
    assert reader.sequences == list(range(1, len(stored) + 1))
    assert reader.payloads == [message.payload for message in stored]
    assert reader.resets == []


async def test_what_was_missed_while_away_comes_right_after_the_reconnect(
    nats_server: StartServer,
) -> None:
    server, reader = nats_server(), Reader()
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        await bus.until_connected()
        stream = await a_stream(bus)
        follower = reader.follower(bus, stream, kind=Lossy, limits=PATIENT)
        async with following(follower):
            await follower.until_caught_up()
            await publish_numbers(publisher, stream, range(3))
            server.kill()
            await eventually(lambda: not follower.caught_up)
            assert reader.sequences == []
            server.start()
            await eventually(lambda: reader.sequences == [1, 2, 3])
            await follower.until_caught_up()


async def test_a_server_that_hangs_is_doubted_before_the_connection_notices(
    nats_server: StartServer,
) -> None:
    server, reader = nats_server(), Reader()
    limits = FollowerLimits(idle_seconds=0.1, answer_seconds=0.1, stale_seconds=0.5)
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        await bus.until_connected()
        stream = await a_stream(bus)
        follower = reader.follower(bus, stream, limits=limits)
        async with following(follower):
            await follower.until_caught_up()
            server.pause()
            await eventually(lambda: not follower.caught_up)
            assert bus.connected
            server.go_on()
            await publish_numbers(publisher, stream, range(3))
            await eventually(lambda: reader.sequences == [1, 2, 3])
            await follower.until_caught_up()


async def test_a_stream_that_was_made_anew_during_an_outage_is_another_epoch(
    nats_server: StartServer,
) -> None:
    server, reader = nats_server(), Reader()
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        await bus.until_connected()
        stream = await a_stream(bus)
        follower = reader.follower(bus, stream)
        async with following(follower):
            await follower.until_caught_up()
            await publish_numbers(publisher, stream, range(5))
            await eventually(lambda: follower.position == 5)
            server.kill()
            await eventually(lambda: not bus.connected)
            shutil.rmtree(server.store)
            server.start()
            await bus.until_connected()
            await a_stream(bus, stream)
            await publish_numbers(publisher, stream, range(7), key="new")
            await eventually(lambda: reader.resets == [EPOCH_CHANGED])
            await follower.until_caught_up()
            [sequence] = await publish_numbers(publisher, stream, range(7, 8), key="new")
            await eventually(lambda: follower.position == sequence)

    assert reader.payloads[-1] == b"7"


async def a_follower_that_is_ahead(
    server: NatsServer, reader: Reader, *, published_since: int
) -> None:
    """Follow to sequence 8, restore the server to 5 from a backup, and publish others on it."""
    backup = server.store.with_name("backup")
    port = server.port
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        await bus.until_connected()
        stream = await a_stream(bus)
        follower = reader.follower(bus, stream, limits=FollowerLimits(verify_seconds=60))
        async with following(follower):
            await follower.until_caught_up()
            await publish_numbers(publisher, stream, range(5))
            server.stop()
            shutil.copytree(server.store, backup)
            server.start()
            await publish_numbers(publisher, stream, range(5, 8))
            await eventually(lambda: follower.position == 8)
            server.stop()
            shutil.rmtree(server.store)
            shutil.copytree(backup, server.store)
            await restored_and_written_to(server, stream, published_since)
            server.port = port
            server.start()
            await eventually(lambda: bool(reader.resets))
            await follower.until_caught_up()
            assert follower.position == 5 + published_since
            [sequence] = await publish_numbers(publisher, stream, range(1), key="next")
            assert sequence == 6 + published_since
            await eventually(lambda: follower.position == sequence)


async def restored_and_written_to(server: NatsServer, stream: str, count: int) -> None:
    server.port = -1  # elsewhere, so that the follower is still away
    server.start()
    async with connect_bus(server.url, name="other") as bus, start_publisher(bus) as publisher:
        await publish_numbers(publisher, stream, range(count), key="other")
    server.stop()


async def test_sequences_that_were_rolled_back_are_noticed(nats_server: StartServer) -> None:
    reader = Reader()

    await a_follower_that_is_ahead(nats_server(), reader, published_since=0)

    assert reader.resets == [ROLLED_BACK]
    assert reader.sequences == [1, 2, 3, 4, 5, 6, 7, 8, 6]


async def test_sequences_that_others_took_after_a_rollback_are_noticed(
    nats_server: StartServer,
) -> None:
    reader = Reader()

    await a_follower_that_is_ahead(nats_server(), reader, published_since=6)

    assert reader.resets == [ROLLED_BACK]
    assert reader.sequences == [1, 2, 3, 4, 5, 6, 7, 8, 12]


class Gated(Follower):
    """Verifies itself only while its gate is open."""

    gate: asyncio.Event

    async def _verify(self) -> None:
        await self.gate.wait()
        await super()._verify()


async def a_gated_pair(
    server: NatsServer, first: Reader, second: Reader, limits: FollowerLimits, *, count: int
) -> None:
    """One follower after another; through an outage the first one's gate is closed."""
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        await bus.until_connected()
        revocations, publications = await a_stream(bus), await a_stream(bus)
        before = first.follower(bus, revocations, kind=Gated)
        assert isinstance(before, Gated)
        before.gate = asyncio.Event()
        after = second.follower(bus, publications, after=before, limits=limits)
        async with following(after, before):
            before.gate.set()
            await after.until_caught_up()
            before.gate.clear()
            server.kill()
            await eventually(lambda: not before.caught_up and not after.caught_up)
            server.start()
            await bus.until_connected()
            await publish_numbers(publisher, publications, range(count))
            await publish_numbers(publisher, revocations, range(1))
            await bus.request("$JS.API.INFO", b"", timeout_seconds=20)
            assert second.messages == []
            assert not after.caught_up
            before.gate.set()
            await eventually(lambda: after.position == count)


async def test_after_an_outage_publications_wait_for_revocations(
    nats_server: StartServer,
) -> None:
    heard: list[str] = []
    first, second = Reader(), Reader()
    first.messages = Recorder(heard, "revocation")
    second.messages = Recorder(heard, "publication")

    await a_gated_pair(nats_server(), first, second, FollowerLimits(), count=20)

    assert heard == ["revocation"] + ["publication"] * 20


async def test_more_than_may_be_held_is_read_from_the_stream_instead(
    nats_server: StartServer,
) -> None:
    first, second = Reader(), Reader()
    limits = FollowerLimits(max_held_bytes=2000)  # about ten messages with their headers

    await a_gated_pair(nats_server(), first, second, limits, count=100)

    assert second.sequences == list(range(1, 101))


class Recorder(list[StoredMessage]):
    """A list that also tells another one what kind of thing it was given."""

    def __init__(self, heard: list[str], kind: str) -> None:
        super().__init__()
        self._heard = heard
        self._kind = kind

    def append(self, message: StoredMessage) -> None:
        super().append(message)
        self._heard.append(self._kind)
