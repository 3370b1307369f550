"""Presence by connection: each is listed with its info, and told of when it comes and goes."""

from dataclasses import replace

from gateway.presence.records import ClientInfo
from gateway.presence.table import ClientChange
from gateway.presence.users import ChannelStats, Client
from shared.contracts.ids import ANONYMOUS, ConnectionId
from tests.fixtures.nats import NatsServer
from tests.fixtures.waiting import eventually
from tests.gateway.presence.gateways import ANN, LOBBY, QUICK, a_gateway

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
        await eventually(lambda: one.tabs == two.tabs == set(), seconds=2)

        for gateway in (one, two):
            assert gateway.users == {ANN}
            assert gateway.presence.stats(LOBBY) == ChannelStats(connections=0, users=0)
            assert gateway.told == [(ANN, "joined", 1)]
            assert gateway.told_of_tabs == [(ONE, "joined"), (ONE, "left")]
            assert gateway.client_changes[-1].info == INFO
