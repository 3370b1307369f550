"""What the README says of Django is so."""

import re
from dataclasses import MISSING, dataclass, fields
from typing import Any

from django.conf import settings
from django.test import override_settings

from clients.python.tests.test_documents import README, example
from hubbub_client.django import the_hubbub
from hubbub_client.django.conf import HubbubSettings
from hubbub_client.recorder import Recorder

[SETTINGS] = re.findall(r"```python\n(INSTALLED_APPS.*?)```", README, re.DOTALL)
InvoicePaid = example("tell").__globals__["InvoicePaid"]


@dataclass
class Invoice:
    pk: int = 17
    user_id: int = 7
    total: str = "9.50"
    is_paid: bool = False

    def save(self) -> None:
        assert self.is_paid


def test_the_user_of_the_example_is_told(recorder: Recorder) -> None:
    pay = example("pay", Invoice=Invoice, InvoicePaid=InvoicePaid)

    pay(Invoice())

    assert recorder.events(InvoicePaid, channel="#7") == [InvoicePaid(invoice_id=17, total="9.50")]


def test_what_is_told_for_sure_is_a_row(outbox: None) -> None:
    from hubbub_client.django.outbox.models import OutboxRow

    pay_for_sure = example("pay_for_sure", Invoice=Invoice, InvoicePaid=InvoicePaid)

    pay_for_sure(Invoice())

    row = OutboxRow.objects.get()
    assert (row.aggregate, row.subject) == ("invoice:17", "events.application.invoice_paid")


def test_the_settings_of_the_example_are_enough() -> None:
    shown: dict[str, Any] = {}
    exec(SETTINGS, shown)

    assert set(shown["INSTALLED_APPS"]) < set(settings.INSTALLED_APPS)
    with override_settings(HUBBUB=shown["HUBBUB"]):
        the_hubbub()


def test_all_settings_are_documented_with_their_defaults() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*?) \|", README, re.MULTILINE)
    shown = {MISSING: "required", None: "none"}

    assert dict(rows) == {
        each.name.upper(): shown.get(each.default) or f"`{each.default:g}`"
        for each in fields(HubbubSettings)
    }
