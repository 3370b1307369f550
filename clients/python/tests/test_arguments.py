"""What a caller can't have meant is refused before anything is done."""

from collections.abc import Callable
from uuid import UUID

import pytest
from pydantic import BaseModel

from hubbub_client import Publish, TooLarge
from hubbub_client.arguments import User, listed, user_id
from hubbub_client.bus.publications import encode
from hubbub_client.exchange import MAX_REQUEST_BYTES
from hubbub_client.outbox.append import Message
from hubbub_client.recorder import Recorder
from hubbub_client.tokens import connection_token
from tests.fixtures.tokens import SECRET


class InvoicePaid(BaseModel):
    invoice_id: int


class InvoiceSent(BaseModel):
    text: str


PAID = InvoicePaid(invoice_id=17)


@pytest.mark.parametrize(
    "meant_wrongly",
    [
        lambda: Recorder().sync_hubbub.broadcast("chat:lobby", 1),
        lambda: Recorder().sync_hubbub.disconnect(7, keep="abc"),
        lambda: connection_token(7, secret=SECRET, channels="news"),
        lambda: Message.of_event(PAID, recipients="17"),
        lambda: Message.of_event(PAID, channels="shop:sales"),
        lambda: listed(b"17"),
    ],
)
def test_a_text_is_no_list_of_its_letters(meant_wrongly: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="a list is meant, not a text"):
        meant_wrongly()


@pytest.mark.parametrize(
    "too_long",
    [
        lambda text: Recorder().sync_hubbub.publish("chat:a", text),
        lambda text: encode(Publish("chat:a", text)),
        lambda text: Message.of_publication("chat:a", text),
        lambda text: Message.of_event(InvoiceSent(text=text)),
    ],
)
def test_what_is_longer_than_a_request_may_be_is_too_large_on_any_way(
    too_long: Callable[[str], object],
) -> None:
    too_long("x" * (MAX_REQUEST_BYTES - 500))
    with pytest.raises(TooLarge):
        too_long("x" * MAX_REQUEST_BYTES)


@pytest.mark.parametrize(
    ("user", "called"),
    [(7, "7"), ("7", "7"), ("auth0|5f", "auth0|5f"), (UUID(int=7), str(UUID(int=7)))],
)
def test_a_user_is_called_as_gateways_know_them(user: User, called: str) -> None:
    assert user_id(user) == called


@pytest.mark.parametrize("nobody", ["", "a b", "ä", "x" * 129, "a\n", 0, -1, 2**63, True, None])
def test_what_gateways_call_nobody_is_no_user(nobody: User) -> None:
    with pytest.raises(ValueError, match="no user id"):
        user_id(nobody)
