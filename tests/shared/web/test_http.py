import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlencode

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry, Counter
from pydantic import BaseModel, Field, StringConstraints
from starlette.staticfiles import StaticFiles

from hubbub_client.contracts.errors import AppError, ErrorKind, Unavailable
from shared.web.http import (
    BYTES_A_CHARACTER,
    MAX_BODY_BYTES,
    STATUS_OF_KIND,
    body_limit,
    install_edge,
)
from shared.web.operations import add_operations
from shared.web.request_context import child_traceparent, current_traceparent


class Login(BaseModel):
    name: str
    password: int


class Empty(BaseModel):
    pass


class TooMany(AppError):
    kind = ErrorKind.THROTTLED
    code = "too_many"
    retry_after_seconds = 7


@pytest.fixture
async def reasons() -> list[str]:
    return []


@pytest.fixture
async def client(reasons: list[str]) -> AsyncIterator[httpx2.AsyncClient]:
    app, registry = FastAPI(), CollectorRegistry()
    install_edge(app)
    add_operations(app, registry=registry, ready=lambda: reasons)
    Counter("hubbub_tests", "Tests.", registry=registry).inc()

    things = APIRouter(prefix="/things")  # one router, as each service has

    @things.get("")
    async def list_things() -> list[str]:
        return []

    @things.post("")
    async def make_thing() -> None: ...

    app.include_router(things)

    @app.post("/login")
    async def login(body: Login) -> dict[str, str | None]:
        return {"name": body.name, "traceparent": current_traceparent()}

    @app.get("/busy")
    async def busy() -> None:
        raise TooMany("slow down")

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("a defect")

    @app.get("/away")
    async def away() -> None:
        raise Unavailable("the database does not answer")

    app.mount("/files", StaticFiles(directory=Path(__file__).parent))
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def test_every_kind_of_error_has_a_status() -> None:
    assert set(STATUS_OF_KIND) == set(ErrorKind)


async def test_an_error_is_a_problem_document_with_its_code(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/away", headers={"X-Request-ID": "mine-1"})

    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "code": "unavailable",
        "detail": "the database does not answer",
        "request_id": "mine-1",
    }


async def test_a_defect_is_a_problem_document_that_says_nothing(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/broken")

    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "a defect" not in answer.text


async def test_a_throttled_caller_is_told_when_to_come_back(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/busy")

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")


async def test_an_invalid_body_is_named_without_repeating_it(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/login", json={"name": "ann", "password": "s3cret"})

    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid"
    assert answer.json()["errors"][0]["where"] == ["body", "password"]
    assert "s3cret" not in answer.text


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"name": "\\ud800", "password": 1e999}', b"[]"])
async def test_a_broken_body_is_422(client: httpx2.AsyncClient, body: bytes) -> None:
    answer = await client.post("/login", content=body, headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


class Letter(BaseModel):
    kind: Literal["letter"] = "letter"
    text: Annotated[str, StringConstraints(strip_whitespace=True, max_length=20_000)] = ""
    greeting: str = Field(max_length=500)


@pytest.mark.parametrize("character", ["a", "é", "\x01", "\U0001f600"])
def test_the_longest_body_of_a_service_fits_however_it_is_written(character: str) -> None:
    limit = body_limit(Letter, Empty)
    letter = {"kind": "letter", "text": character * 20_000, "greeting": character * 500}

    assert len(json.dumps(letter, indent=8).encode()) <= limit
    assert len(json.dumps(letter, ensure_ascii=False).encode()) <= limit
    assert len(urlencode(letter).encode()) <= limit
    assert limit < 21_000 * BYTES_A_CHARACTER


def test_what_is_short_is_no_reason_to_take_less_than_others_do() -> None:
    assert body_limit(Empty) == MAX_BODY_BYTES


def test_a_field_without_a_bound_is_a_defect() -> None:
    with pytest.raises(ValueError, match=r"Login\.name has no bound"):
        body_limit(Letter, Login)


async def test_a_body_over_the_limit_is_413(client: httpx2.AsyncClient) -> None:
    body = json.dumps({"name": "x" * MAX_BODY_BYTES, "password": 1})

    answer = await client.post("/login", content=body)

    assert (answer.status_code, answer.json()["code"]) == (413, "too_long")


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [("/nowhere", "GET", 404, "not_found"), ("/login", "GET", 405, "method_not_allowed")],
)
async def test_the_frameworks_own_errors_are_problem_documents_too(
    client: httpx2.AsyncClient, path: str, method: str, status: int, code: str
) -> None:
    answer = await client.request(method, path)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_request_id_that_is_no_word_is_replaced(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/livez", headers={"X-Request-ID": "a b<script>"})

    assert answer.headers["x-request-id"].isalnum()


async def test_the_callers_trace_goes_on_under_a_new_span(client: httpx2.AsyncClient) -> None:
    incoming = child_traceparent(None)

    answer = await client.post(
        "/login", json={"name": "ann", "password": 1}, headers={"traceparent": incoming}
    )

    version, trace_id, span_id, flags = answer.json()["traceparent"].split("-")
    assert (version, trace_id, flags) == ("00", incoming.split("-")[1], "01")
    assert span_id != incoming.split("-")[2]


async def test_readyz_names_what_stands_in_the_way(
    client: httpx2.AsyncClient, reasons: list[str]
) -> None:
    assert (await client.get("/readyz")).status_code == 200

    reasons += ["the bus is away", "draining"]
    answer = await client.get("/readyz")

    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert answer.json()["detail"] == "the bus is away; draining"
    assert (await client.get("/livez")).status_code == 200


async def test_metrics_are_those_of_the_given_registry(client: httpx2.AsyncClient) -> None:
    assert "hubbub_tests_total 1.0" in (await client.get("/metrics")).text


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/things", "GET, HEAD, POST"),
        ("DELETE", "/login", "POST"),
        ("HEAD", "/login", "POST"),
        ("POST", "/livez", "GET, HEAD"),
        ("BREW", "/livez", "GET, HEAD"),
        ("POST", "/files/test_http.py", "GET, HEAD"),
    ],
)
async def test_a_method_that_a_path_does_not_know_is_told_all_those_it_knows(
    client: httpx2.AsyncClient, method: str, path: str, allowed: str
) -> None:
    answer = await client.request(method, path)

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


async def test_head_is_answered_like_get(client: httpx2.AsyncClient) -> None:
    for path in ("/livez", "/metrics", "/away", "/unknown", "/things"):
        asked, got = await client.head(path), await client.get(path)
        assert asked.status_code == got.status_code
        assert asked.headers["content-length"] == got.headers["content-length"]
