"""Which functions can be handlers, and of what."""

import functools
from typing import Any

import pytest
from pydantic import BaseModel

from hubbub_client.bus import Events, Received
from hubbub_client.bus.handlers import Handlers


class OrderPaid(BaseModel):
    order_id: int


class OrderSent(BaseModel):
    order_id: int


class OrderLost(BaseModel):
    order_id: int


class Handling:
    """A method is a handler, too."""

    def __init__(self, events: Events) -> None:
        events.on(OrderPaid)(self.hear)

    async def hear(self, event: OrderPaid, received: Received) -> None:
        return

    async def __call__(self, event: OrderPaid) -> None:
        return


async def hear(event: OrderPaid) -> None:
    return


async def hear_with(prefix: str, event: OrderPaid) -> None:
    return


def test_a_handler_stays_what_it_is() -> None:
    assert Events("mailer").on(OrderPaid)(hear) is hear


def test_methods_partial_functions_and_callable_objects_are_handlers() -> None:
    Events("mailer").on(OrderPaid)(Handling(Events("mailer")))
    Events("mailer").on(OrderPaid)(functools.partial(hear_with, "a"))


def test_an_event_has_one_handler_but_a_service_may_have_another() -> None:
    events = Events("mailer")
    events.on(OrderPaid)(hear)
    events.on(OrderPaid, service="shop")(hear)

    for service in (None, "shop"):
        with pytest.raises(ValueError, match="already"):
            events.on(OrderPaid, service=service)(hear)


KNOWN = ["events.*.order_lost", "events.shop.order_sent"]


@pytest.mark.parametrize(
    ("handled", "given_up", "subjects"),
    [
        ([], [], KNOWN),
        ([(OrderPaid, "shop")], [], [*KNOWN, "events.shop.order_paid"]),
        ([(OrderSent, None)], [], ["events.*.order_lost", "events.*.order_sent"]),
        ([(OrderLost, "shop")], [], KNOWN),
        ([], [(OrderLost, None)], KNOWN[1:]),
        ([], [(OrderLost, "shop")], KNOWN),
        ([], [(OrderSent, None)], KNOWN[:1]),
        ([], [(OrderSent, "shop")], KNOWN[:1]),
        ([(OrderSent, "shop")], [(OrderSent, None)], KNOWN),
    ],
)
def test_a_consumer_keeps_what_other_versions_handle_unless_it_was_given_up(
    handled: list[tuple[type[BaseModel], str | None]],
    given_up: list[tuple[type[BaseModel], str | None]],
    subjects: list[str],
) -> None:
    async def handle(event: BaseModel) -> None: ...

    handlers = Handlers()
    for model, service in handled:
        handlers.add(model, handle, service)
    for model, service in given_up:
        handlers.give_up(model, service)

    assert handlers.subjects(KNOWN) == sorted(subjects)


def test_what_no_event_or_service_can_be_called_is_refused() -> None:
    with pytest.raises(ValueError, match="no event"):
        Events("mailer").on(type("_Hidden", (OrderPaid,), {}))(hear)
    with pytest.raises(ValueError, match="no service"):
        Events("mailer").on(OrderPaid, service="*")(hear)


def test_a_function_that_cannot_be_called_so_is_refused() -> None:
    def not_awaited(event: OrderPaid) -> None:
        return

    async def takes_nothing() -> None:
        return

    async def takes_too_much(event: OrderPaid, received: Received, more: int) -> None:
        return

    unfit: list[Any] = [not_awaited, takes_nothing, takes_too_much]
    for handler in unfit:
        with pytest.raises(TypeError, match="a handler"):
            Events("mailer").on(OrderPaid)(handler)
