"""A gateway that compresses: who offers it and who does not hear the same."""

from collections.abc import AsyncGenerator

import pytest

from hubbub_client.contracts.channels import room_channel
from tests.gateway.chatting import RunningGateway, a_gateway, a_room, token_of
from tests.gateway.protocols.centrifuge.talking import talk


@pytest.fixture
async def gateway(nats_url: str) -> AsyncGenerator[RunningGateway]:
    async with a_gateway(nats_url, settings={"websocket_compression": True}) as running:
        yield running


async def test_tabs_that_read_compressed_messages_and_others_share_a_room(
    gateway: RunningGateway,
) -> None:
    room, body = a_room(), "again and again " * 50
    async with (
        gateway.tab(1, "plain", room) as plain,
        gateway.tab(2, "small", room, compression="deflate") as small,
    ):
        assert small.socket.protocol.extensions
        assert not plain.socket.protocol.extensions
        await plain.until("user_joined", name="small")
        await plain.send(type="message", body=body)
        assert (await small.until("message"))["body"] == body
        await small.send(type="message", body=body + "!")
        assert (await plain.until("message", body=body + "!"))["name"] == "small"
        async with gateway.tab(3, "third", room):
            for tab in (plain, small):
                await tab.until("user_joined", name="third")


async def test_an_sdk_that_reads_compressed_messages_is_told_what_others_are(
    gateway: RunningGateway,
) -> None:
    room, body = a_room(), "again and again " * 50
    channel = room_channel(room)
    async with (
        talk(gateway, compression="deflate") as client,
        gateway.tab(1, "plain", room) as tab,
    ):
        assert client.socket.protocol.extensions
        assert "error" not in await client.ask("connect", token=token_of(2, "small"))
        assert "error" not in await client.ask("subscribe", channel=channel)
        await tab.send(type="message", body=body)
        assert (await client.publication(channel))["data"]["body"] == body
