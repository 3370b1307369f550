"""What a class is called as an event, and what of it is published."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, create_model

from hubbub_client import event_name
from hubbub_client.contracts.envelope import Envelope
from hubbub_client.events import RESERVED, to_data


@pytest.mark.parametrize(
    ("class_name", "name", "version"),
    [
        ("PostLiked", "post_liked", 1),
        ("PostLikedV2", "post_liked", 2),
        ("PostLikedV12", "post_liked", 12),
        ("HTTPRequestFailed", "http_request_failed", 1),
        ("Order66Executed", "order66_executed", 1),
        ("Paid", "paid", 1),
        ("CV", "cv", 1),
        ("V2", "v2", 1),
    ],
)
def test_an_event_is_called_as_its_class(class_name: str, name: str, version: int) -> None:
    assert event_name(type(class_name, (), {})) == (name, version)
    Envelope(type=name, data={})


@pytest.mark.parametrize("class_name", ["_Hidden", "Größe", "P" + "x" * 64, "List[int]", "9Lives"])
def test_a_class_that_no_event_can_be_called_as_is_refused(class_name: str) -> None:
    with pytest.raises(ValueError, match="no event"):
        event_name(type(class_name, (), {}))


def test_an_event_is_published_as_json() -> None:
    class OrderPaid(BaseModel):
        order: UUID
        at: datetime

    order = UUID(int=7)
    event = OrderPaid(order=order, at=datetime(2026, 11, 30, tzinfo=UTC))

    assert to_data(event, "k") == {
        "order": str(order),
        "at": "2026-11-30T00:00:00Z",
        "event": "order_paid",
        "id": "k",
    }


@pytest.mark.parametrize("field", sorted(RESERVED))
def test_a_field_that_every_notification_has_is_refused(field: str) -> None:
    fields: dict[str, Any] = {field: (int, 1)}
    model = create_model("Shadowing", **fields)

    with pytest.raises(ValueError, match=f"Shadowing.{field}"):
        to_data(model(), "k")


@pytest.mark.parametrize("data", [None, 1, "text", [1], {"event": "e", "id": 3}])
def test_any_other_data_is_published_as_it_is(data: object) -> None:
    assert to_data(data, "k") is data
