"""What an application adds to its transaction, by sessions of either kind."""

from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any, cast

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from clients.python.tests.outbox.shop import (
    Commit,
    InvoicePaid,
    InvoicePaidV2,
    InvoiceRow,
    a_shop,
    commit_with,
    invoices_in,
    rows_in,
    synchronous,
)
from hubbub_client.contracts.envelope import Envelope
from hubbub_client.contracts.publications import Publication
from hubbub_client.outbox import append, append_publication
from hubbub_client.outbox.append import AnySession


@pytest.fixture
async def engine(database_url: str) -> AsyncGenerator[AsyncEngine]:
    async with a_shop(database_url) as shop:
        yield shop


@pytest.fixture(params=["awaited", "synchronous"])
async def commit(
    request: pytest.FixtureRequest, database_url: str, engine: AsyncEngine
) -> AsyncGenerator[Commit]:
    if request.param == "awaited":
        yield commit_with(async_sessionmaker(engine))
    else:
        async with synchronous(database_url) as sessions:
            yield commit_with(sessions)


async def test_an_event_commits_with_the_change_that_it_tells_of(
    commit: Commit, engine: AsyncEngine
) -> None:
    def pay(session: AnySession) -> None:
        session.add(InvoiceRow(id=17))
        append(session, InvoicePaid(invoice_id=17), recipients=["ann", 7], channels=["shop:sales"])

    await commit(pay)

    [row] = await rows_in(engine)
    told = Envelope.model_validate_json(row.payload)
    assert await invoices_in(engine) == [17]
    assert (row.subject, row.sent_at, row.life) == ("events.application.invoice_paid", None, 0)
    assert (told.id, told.type, told.version) == (row.id, "invoice_paid", 1)
    assert (told.recipients, told.channels) == (("ann", "7"), ("shop:sales",))
    assert told.data == {"invoice_id": 17}


async def test_neither_is_there_after_a_rollback(commit: Commit, engine: AsyncEngine) -> None:
    def pay_and_fail(session: AnySession) -> None:
        session.add(InvoiceRow(id=17))
        append(session, InvoicePaid(invoice_id=17))
        append_publication(session, "shop:sales", {"sold": 1})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await commit(pay_and_fail)

    assert (await rows_in(engine), await invoices_in(engine)) == ([], [])


async def test_an_event_says_its_version_and_what_else_it_is_given(
    commit: Commit, engine: AsyncEngine
) -> None:
    event = InvoicePaidV2(invoice_id=17, total="9.50")
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    await commit(
        lambda session: append(
            session,
            event,
            idempotency_key="paid-17",
            service="billing",
            aggregate="invoice:17",
            traceparent=trace,
        )
    )

    [row] = await rows_in(engine)
    told = Envelope.model_validate_json(row.payload)
    assert (row.id, row.aggregate) == ("billing:invoice_paid:paid-17", "invoice:17")
    assert row.subject == "events.billing.invoice_paid"
    assert (told.version, told.traceparent) == (2, trace)


async def test_a_publication_is_of_its_channel_and_its_key_is_used_once(
    commit: Commit, engine: AsyncEngine
) -> None:
    def publish(session: AnySession) -> None:
        append_publication(
            session, "shop:a.b", InvoicePaid(invoice_id=17), idempotency_key="k", tags={"t": "v"}
        )

    await commit(publish)
    with pytest.raises(IntegrityError):
        await commit(publish)

    [row] = await rows_in(engine)
    data = {"invoice_id": 17, "event": "invoice_paid", "id": "k"}
    assert (row.subject, row.id) == ("rt.pub.shop:a~b", "api:shop%3Aa.b:k")
    assert Publication.decode(row.payload) == Publication(data, tags={"t": "v"})


async def test_a_key_that_is_used_may_leave_the_rest_to_be_committed(engine: AsyncEngine) -> None:
    async with async_sessionmaker(engine)() as session:
        for number in (1, 2):
            session.add(InvoiceRow(id=number))
            with suppress(IntegrityError):
                async with session.begin_nested():
                    append(session, InvoicePaid(invoice_id=1), idempotency_key="k")
            await session.commit()

    assert (len(await rows_in(engine)), await invoices_in(engine)) == (1, [1, 2])


@pytest.mark.parametrize(
    "wrongly",
    [
        lambda session: append(session, InvoicePaid(invoice_id=1), recipients=[""]),
        lambda session: append(session, InvoicePaid(invoice_id=1), channels=["a b"]),
        lambda session: append(session, InvoicePaid(invoice_id=1), service="a.>"),
        lambda session: append(session, InvoicePaid(invoice_id=1), service="posts"),
        lambda session: append(session, cast(Any, {"event": "invoice_paid"})),
        lambda session: append(session, InvoicePaid(invoice_id=1), aggregate="a" * 256),
        lambda session: append_publication(session, "", 1),
        lambda session: append_publication(session, "shop:a", float("inf")),
        lambda session: append_publication(session, "shop:a", 1, idempotency_key="k" * 256),
    ],
)
async def test_what_could_never_be_sent_is_refused_at_once(
    commit: Commit, wrongly: Callable[[AnySession], None]
) -> None:
    with pytest.raises(ValueError, match=r".+"):
        await commit(wrongly)
