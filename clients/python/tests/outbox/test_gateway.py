"""An event to a gateway, whose many channels take more than one request."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2
import pytest
from pydantic import BaseModel

from clients.python.tests.outbox.shop import InvoicePaid
from hubbub_client import Hubbub, Limits, Unavailable
from hubbub_client.exchange import MAX_REQUEST_BYTES
from hubbub_client.nats.errors import MessageRejected
from hubbub_client.outbox.append import Message
from hubbub_client.outbox.gateway import Gateway
from hubbub_client.results import Position

ONE_TRY = Limits(first_pause_seconds=60)
"""The deadline comes before another."""
TEMPORARY = {"error": {"code": 100, "message": "internal server error"}}
UNKNOWN = {"error": {"code": 102, "message": "unknown channel"}}


class StoryTold(BaseModel):
    text: str


class Receiver:
    """A gateway that does not answer, or not for some channels, as long as it is told to."""

    def __init__(self) -> None:
        self.told = Counter[str]()
        self.refused: dict[str, object] = {}
        self.answers = 1000
        """So many requests; then it is stuck."""
        self.is_stuck = asyncio.Event()

    async def answer(self, request: httpx2.Request) -> httpx2.Response:
        assert len(request.content) <= MAX_REQUEST_BYTES
        if self.answers == 0:
            self.is_stuck.set()
            await asyncio.Event().wait()
        self.answers -= 1
        replies = [self._reply(each) for each in json.loads(request.content)["channels"]]
        return httpx2.Response(200, json={"result": {"responses": replies}})

    def _reply(self, channel: str) -> object:
        if channel in self.refused:
            return self.refused[channel]
        self.told[channel] += 1
        return {"result": {"offset": sum(self.told.values()), "epoch": "e"}}


@asynccontextmanager
async def a_gateway(receiver: Receiver) -> AsyncGenerator[Gateway]:
    transport = httpx2.MockTransport(receiver.answer)
    async with Hubbub("http://gateway", "key", limits=ONE_TRY, transport=transport) as hubbub:
        yield Gateway(hubbub)


async def publish(gateway: Gateway, message: Message, *, seconds: float = 20) -> Position:
    return await gateway.publish(
        message.subject, message.payload, message_id=message.id, deadline_seconds=seconds
    )


def paid(users: int) -> Message:
    return Message.of_event(InvoicePaid(invoice_id=1), recipients=range(1, users + 1))


async def test_what_takes_longer_than_one_try_goes_on_where_that_has_ended() -> None:
    receiver, message = Receiver(), paid(users=450)
    receiver.answers = 3

    async with a_gateway(receiver) as gateway:
        async with asyncio.TaskGroup() as group:
            trying = group.create_task(publish(gateway, message))
            await receiver.is_stuck.wait()
            trying.cancel()
        had = len(receiver.told)
        receiver.answers = 1000
        stored = await publish(gateway, message)

    assert had == 300
    assert receiver.told == {f"#{user}": 1 for user in range(1, 451)}
    assert stored == Position(450, "e")


async def test_a_channel_that_takes_nothing_now_holds_up_no_other_and_they_get_it_once() -> None:
    receiver, message = Receiver(), paid(users=250)
    receiver.refused = {"#7": TEMPORARY}

    async with a_gateway(receiver) as gateway:
        for _ in range(2):
            with pytest.raises(Unavailable, match="internal server error"):
                await publish(gateway, message)
        receiver.refused = {}
        await publish(gateway, message)

    assert receiver.told == {f"#{user}": 1 for user in range(1, 251)}


async def test_a_channel_that_never_takes_it_is_told_once_all_others_have_it() -> None:
    receiver, message = Receiver(), paid(users=250)
    receiver.refused = {"#7": UNKNOWN, "#9": TEMPORARY}

    async with a_gateway(receiver) as gateway:
        with pytest.raises(Unavailable):
            await publish(gateway, message)
        del receiver.refused["#9"]
        with pytest.raises(MessageRejected, match="unknown_channel"):
            await publish(gateway, message)

    assert receiver.told == {f"#{user}": 1 for user in range(1, 251) if user != 7}


async def test_the_channels_of_a_long_event_still_fit_into_requests() -> None:
    receiver = Receiver()
    message = Message.of_event(
        StoryTold(text="x" * 55_000), channels=[f"chat:{number}" for number in range(150)]
    )

    async with a_gateway(receiver) as gateway:
        await publish(gateway, message)

    assert set(receiver.told.values()) == {1}
    assert len(receiver.told) == 150
