"""The recorder answers as a gateway does, and tells what it was told."""

import secrets
from collections.abc import AsyncGenerator

import pytest
from pydantic import BaseModel, ConfigDict

from clients.python.tests.conftest import API_KEY
from hubbub_client import (
    BadRequest,
    Hubbub,
    IdempotencyKeyReused,
    PartlyPublished,
    Position,
    PositionLost,
    PresenceStats,
    Publish,
    TooLarge,
)
from hubbub_client.recorder import Recorder


class InvoicePaid(BaseModel):
    model_config = ConfigDict(extra="forbid")

    invoice_id: int


class InvoicePaidV2(InvoicePaid):
    total: str


@pytest.fixture(params=["recorder", "gateway"])
async def either(request: pytest.FixtureRequest, url: str) -> AsyncGenerator[Hubbub]:
    """A client of the recorder, or of a gateway."""
    if request.param == "recorder":
        yield Recorder().hubbub
    else:
        async with Hubbub(url, API_KEY) as hubbub:
            yield hubbub


@pytest.fixture
def channel() -> str:
    return f"chat:{secrets.token_hex(6)}"


async def test_offsets_rise_in_one_epoch(either: Hubbub, channel: str) -> None:
    first = await either.publish(channel, 1)
    second, third = await either.publish_many([Publish(channel, 2), Publish(channel, 3)])
    [fourth] = await either.broadcast([channel], 4)

    assert first.offset < second.offset < third.offset < fourth.offset
    assert len({position.epoch for position in (first, second, third, fourth)}) == 1


async def test_a_key_counts_once_in_each_channel(either: Hubbub, channel: str) -> None:
    first = await either.publish(channel, 1, idempotency_key="k")
    again = await either.publish(channel, 1, idempotency_key="k")
    elsewhere = await either.publish(f"{channel}-2", 2, idempotency_key="k")

    assert first == again != elsewhere
    with pytest.raises(IdempotencyKeyReused):
        await either.publish(channel, 2, idempotency_key="k")


async def test_history_holds_what_is_stored(either: Hubbub, channel: str) -> None:
    for number in range(4):
        await either.publish(channel, number, tags={"n": str(number)})
    await either.publish_ephemeral(channel, "now")
    await either.publish(f"{channel}-2", "elsewhere")

    all_of_it = await either.history(channel)
    second = all_of_it.publications[1]
    since = Position(second.offset, all_of_it.position.epoch)
    after = await either.history(channel, since=since)
    before = await either.history(channel, since=since, reverse=True)
    newest = await either.history(channel, limit=2, reverse=True)
    nothing = await either.history(channel, limit=0)

    assert [each.data for each in all_of_it.publications] == [0, 1, 2, 3]
    assert second.tags == {"n": "1"}
    assert [each.data for each in after.publications] == [2, 3]
    assert [each.data for each in before.publications] == [0]
    assert [each.data for each in newest.publications] == [3, 2]
    assert nothing.publications == []
    assert nothing.position.offset > all_of_it.publications[-1].offset
    with pytest.raises(PositionLost):
        await either.history(channel, since=Position(1, "another"))
    with pytest.raises(PositionLost):
        await either.history(channel, since=Position(2**40, since.epoch))


async def test_what_can_not_be_published_is_refused(either: Hubbub, channel: str) -> None:
    with pytest.raises(BadRequest):
        await either.publish("chat:a b", 1)
    with pytest.raises(TooLarge):
        await either.publish(channel, "x" * 70_000)
    with pytest.raises(PartlyPublished) as of_a_broadcast:
        await either.broadcast([channel, "chat:a b"], 1)
    with pytest.raises(PartlyPublished) as of_many:
        await either.publish_many([Publish("chat:a b", 1), Publish(channel, 1)])

    kinds = [[type(each) for each in e.value.outcomes] for e in (of_a_broadcast, of_many)]
    assert kinds == [[Position, BadRequest], [BadRequest, Position]]


async def test_nobody_is_there_and_orders_are_obeyed(either: Hubbub, channel: str) -> None:
    stats = await either.presence_stats(channel)
    present = await either.presence(channel)
    await either.subscribe("u", channel)
    await either.unsubscribe("u", channel)
    await either.disconnect("u", code=4000)

    assert (stats, present) == (PresenceStats(0, 0), [])


def test_a_test_sees_what_its_application_has_published(hubbub_recorder: Recorder) -> None:
    hubbub = hubbub_recorder.sync_hubbub
    hubbub.notify(7, InvoicePaid(invoice_id=1), idempotency_key="k")
    hubbub.publish("invoices:all", InvoicePaid(invoice_id=2))
    hubbub.publish("invoices:all", InvoicePaidV2(invoice_id=3, total="9.50"))
    hubbub.publish("invoices:all", "plain")
    hubbub.disconnect(7, code=4000)

    assert hubbub_recorder.notifications(7) == [
        {"event": "invoice_paid", "id": "k", "invoice_id": 1}
    ]
    assert hubbub_recorder.data("invoices:all")[-1] == "plain"
    assert hubbub_recorder.events(InvoicePaid) == [
        InvoicePaid(invoice_id=1),
        InvoicePaid(invoice_id=2),
    ]
    assert hubbub_recorder.events(InvoicePaid, channel="#7") == [InvoicePaid(invoice_id=1)]
    assert hubbub_recorder.events(InvoicePaidV2) == [InvoicePaidV2(invoice_id=3, total="9.50")]
    [(order, whose)] = hubbub_recorder.orders
    assert (order, whose["user"]) == ("disconnect", "7")
