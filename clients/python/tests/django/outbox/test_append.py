"""What is told is in the transaction, or refused."""

import pytest
from django.db import IntegrityError, connection, transaction
from pydantic import BaseModel

from hubbub_client.contracts.envelope import Envelope
from hubbub_client.contracts.publications import Publication
from hubbub_client.django.outbox import append, append_publication


class InvoicePaid(BaseModel):
    invoice_id: int


class Undone(Exception):
    pass


def rows() -> list[tuple[str, str, str, bytes]]:
    with connection.cursor() as cursor:
        cursor.execute("select id, subject, aggregate, payload from outbox order by position")
        return list(cursor.fetchall())


pytestmark = pytest.mark.usefixtures("outbox")


def test_an_event_is_a_row_of_the_transaction() -> None:
    with transaction.atomic():
        append(InvoicePaid(invoice_id=17), recipients=[7, "ann"], aggregate="invoice:17")

    [(id_, subject, aggregate, payload)] = rows()
    envelope = Envelope.model_validate_json(payload)
    assert (subject, aggregate) == ("events.application.invoice_paid", "invoice:17")
    assert (envelope.id, envelope.recipients) == (id_, ("7", "ann"))


def test_so_is_a_publication() -> None:
    with transaction.atomic():
        append_publication("invoices:all", {"text": "hi"}, idempotency_key="k", tags={"a": "b"})

    [(_, subject, aggregate, payload)] = rows()
    publication = Publication.decode(payload)
    assert subject == aggregate
    assert (publication.data, publication.tags) == ({"text": "hi"}, {"a": "b"})


@transaction.atomic
def append_twice_under(key: str) -> None:
    for number in range(2):
        append_publication("invoices:all", number, idempotency_key=key)


def test_a_key_is_there_once() -> None:
    with pytest.raises(IntegrityError):
        append_twice_under("k")

    assert rows() == []


def append_and_undo() -> None:
    with transaction.atomic():
        append(InvoicePaid(invoice_id=17), recipients=[7])
        raise Undone


def test_what_is_rolled_back_is_no_row() -> None:
    with pytest.raises(Undone):
        append_and_undo()

    assert rows() == []


def test_without_a_transaction_it_is_refused() -> None:
    with pytest.raises(transaction.TransactionManagementError, match="within transaction"):
        append(InvoicePaid(invoice_id=17), recipients=[7])

    assert rows() == []
