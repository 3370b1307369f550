"""Gateways are replaced under the real SDKs: no message is missing, and none comes twice."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from hubbub_client.contracts.ids import ChannelName
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.nats.client import Bus
from tests.gateway.serving import DEADLINE_SECONDS
from tests.sdk.site import Sdk, Site, a_channel, a_site, sdk_gateway

REPLACED = 3


async def test_replaced_gateways_lose_and_double_nothing(
    nats_url: str, bus: Bus, publisher: Publisher, sdk: Sdk
) -> None:
    channel, is_over = a_channel("talk"), asyncio.Event()
    async with AsyncExitStack() as last:
        old = await last.enter_async_context(sdk_gateway(nats_url))
        async with a_site(bus, publisher, old) as site, asyncio.TaskGroup() as group:
            clients = [await sdk.client(site) for _ in range(2)]
            for client in clients:
                await client.connect()
                await client.subscribe(channel)
            talk = group.create_task(_talk(site, channel, is_over.is_set))
            for _ in range(REPLACED):
                following = AsyncExitStack()
                site.send_to(await following.enter_async_context(sdk_gateway(nats_url)))
                await last.aclose()
                last.push_async_exit(following)
                for client in clients:
                    await client.until("subscribed")
            is_over.set()
            said = await talk
            for client in clients:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    while len(client.all_data(channel)) < said:
                        await client.get()
                assert client.all_data(channel) == list(range(said))


async def test_a_gateway_that_stops_asks_its_clients_to_come_back(
    nats_url: str, bus: Bus, publisher: Publisher, sdk: Sdk
) -> None:
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(sdk_gateway(nats_url))
        async with a_site(bus, publisher, gateway) as site:
            ann = await sdk.client(site)
            await ann.connect()

            await stack.aclose()

            told = await ann.until("connecting")
            assert (told["code"], told["reason"]) == (3001, "shutdown")


async def _talk(site: Site, channel: ChannelName, is_over: Callable[[], bool]) -> int:
    """Count aloud; how many numbers."""
    said = 0
    while not is_over():
        await site.publish(channel, said)
        said += 1
    return said
