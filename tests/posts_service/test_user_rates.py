"""What a user is told who asks for too much, whatever they ask for."""

from collections.abc import Callable, Coroutine
from typing import Any

import httpx2
import pytest

from hubbub_client.sql.database import Sessions
from posts_service.api import ITEMS_A_UNIT, READ_UNITS, WRITE_UNITS
from posts_service.settings import PostsSettings
from shared.web.user_rates import UserRates
from tests.posts_service.callers import a_post, events

Client = httpx2.AsyncClient
Request = Callable[[Client], Coroutine[Any, Any, httpx2.Response]]

BURST = 3 * WRITE_UNITS
UNITS_PER_SECOND = 0.01
REQUESTS: dict[str, Request] = {
    "post": lambda client: client.post("/posts", json={"title": "a", "body": "b"}),
    "edit": lambda client: client.patch("/posts/1", json={"title": "a"}),
    "delete": lambda client: client.delete("/posts/1"),
    "toggle": lambda client: client.post("/posts/1/like"),
    "like": lambda client: client.put("/posts/1/like"),
    "unlike": lambda client: client.delete("/posts/1/like"),
    "comment": lambda client: client.post("/posts/1/comments", json={"body": "b"}),
    "a body that does not fit": lambda client: client.post("/posts", json={}),
    "read": lambda client: client.get("/posts/1"),
    "list": lambda client: client.get("/posts"),
    "comments": lambda client: client.get("/posts/1/comments"),
}


@pytest.fixture
def rates() -> UserRates:
    return UserRates(units_per_second=UNITS_PER_SECOND, burst=BURST, max_users=10)


async def test_whoever_has_spent_a_burst_is_told_when_to_come_again_whatever_they_ask_for(
    ada: Client, grace: Client, sessions: Sessions
) -> None:
    for _ in range(BURST // WRITE_UNITS):
        await a_post(ada)
    told = len(await events(sessions))

    for name, request in REQUESTS.items():
        refused = await request(ada)
        assert (refused.status_code, name) == (429, name)
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["code"] == "rate_limited"
        assert 1 <= int(refused.headers["retry-after"]) <= BURST / UNITS_PER_SECOND

    assert len(await events(sessions)) == told
    assert (await grace.put("/posts/1/like")).status_code == 200


async def test_a_list_costs_by_how_much_of_it_is_asked_for(ada: Client) -> None:
    most = (BURST - READ_UNITS) * ITEMS_A_UNIT

    assert (await ada.get("/posts", params={"limit": most})).status_code == 200
    assert (await ada.get("/posts", params={"limit": 1})).status_code == 429


async def test_each_parameter_of_a_list_is_described_once(ada: Client) -> None:
    described = (await ada.get("/openapi.json")).json()["paths"]["/posts"]["get"]["parameters"]

    assert sorted(each["name"] for each in described) == ["cursor", "limit"]


def test_as_it_comes_a_hundred_likes_and_a_hundred_lists_pass_at_once() -> None:
    defaults = {name: field.default for name, field in PostsSettings.model_fields.items()}

    assert defaults["user_burst"] >= 100 * WRITE_UNITS + 100 * (READ_UNITS + 20 // ITEMS_A_UNIT)
