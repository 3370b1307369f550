"""A snapshot misses nothing, though replicas lag and the stream changes meanwhile."""

from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from gateway.presence.presence import Presence
from gateway.presence.snapshot import read_snapshot
from gateway.presence.table import PresenceChange, PresenceTable
from hubbub_client.contracts.ids import UserId
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.nats.client import Bus, connect_bus
from shared.runtime.supervision import Supervisor
from tests.fixtures.nats import NatsServer, StartServer
from tests.fixtures.waiting import eventually
from tests.gateway.presence.gateways import QUICK, a_gateway
from tests.gateway.presence.scripted import LOBBY, ScriptedStream, entry, lease, removal

LIMITS = replace(QUICK, stale_read_seconds=0.001)


@pytest.fixture
async def bare_bus(nats_server: StartServer) -> AsyncGenerator[Bus]:
    """A bus without JetStream, whose requests the tests answer."""
    async with connect_bus(nats_server(jetstream=False).url, name="test") as connected:
        await connected.until_connected()
        yield connected


def users_of(table: PresenceTable) -> list[int]:
    return [int(user_id) for user_id, _ in table.users(LOBBY)]


async def test_several_pages_make_one_table(server: NatsServer) -> None:
    async with a_gateway(server.url) as gateway:
        for user_id in range(1, 8):
            gateway.enter(UserId(str(user_id)))
        await eventually(lambda: gateway.presence.count(LOBBY) == 7)

        table, _ = await read_snapshot(gateway.bus, replace(QUICK, snapshot_batch=3))

    assert table.users(LOBBY) == gateway.presence.users(LOBBY)


async def test_an_entry_that_moves_between_the_answers_of_two_replicas_is_not_missed(
    bare_bus: Bus,
) -> None:
    # The first replica has the entry at 9 and no longer at 2. The second lags and does not have 9.
    stream = await ScriptedStream(bare_bus, lease(1), entry(3, 30), entry(9, 20)).open()
    stream.answers = [[lease(1), entry(3, 30)], [], []]

    table, up_to = await read_snapshot(bare_bus, LIMITS)

    assert users_of(table) == [30, 20]
    assert up_to == 9


async def test_the_last_message_of_a_stream_may_have_been_removed(bare_bus: Bus) -> None:
    stream = await ScriptedStream(bare_bus, lease(1), entry(3, 30)).open()
    stream.last = 7  # a removal that has expired

    table, up_to = await read_snapshot(bare_bus, LIMITS)

    assert users_of(table) == [30]
    assert up_to == 7


async def test_changes_during_the_read_are_neither_lost_nor_undone(bare_bus: Bus) -> None:
    changes: list[PresenceChange] = []
    stream = await ScriptedStream(bare_bus, lease(1), entry(2, 20), entry(3, 30)).open()
    stream.answers = [list(stream.held)]  # as it was before the changes

    def change_meanwhile() -> None:
        if stream.reads == 1:
            stream.store(entry(4, 40))
            stream.store(removal(5, 20))
            stream.last = 3  # the leader's answer is older too

    stream.before_answer = change_meanwhile
    async with start_publisher(bare_bus) as publisher:
        presence = Presence(bare_bus, publisher, on_change=changes.append, limits=QUICK)
        async with Supervisor().running(*presence.loops):
            await eventually(lambda: presence.caught_up)

            assert [user_id for user_id, _ in presence.users(LOBBY)] == ["30", "40"]
    assert [(change.user_id, change.joined) for change in changes] == [("30", True), ("40", True)]


async def test_a_change_whose_callback_fails_does_not_stop_the_others(
    bare_bus: Bus,
) -> None:
    told: list[UserId] = []

    def tell(change: PresenceChange) -> None:
        if change.user_id == "20":
            raise RuntimeError("a listener that fails")
        told.append(change.user_id)

    await ScriptedStream(bare_bus, lease(1), entry(2, 20), entry(3, 30), entry(4, 40)).open()
    async with start_publisher(bare_bus) as publisher:
        presence = Presence(bare_bus, publisher, on_change=tell, limits=QUICK)
        async with Supervisor().running(*presence.loops):
            await eventually(lambda: presence.caught_up)

    assert told == ["30", "40"]
