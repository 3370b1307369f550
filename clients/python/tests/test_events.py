"""What a class is called as an event, and what of it is published."""

from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, RootModel, create_model

from hubbub_client import event_name
from hubbub_client.contracts.envelope import Envelope
from hubbub_client.events import (
    RESERVED,
    event_fields,
    read_fields,
    to_data,
    to_notification,
)


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


class OrderShipped(BaseModel):
    order_number: int = Field(alias="orderNumber")
    parcels: list["Parcel"]


class Parcel(BaseModel):
    weight_grams: int = Field(alias="weightGrams")


def test_an_event_is_read_as_it_was_published_whatever_its_aliases() -> None:
    shipped = OrderShipped(orderNumber=17, parcels=[Parcel(weightGrams=900)])

    fields = event_fields(shipped)

    assert fields == {"order_number": 17, "parcels": [{"weight_grams": 900}]}
    assert read_fields(OrderShipped, fields) == shipped
    assert read_fields(OrderShipped, {"orderNumber": 17, "parcels": []}).order_number == 17


def test_a_class_that_reads_its_fields_without_pydantic_is_given_them_alone() -> None:
    class Plain:
        @classmethod
        def model_validate(cls, values: Any) -> Self:
            read = cls()
            read.values = values
            return read

        values: Any

    assert read_fields(Plain, {"a": 1}).values == {"a": 1}


class Total(RootModel[int]):
    """A single value."""


@pytest.mark.parametrize(
    ("data", "why"), [(OrderShipped, "neither a model"), (Total(9), "a single value")]
)
def test_neither_a_class_nor_a_single_value_is_an_event(data: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        to_notification(data, "k")
    with pytest.raises(ValueError, match="an event"):
        event_fields(data)


@pytest.mark.parametrize("data", [None, 1, "text", [1], {"event": "e", "id": 3}])
def test_any_other_data_is_published_as_it_is(data: object) -> None:
    assert to_data(data, "k") is data
