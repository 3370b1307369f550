"""The OpenAPI document of posts: each answer that it lists is given, and no other one."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from hubbub_client.sql.database import DatabaseUnavailable, Sessions
from posts_service.api import create_router
from posts_service.app import MAX_BODY_BYTES, PostsParts, create_app
from shared.tokens.authentication import RevocationsUnknown
from shared.tokens.claims import Claims
from shared.tokens.errors import KeysUnknown
from shared.web.user_rates import TooFast, UserRates
from tests.fixtures.documented import Documented
from tests.posts_service.callers import a_client, a_post

Client = httpx2.AsyncClient

POST = {"title": "a", "body": "b"}
OPERATIONS: list[tuple[str, str, Any]] = [
    ("POST", "/posts", POST),
    ("GET", "/posts", None),
    ("GET", "/posts/{id}", None),
    ("PATCH", "/posts/{id}", POST),
    ("DELETE", "/posts/{id}", None),
    ("POST", "/posts/{id}/like", None),
    ("PUT", "/posts/{id}/like", None),
    ("DELETE", "/posts/{id}/like", None),
    ("POST", "/posts/{id}/comments", {"body": "b"}),
    ("GET", "/posts/{id}/comments", None),
]
FAILURES = [
    KeysUnknown("the keys are not known"),
    RevocationsUnknown("the revocations are not known"),
    DatabaseUnavailable(),
    TooFast(1),
    RuntimeError("a defect"),
]


@pytest.fixture
def documented() -> Documented:
    return Documented()


@pytest.fixture
async def author(app: FastAPI, documented: Documented) -> AsyncGenerator[Client]:
    async with a_client(app, 1, "Ada", documented=documented) as client:
        yield client


@pytest.fixture
async def reader(app: FastAPI, documented: Documented) -> AsyncGenerator[Client]:
    async with a_client(app, 2, "Grace", documented=documented) as client:
        yield client


def failing(error: Exception, sessions: Sessions, rates: UserRates) -> FastAPI:
    """The service in which each request fails so, where its caller is asked for."""

    async def fail() -> Claims:
        raise error

    router = create_router(sessions, fail, rates, like_notice_interval=timedelta(days=1))
    return create_app(PostsParts(router.add_to, ready=list), registry=CollectorRegistry())


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
async def test_each_answer_that_the_document_lists_is_given_and_no_other(
    author: Client,
    reader: Client,
    documented: Documented,
    sessions: Sessions,
    rates: UserRates,
) -> None:
    for method, template, body in OPERATIONS:
        path = template.format(id=await a_post(author))
        refused = {"Authorization": "Bearer none"}
        await author.request(method, path, json=body, headers=refused)
        await author.request(method, template.format(id=10**6), json=body)
        await author.request(method, template.format(id="x"), json=body)
        if method == "GET":
            await author.get(path, params={"limit": 0})
            await author.get(path, params={"cursor": "x"})
        if body is not None:
            too_long = {"body": "x" * MAX_BODY_BYTES}
            await author.request(method, path, json=too_long)
            await author.request(method, path, json={"body": ""})
        await reader.request(method, path, json=body)
        await author.request(method, path, json=body)

    for error in FAILURES:
        app = failing(error, sessions, rates)
        async with a_client(
            app, 1, "Ada", raise_app_exceptions=False, documented=documented
        ) as client:
            for method, template, body in OPERATIONS:
                await client.request(method, template.format(id=1), json=body)

    assert sorted(documented.seen) == sorted(documented.told("/posts"))
