"""`/ws/chat`, message by message, on real gateways."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from shared.bus.client import Bus
from shared.bus.publisher import Publisher, start_publisher
from shared.bus.publishing import publish
from shared.channels import personal_channel, room_channel
from shared.ids import UserId
from tests.gateway.chatting import RunningGateway, a_gateway, a_room


@pytest.fixture
async def publisher(bus: Bus) -> AsyncGenerator[Publisher]:
    async with start_publisher(bus) as started:
        yield started


@pytest.fixture
async def gateway(nats_url: str, bus: Bus) -> AsyncGenerator[RunningGateway]:
    async with a_gateway(nats_url) as running:
        yield running


@pytest.fixture
async def other(nats_url: str, bus: Bus) -> AsyncGenerator[RunningGateway]:
    async with a_gateway(nats_url) as running:
        yield running


async def test_a_newcomer_is_welcomed_and_alone(gateway: RunningGateway) -> None:
    room = a_room()
    async with gateway.tab(1, "Ann", room) as ann:
        welcome = ann.welcome

        assert welcome.pop("epoch")
        assert welcome.pop("offset") >= 0
        assert welcome == {
            "type": "welcome", "user_id": 1, "name": "Ann", "room": room, "count": 1,
            "users": [{"user_id": 1, "name": "Ann"}],
        }  # fmt: skip
        assert await ann.so_far() == []


async def test_a_message_reaches_everybody_on_every_gateway_the_sender_too(
    gateway: RunningGateway, other: RunningGateway
) -> None:
    room = a_room()
    async with gateway.tab(1, "Ann", room) as ann, other.tab(2, "Ben", room) as ben:
        await ann.send(type="message", body="hello", id="m1")
        ack = await ann.until("ack")
        assert ack["id"] == "m1"

        at_ben = await ben.until("message")
        assert at_ben == {
            "type": "message", "user_id": 1, "name": "Ann", "body": "hello", "offset": ack["offset"],
        }  # fmt: skip
        await ann.send(type="message", body="again")
        assert (await ann.until("message", body="again"))["offset"] > ack["offset"]
