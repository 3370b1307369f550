"""Presence by connection: each is listed with its info, and told of when it comes and goes."""

from dataclasses import replace

from gateway.presence.presence import Presence
from gateway.presence.records import ClientInfo
from gateway.presence.table import ClientChange
from gateway.presence.users import ChannelStats, Client
from hubbub_client.contracts.ids import ANONYMOUS, ChannelName, ConnectionId
from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.nats.client import Bus, connect_bus
from shared.jetstream.streams import bootstrap
from shared.runtime.supervision import Supervisor
from tests.fixtures.nats import NatsServer
from tests.fixtures.waiting import eventually
from tests.gateway.presence.gateways import (
    ANN,
    BOB,
    GONE_SECONDS,
    LOBBY,
    QUICK,
    a_gateway,
    a_link,
)

INFO = ClientInfo(conn_info=b'{"name": "Ann"}', chan_info=b'["dj", 1.50]')
ONE, TWO, THREE = ConnectionId("tab 1"), ConnectionId("tab 2"), ConnectionId("tab 3")


async def test_all_gateways_list_each_connection_with_its_info(server: NatsServer) -> None:
    async with a_gateway(server.url) as one, a_gateway(server.url) as two:
        one.enter(ANN, ONE, INFO)
        await eventually(lambda: two.tabs == {ONE})
        one.enter(ANN, TWO)
        await eventually(lambda: two.tabs == {ONE, TWO})
        two.enter(ANONYMOUS, THREE)
        await eventually(lambda: one.tabs == two.tabs == {ONE, TWO, THREE})

        for gateway in (one, two):
            presence = gateway.presence
            assert presence.clients(LOBBY) == [
                Client(ONE, ANN, INFO),
                Client(TWO, ANN, None),
                Client(THREE, ANONYMOUS, None),
            ]
            assert presence.clients(LOBBY, limit=1) == [Client(ONE, ANN, INFO)]
            assert presence.stats(LOBBY) == ChannelStats(connections=3, users=2)
            assert gateway.client_changes == [
                ClientChange(LOBBY, ONE, ANN, INFO, joined=True),
                ClientChange(LOBBY, TWO, ANN, None, joined=True),
                ClientChange(LOBBY, THREE, ANONYMOUS, None, joined=True),
            ]


async def test_a_connection_has_left_long_before_its_users_grace_is_over(
    server: NatsServer,
) -> None:
    limits = replace(QUICK, grace_seconds=30)
    async with a_gateway(server.url, limits) as one, a_gateway(server.url, limits) as two:
        one.enter(ANN, ONE, INFO)
        await eventually(lambda: two.tabs == {ONE})
        one.leave(ANN, ONE)
        await eventually(lambda: one.tabs == two.tabs == set())

        for gateway in (one, two):
            assert gateway.users == {ANN}
            assert gateway.presence.stats(LOBBY) == ChannelStats(connections=0, users=0)
            assert gateway.told == [(ANN, "joined", 1)]
            assert gateway.told_of_tabs == [(ONE, "joined"), (ONE, "left")]
            assert gateway.client_changes[-1].info == INFO


async def test_who_reloads_comes_with_another_connection_before_the_grace_is_over(
    server: NatsServer,
) -> None:
    async with a_gateway(server.url) as gateway:
        gateway.enter(ANN, ONE)
        await eventually(lambda: gateway.tabs == {ONE})
        gateway.leave(ANN, ONE)
        gateway.enter(ANN, TWO)
        await eventually(lambda: gateway.tabs == {TWO})
        assert gateway.told == [(ANN, "joined", 1)]


async def test_a_snapshot_tells_of_the_connections_that_came_and_left_meanwhile(
    server: NatsServer,
) -> None:
    async with (
        a_link(server.port) as link,
        a_gateway(server.url) as here,
        a_gateway(link.url) as away,
    ):
        here.enter(ANN, ONE, INFO)
        here.enter(BOB, THREE)
        await eventually(lambda: away.tabs == {ONE, THREE})
        link.cut()
        await eventually(lambda: not away.presence.caught_up)
        here.enter(ANN, TWO, INFO)
        here.leave(ANN, ONE)
        await eventually(lambda: here.tabs == {TWO, THREE})
        link.mend()
        await eventually(lambda: away.presence.caught_up)
        assert away.tabs == {TWO, THREE}
        assert away.client_changes[2:] == [
            ClientChange(LOBBY, ONE, ANN, INFO, joined=False),
            ClientChange(LOBBY, TWO, ANN, INFO, joined=True),
        ]


async def test_connections_of_a_gateway_that_released_its_lease_leave_with_it(
    server: NatsServer,
) -> None:
    limits = replace(QUICK, grace_seconds=3)
    async with a_gateway(server.url, limits) as stays:
        async with a_gateway(server.url, limits) as stops:
            stops.enter(ANN, ONE)
            await eventually(lambda: stays.tabs == {ONE})
            await stops.presence.release_lease()
        stays.enter(ANN, TWO)
        await eventually(lambda: stays.tabs == {TWO}, seconds=GONE_SECONDS)

    assert stays.told_of_tabs == [(ONE, "joined"), (TWO, "joined"), (ONE, "left")]
    assert stays.told == [(ANN, "joined", 1)]


async def test_connections_that_an_entry_has_no_room_for_are_counted(server: NatsServer) -> None:
    limits = replace(QUICK, max_listed_connections=2)
    async with a_gateway(server.url, limits) as one, a_gateway(server.url, limits) as two:
        for tab in (ONE, TWO, THREE):
            one.enter(ANN, tab)
        everybody = ChannelStats(connections=3, users=1)
        await eventually(lambda: two.presence.stats(LOBBY) == everybody)
        assert two.tabs == {ONE, TWO}
        assert await one.until_present(ANN, 20, THREE)

        one.leave(ANN, ONE)

        await eventually(lambda: two.tabs == {TWO, THREE})
        assert two.presence.stats(LOBBY) == ChannelStats(connections=2, users=1)


async def test_a_waiter_for_a_connection_is_called_when_it_is_listed(server: NatsServer) -> None:
    async with a_gateway(server.url) as gateway:
        gateway.enter(ANN, ONE)
        assert await gateway.until_present(ANN, 20, ONE)
        assert gateway.tabs == {ONE}
        assert not await gateway.until_present(ANN, 0.05, TWO)

        gateway.enter(ANN, TWO)

        assert await gateway.until_present(ANN, 20, TWO)
        assert gateway.tabs == {ONE, TWO}


async def test_a_client_change_whose_callback_fails_does_not_stop_the_others(
    server: NatsServer,
) -> None:
    channel = ChannelName("test:failing")
    reported: list[ConnectionId] = []

    def report(change: ClientChange) -> None:
        if change.connection == ONE:
            raise RuntimeError("a callback that fails")
        reported.append(change.connection)

    async with connect_bus(server.url, name="gateway") as bus, start_publisher(bus) as publisher:
        await bootstrap(bus)
        presence = Presence(
            bus,
            publisher,
            on_client_change=report,
            is_watched=lambda watched: watched == channel,
            limits=QUICK,
        )
        async with Supervisor().running(*presence.loops):
            presence.enter(channel, ANN, "Ann", ONE)
            presence.enter(channel, ANN, "Ann", TWO)
            await eventually(lambda: reported == [TWO])


async def test_an_info_is_taken_up_to_a_limit_and_only_in_utf_8(bus: Bus) -> None:
    presence = Presence(bus, Publisher(bus), limits=replace(QUICK, max_info_bytes=100))

    assert presence.takes(INFO)
    assert presence.takes(ClientInfo(None, b"1" * 80))
    assert not presence.takes(ClientInfo(None, b"1" * 100))
    assert not presence.takes(ClientInfo(b'"' * 30, b'"' * 30)), "it is longer in the entry"
    assert not presence.takes(ClientInfo(b"\xff"))
