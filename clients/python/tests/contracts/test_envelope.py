"""The envelope of a typed event, and what subscribers see of it."""

import pytest
from pydantic import BaseModel

from hubbub_client.contracts.envelope import Envelope
from hubbub_client.contracts.ids import UserId
from hubbub_client.events import to_data


class OrderPaid(BaseModel):
    order_id: int


class OrderPaidV2(BaseModel):
    order_id: int
    total: str


@pytest.mark.parametrize("event", [OrderPaid(order_id=7), OrderPaidV2(order_id=7, total="9.50")])
def test_subscribers_see_an_event_of_the_bus_as_one_that_is_published(event: BaseModel) -> None:
    envelope = Envelope.of(event, event_id="e1")

    read = Envelope.model_validate_json(envelope.model_dump_json())

    assert read == envelope
    assert read.to_publication_data() == to_data(event, "e1")


def test_an_event_has_an_id_of_its_own_unless_it_is_told_again() -> None:
    event = OrderPaid(order_id=7)

    assert Envelope.of(event).id != Envelope.of(event).id
    assert Envelope.of(event, event_id="e1").id == "e1"


def test_an_envelope_names_users_in_either_form_and_channels() -> None:
    envelope = Envelope.of(
        OrderPaid(order_id=7), recipients=[7, "8", "auth0|9"], channels=["shop:orders"]
    )

    assert envelope.recipients == (UserId("7"), UserId("8"), UserId("auth0|9"))
    assert envelope.channels == ("shop:orders",)
    for malformed in ({"recipients": [""]}, {"channels": ["a b"]}, {"event_id": "x" * 65}):
        with pytest.raises(ValueError, match=r"text|characters"):
            Envelope.of(OrderPaid(order_id=7), **malformed)


def test_an_event_without_a_version_is_of_the_first() -> None:
    assert Envelope.model_validate({"id": "e1", "type": "order_paid", "data": {}}).version == 1
