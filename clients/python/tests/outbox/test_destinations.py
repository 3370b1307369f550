"""Where an application's outbox goes: over the bus, or to a gateway; what neither takes is kept."""

import secrets
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from clients.python.tests.conftest import API_KEY
from clients.python.tests.outbox.builders import until
from clients.python.tests.outbox.shop import (
    InvoicePaid,
    a_shop,
    commit_with,
    rows_in,
    synchronous,
)
from hubbub_client import Hubbub, Unavailable
from hubbub_client.outbox import (
    RelayLimits,
    append,
    append_message,
    append_publication,
    relaying,
    wake_after_commit,
)
from hubbub_client.outbox.append import AnySession
from hubbub_client.outbox.bus import to_bus
from hubbub_client.outbox.destination import Destination
from hubbub_client.outbox.gateway import to_gateway
from tests.gateway.chatting import RunningGateway

NEVER_POLLING = RelayLimits(idle_seconds=300, lease_seconds=300)
QUICK = RelayLimits(idle_seconds=0.05)


@pytest.fixture
async def engine(database_url: str) -> AsyncGenerator[AsyncEngine]:
    async with a_shop(database_url) as shop:
        yield shop


@pytest.fixture(params=["bus", "gateway"])
async def destination(
    request: pytest.FixtureRequest, nats_url: str, url: str
) -> AsyncGenerator[Destination]:
    made = to_bus(nats_url) if request.param == "bus" else to_gateway(url, API_KEY)
    async with made as ready:
        yield ready


async def test_what_an_application_commits_reaches_its_users(
    database_url: str, engine: AsyncEngine, destination: Destination, gateway: RunningGateway
) -> None:
    user, room = secrets.randbelow(2**50) + 1, secrets.token_hex(6)

    def pay(session: AnySession) -> None:
        append(session, InvoicePaid(invoice_id=17), recipients=[user], idempotency_key=room)
        append_publication(session, f"chat:{room}", {"text": "hi"})

    async with synchronous(database_url) as sessions, gateway.tab(user, "Ann", room) as tab:
        wake = wake_after_commit(sessions)
        async with relaying(engine, destination, wake=wake, limits=NEVER_POLLING):
            await commit_with(sessions)(pay)
            heard: dict[str, Any] = {}
            while not heard.keys() >= {"notification", "publication"}:  # in either order
                message = await tab.get()
                heard[message["type"]] = message

    notification = heard["notification"]
    assert (notification["event"], notification["invoice_id"]) == ("invoice_paid", 17)
    assert notification["id"] == f"application:invoice_paid:{room}"
    assert heard["publication"]["data"] == {"text": "hi"}


async def test_a_row_that_goes_out_twice_is_stored_once(
    engine: AsyncEngine, destination: Destination, url: str
) -> None:
    channel = f"chat:{secrets.token_hex(6)}"
    commit = commit_with(async_sessionmaker(engine))
    await commit(lambda session: append_publication(session, channel, 1))

    [row] = await rows_in(engine)
    for _ in range(2):
        await destination.publish(row.subject, row.payload, message_id=row.id, deadline_seconds=10)

    async with Hubbub(url, API_KEY) as hubbub:
        history = await hubbub.history(channel)
    assert [each.data for each in history.publications] == [1]


async def test_what_a_gateway_never_takes_is_set_aside_and_the_rest_goes_on(
    engine: AsyncEngine, url: str, gateway: RunningGateway
) -> None:
    def add(session: AnySession) -> None:
        append_publication(session, "nobody:has", 1)
        append(session, InvoicePaid(invoice_id=1), channels=["nobody:has", "chat:a"])
        append_message(session, subject="ctl.pub.a", aggregate="a", message_id="m1", payload=b"{}")
        append_message(
            session, subject="rt.pub.chat:a", aggregate="a", message_id="m2", payload=b"no JSON"
        )
        append_publication(session, "chat:a", 1)

    async with to_gateway(url, API_KEY) as destination:
        await commit_with(async_sessionmaker(engine))(add)
        async with relaying(engine, destination, limits=QUICK):

            async def are_all_done() -> bool:
                return all(row.sent_at or row.poisoned_at for row in await rows_in(engine))

            await until(are_all_done)

    *refused, sent = await rows_in(engine)
    assert sent.sent_at is not None
    assert [row.poisoned_at is not None for row in refused] == [True] * 4
    assert [str(row.error).partition(":")[0] for row in refused[:2]] == ["unknown_channel"] * 2


async def test_while_its_key_is_wrong_a_row_waits_for_the_right_one(
    engine: AsyncEngine, url: str, gateway: RunningGateway
) -> None:
    commit = commit_with(async_sessionmaker(engine))
    await commit(lambda session: append_publication(session, "chat:a", 1))

    [row] = await rows_in(engine)
    async with to_gateway(url, "another key") as wrong:
        with pytest.raises(Unavailable, match="unauthorized"):
            await wrong.publish(row.subject, row.payload, message_id=row.id, deadline_seconds=10)
    async with to_gateway(url, API_KEY) as right, relaying(engine, right, limits=QUICK):

        async def is_sent() -> bool:
            return (await rows_in(engine))[0].sent_at is not None

        await until(is_sent)
