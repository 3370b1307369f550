"""A gateway that is connected to a bus which stores nothing: it must not be sent anybody new."""

from hubbub_client.nats.client import Bus, connect_bus
from shared.jetstream.streams import bootstrap
from tests.fixtures.nats import StartServer
from tests.gateway.chatting import a_gateway, a_room
from tests.gateway.serving import until
from tests.shared.jetstream.builders import js_api

NO_PUBLICATIONS = "the bus does not store publications"
NO_LEASE = "the bus does not take this gateway's lease"


async def make_full(bus: Bus, stream: str) -> None:
    config = (await js_api(bus, f"STREAM.INFO.{stream}"))["config"]
    full = {**config, "discard": "new", "max_bytes": 1}
    await js_api(bus, f"STREAM.UPDATE.{stream}", full)


async def test_it_is_not_ready_while_publications_are_not_stored_and_ready_with_the_first_that_is(
    nats_server: StartServer,
) -> None:
    server = nats_server()
    async with (
        a_gateway(server.url, settings={"publish_seconds": 1.5}) as gateway,
        gateway.tab(1, "Ann", a_room()) as tab,
        connect_bus(server.url, name="test") as bus,
    ):
        await bus.until_connected()
        await make_full(bus, "RT")
        await tab.send(type="message", id="1", body="refused")
        assert (await tab.until("error", id="1"))["code"] == "unavailable"
        assert gateway.parts.ready() == [NO_PUBLICATIONS]

        await bootstrap(bus)
        await tab.say("stored")

        assert gateway.parts.ready() == []


async def test_it_is_not_ready_without_a_lease_and_ready_when_it_has_another(
    nats_server: StartServer,
) -> None:
    server = nats_server()
    short = {"lease_seconds": 2, "renew_seconds": 0.3}
    async with (
        a_gateway(server.url, settings=short) as gateway,
        connect_bus(server.url, name="test") as bus,
    ):
        await bus.until_connected()
        await make_full(bus, "PRES")
        await until(lambda: NO_LEASE in gateway.parts.ready(), seconds=20)

        await bootstrap(bus)

        await until(lambda: not gateway.parts.ready(), seconds=20)


async def test_a_bus_that_came_back_is_trusted_again(nats_server: StartServer) -> None:
    server = nats_server()
    async with (
        a_gateway(server.url, settings={"publish_seconds": 0.3}) as gateway,
        gateway.tab(1, "Ann", a_room()) as tab,
    ):
        server.stop()
        await tab.send(type="message", id="1", body="lost")
        await tab.until("error", id="1")

        server.start()

        await until(lambda: not gateway.parts.ready(), seconds=20)
        assert NO_PUBLICATIONS not in gateway.parts.ready()
