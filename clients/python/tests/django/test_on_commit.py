"""What is told is so: it is published once the transaction is committed, or not at all."""

import json
import logging
from collections.abc import Callable

import httpx2
import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.test import TestCase, override_settings
from pydantic import BaseModel

from hubbub_client import Limits, SyncHubbub, Unauthorized
from hubbub_client.django import another_hubbub, notify, publish, the_hubbub
from hubbub_client.recorder import Recorder


class InvoicePaid(BaseModel):
    invoice_id: int


class Undone(Exception):
    pass


def test_within_a_transaction_it_waits_for_the_commit(recorder: Recorder) -> None:
    with transaction.atomic():
        notify(7, InvoicePaid(invoice_id=1), idempotency_key="k")
        publish("invoices:all", {"text": "hi"}, tags={"kind": "greeting"})
        assert recorder.publications == []

    assert recorder.notifications(7) == [{"event": "invoice_paid", "id": "k", "invoice_id": 1}]
    [told, published] = recorder.publications
    assert (told.idempotency_key, published.tags) == ("k", {"kind": "greeting"})
    assert recorder.data("invoices:all") == [{"text": "hi"}]


def publish_and_undo(data: int) -> None:
    with transaction.atomic():
        publish("invoices:all", data)
        raise Undone


def test_what_is_rolled_back_is_not_published(recorder: Recorder) -> None:
    with pytest.raises(Undone):
        publish_and_undo(1)
    with transaction.atomic():
        publish("invoices:all", 2)
        with pytest.raises(Undone):
            publish_and_undo(3)

    assert recorder.data("invoices:all") == [2]


def test_outside_of_a_transaction_it_is_published_at_once(recorder: Recorder) -> None:
    notify("ann", {"event": "greeting"})

    [notification] = recorder.notifications("ann")
    assert notification["event"] == "greeting"


async def test_from_a_coroutine_it_is_told_in_a_thread(recorder: Recorder) -> None:
    await sync_to_async(notify)(7, {"event": "greeting"})

    [notification] = recorder.notifications(7)
    assert notification["event"] == "greeting"


def test_it_is_published_as_it_was_when_it_was_told(recorder: Recorder) -> None:
    order = {"state": "placed"}
    with transaction.atomic():
        publish("orders:17", order)
        order["state"] = "lost"

    assert recorder.data("orders:17") == [{"state": "placed"}]


def test_what_can_not_be_published_is_known_before_the_commit(recorder: Recorder) -> None:
    with pytest.raises(ValueError, match="neither a model"), transaction.atomic():
        notify(7, "no event")
    with pytest.raises(TypeError), transaction.atomic():
        publish("invoices:all", object())
    with pytest.raises(ValueError, match="no user id"):
        notify("", InvoicePaid(invoice_id=1))

    assert recorder.publications == []


def test_what_fails_is_logged_with_its_code_and_the_request_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reached: list[str] = []
    refusing = httpx2.MockTransport(lambda _request: httpx2.Response(401))
    with another_hubbub(SyncHubbub("http://nowhere", "any", transport=refusing)):
        with transaction.atomic():
            notify(7, InvoicePaid(invoice_id=1))
            transaction.on_commit(lambda: reached.append("the next one"))
        with pytest.raises(Unauthorized):
            the_hubbub().notify(7, InvoicePaid(invoice_id=1))

    [record] = caplog.records
    assert (record.name, record.levelno) == ("hubbub_client.django", logging.ERROR)
    assert record.getMessage() == "not published in #7: unauthorized: answered with status 401"
    assert record.__dict__["code"] == "unauthorized"
    assert reached == ["the next one"]


def test_what_is_no_error_of_ours_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_request: httpx2.Request) -> httpx2.Response:
        raise RecursionError

    reached: list[str] = []
    with another_hubbub(
        SyncHubbub("http://nowhere", "any", transport=httpx2.MockTransport(broken))
    ):
        with transaction.atomic():
            publish("invoices:all", 1)
            transaction.on_commit(lambda: reached.append("the next one"))
        publish("invoices:all", 2)

    assert [(each.getMessage(), each.exc_info is None) for each in caplog.records] == [
        ("not published in invoices:all", False)
    ] * 2
    assert reached == ["the next one"]


def test_wrong_settings_are_known_before_the_commit() -> None:
    reached: list[str] = []
    refused = pytest.raises(ImproperlyConfigured, match="API_KEY")
    with override_settings(HUBBUB={"URL": "http://nowhere"}), refused, transaction.atomic():
        transaction.on_commit(lambda: reached.append("committed"))
        publish("invoices:all", 1)

    assert reached == []


def hurried(answer: Callable[[httpx2.Request], httpx2.Response]) -> SyncHubbub:
    """A client that soon gives up."""
    limits, transport = Limits(deadline_seconds=0.01), httpx2.MockTransport(answer)
    return SyncHubbub("http://nowhere", "any", limits=limits, transport=transport)


def test_a_transaction_waits_once_for_a_gateway_that_does_not_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tried: list[int] = []

    def away(request: httpx2.Request) -> httpx2.Response:
        tried.append(json.loads(request.content)["data"])
        return httpx2.Response(503)

    with another_hubbub(hurried(away)):
        with transaction.atomic():
            with pytest.raises(Undone):
                publish_and_undo(0)
            for number in (1, 2, 3):
                publish("invoices:all", number)
        with transaction.atomic():
            publish("invoices:all", 4)

    assert tried == [1, 4]
    assert [each.__dict__["code"] for each in caplog.records] == ["unavailable"] * 4


def test_in_djangos_test_case_each_capture_is_a_commit() -> None:
    tried: list[int] = []

    def away(request: httpx2.Request) -> httpx2.Response:
        tried.append(json.loads(request.content)["data"])
        return httpx2.Response(503)

    with another_hubbub(hurried(away)), transaction.atomic():  # as around each of its tests
        for number in (1, 3):
            with TestCase.captureOnCommitCallbacks(execute=True):
                publish("invoices:all", number)
                publish("invoices:all", number + 1)
        transaction.set_rollback(True)

    assert tried == [1, 3]


def test_there_is_one_client_until_the_settings_change() -> None:
    first = the_hubbub()
    assert the_hubbub() is first
    with override_settings(HUBBUB={"URL": "http://elsewhere", "API_KEY": "another"}):
        second = the_hubbub()
    third = the_hubbub()

    assert len({first, second, third}) == 3
    for each in (first, second, third):
        each.close()
