"""The server API over HTTP: who may ask, what is no command, and what the document tells of it."""

from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from gateway.errors import Refusal
from gateway.server_api.api import Api
from gateway.server_api.described import BATCH
from gateway.server_api.errors import (
    CODE_OF_KIND,
    CODE_OF_REFUSAL,
    STATUS_OF_CODE,
    Answer,
    ApiError,
    ApiErrorCode,
    Begun,
)
from gateway.server_api.methods import METHODS
from gateway.server_api.requests import PublishRequest
from gateway.server_api.routes import NAMES, add_api, api_shortcuts
from gateway.transport.hub import Hub
from gateway.transport.sniffer import websocket_options
from hubbub_client.contracts.errors import ErrorKind
from hubbub_client.exchange import MAX_REQUEST_BYTES
from shared.web.http import install_edge
from tests.fixtures import plain_http
from tests.fixtures.documented import Documented
from tests.gateway.chatting import RunningGateway
from tests.gateway.server_api.conftest import KEY
from tests.gateway.serving import served
from tests.gateway.transport.transports import some_limits


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"X-API-Key": KEY}, ""),
        ({"Authorization": f"apikey {KEY}"}, ""),
        ({}, f"?api_key={KEY}"),
    ],
)
async def test_the_key_may_come_in_three_places(
    guarded: RunningGateway, headers: dict[str, str], query: str
) -> None:
    url = f"http://127.0.0.1:{guarded.port}/api/publish{query}"
    async with plain_http.client() as anybody:
        answer = await anybody.post(url, headers=headers, json={"channel": "chat:k", "data": 1})

    assert "result" in answer.json()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": KEY + "x"},
        {"X-API-Key": "\xff"},
        {"Authorization": f"Bearer {KEY}"},
    ],
)
async def test_without_the_key_there_is_401_and_nothing_more(
    guarded: RunningGateway, headers: dict[str, str]
) -> None:
    url = f"http://127.0.0.1:{guarded.port}/api/publish"
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    async with plain_http.client() as anybody:
        answer = await anybody.post(url, headers=raw, json={"channel": "chat:k", "data": 1})

    assert (answer.status_code, answer.content) == (401, b"")


@pytest.mark.parametrize(
    ("parameters", "code", "word"),
    [
        ({"data": 1}, 107, "channel"),
        ({"channel": "chat:a"}, 107, "data"),
        ({"channel": 7, "data": 1}, 107, "channel"),
        ({"channel": "chat:a b", "data": 1}, 107, "channel"),
        ({"channel": "chat:\x7f", "data": 1}, 107, "channel"),
        ({"channel": "", "data": 1}, 107, "channel"),
        ({"channel": "nowhere:a", "data": 1}, 102, "unknown channel"),
        ({"channel": "none", "data": 1}, 102, "unknown channel"),
        (
            {"channel": "chat:a", "data": 1, "skip_history": True, "idempotency_key": "k"},
            108,
            "idempotency_key",
        ),
        ({"channel": "chat:a", "data": 1, "version": 3}, 108, "version"),
        ({"channel": "chat:a", "data": 1, "tags": {"a": 1}}, 107, "tags"),
        ({"channel": "chat:a", "b64data": "eA=="}, 107, "data"),
        ([], 107, "body"),
        ("publish", 107, "body"),
    ],
)
async def test_a_bad_request_is_answered_with_an_error_code(
    api: httpx2.AsyncClient, parameters: object, code: int, word: str
) -> None:
    answer = await api.post("/api/publish", json=parameters)

    assert answer.status_code == 200
    assert answer.json()["error"]["code"] == code
    assert word in answer.json()["error"]["message"]


async def test_a_request_without_a_command_is_answered_by_a_status(api: httpx2.AsyncClient) -> None:
    long = {"channel": "chat:a", "data": "x" * 70_000}

    assert (await api.post("/api/publish", content=b"{")).status_code == 400
    assert (await api.post("/api/publish", json=long)).status_code == 413
    assert (await api.get("/api/publish")).status_code == 405
    assert (await api.post("/api/nothing", json={})).json()["error"]["code"] == 104


@pytest.mark.parametrize(
    ("path", "content", "headers"),
    [
        ("/api/publish", b'{"channel":"nowhere:a","data":1}', {}),
        ("/api/publish", b'{"channel":"nowhere:\xc3\xa9","data":1}', {}),
        ("/api/presence", b"{}", {"X-Centrifugo-Error-Mode": "transport"}),
        ("/api/batch", b'{"commands":[{"rpc":{"method":"m"}}]}', {}),
        ("/api/publish", b"{", {}),
        ("/api/publish", b"{}", {"X-API-Key": "another"}),
        ("/api/publish?api_key=an+API+key+of+the+tests", b"{}", {"X-API-Key": ""}),
    ],
)
async def test_the_shortcut_answers_as_the_application_does(
    api: httpx2.AsyncClient, path: str, content: bytes, headers: dict[str, str]
) -> None:
    given = {**headers, "X-Request-ID": "r-1"}
    shortcut = await api.post(path, content=content, headers=given)
    page = {"Origin": "https://page.example"}  # so that the application answers
    application = await api.post(path, content=content, headers=given | page)

    assert shortcut.status_code == application.status_code
    assert shortcut.content == application.content
    assert shortcut.headers["x-request-id"] == "r-1"
    assert shortcut.headers.keys() == application.headers.keys()
    assert shortcut.headers.get("content-type") == application.headers.get("content-type")


async def test_a_method_that_fails_is_answered_with_a_problem_document_either_way() -> None:
    async def fail(_request: PublishRequest) -> Answer:
        raise RuntimeError("a method that fails")

    api, key = Api({"publish": fail}), SecretStr(KEY)
    app = FastAPI()
    install_edge(app)
    add_api(app, api, api_key=key)
    options = websocket_options(Hub(some_limits()), {}, {}, api_shortcuts(api, api_key=key))
    async with (
        served(app, options=options) as port,
        plain_http.client(
            base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": KEY}
        ) as client,
    ):
        for headers in ({}, {"Origin": "https://page.example"}):
            answer = await client.post("/api/publish", json={"channel": "a"}, headers=headers)
            assert answer.status_code == 500
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["code"] == "internal"
            assert answer.json()["request_id"]


async def test_if_no_key_is_configured_there_is_no_api(gateway: RunningGateway) -> None:
    url = f"http://127.0.0.1:{gateway.port}/api/publish"
    async with plain_http.client(headers={"X-API-Key": ""}) as anybody:
        answer = await anybody.post(url, json={"channel": "chat:k", "data": 1})

    assert answer.status_code == 404


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary()
    | st.text().map(lambda text: f'{{"channel":"chat:x","data":"{text}"}}'.encode())
)
async def test_any_bytes_are_answered(api: httpx2.AsyncClient, content: bytes) -> None:
    answer = await api.post("/api/publish", content=content)

    assert answer.status_code in (200, 400)


@pytest.mark.parametrize("name", NAMES)
async def test_each_answer_that_the_document_lists_is_given_and_no_other(
    guarded: RunningGateway, gateway: RunningGateway, name: str
) -> None:
    documented = Documented()
    url = f"/api/{name}"
    transport = {"X-Centrifugo-Error-Mode": "transport"}

    async def ask(client: httpx2.AsyncClient) -> None:
        await client.post(url, json=_BODIES[name])
        await client.post(url, json=_BODIES[name], headers=transport)

    def client_of(port: int, transport: httpx2.ASGITransport | None = None) -> httpx2.AsyncClient:
        return plain_http.client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"X-API-Key": KEY},
            transport=transport,
            event_hooks=documented.hooks,
        )

    async with client_of(guarded.port) as client:
        await ask(client)
        await client.post(url, json=_BODIES[name], headers={"X-API-Key": "another"})
        await client.post(url, content=b"{")
        await client.post(url, json=[], headers=transport)
        await client.post(url, content=b" " * (MAX_REQUEST_BYTES + 1))
    async with client_of(gateway.port) as without_api:
        await ask(without_api)
    errors = () if name == BATCH else METHODS[name].errors
    for error in (*map(ApiError, errors), RuntimeError("a defect")):
        api = FailingApi(error)
        app = FastAPI()
        install_edge(app)
        add_api(app, api, api_key=SecretStr(KEY))
        inside = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with client_of(0, inside) as client:
            await ask(client)

    told = {each for each in documented.told("/api") if each.operation == f"api_{name}"}
    assert sorted(documented.seen) == sorted(told)


async def test_a_body_has_the_same_bound_where_other_services_take_longer_ones() -> None:
    app = FastAPI()
    install_edge(app, max_body_bytes=2 * MAX_REQUEST_BYTES)
    failing = FailingApi(ApiError(ApiErrorCode.NOT_AVAILABLE))
    add_api(app, failing, api_key=SecretStr(KEY))
    async with httpx2.AsyncClient(
        base_url="http://gateway", headers={"X-API-Key": KEY}, transport=httpx2.ASGITransport(app)
    ) as client:
        longest, longer = [
            await client.post("/api/publish", content=b"1".ljust(size))
            for size in (MAX_REQUEST_BYTES, MAX_REQUEST_BYTES + 1)
        ]

    assert (longest.json()["error"]["code"], longer.status_code) == (108, 413)


class FailingApi(Api):
    """All its commands fail alike."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def call(self, name: str, body: Any) -> Answer:
        return await Begun(self._fail)

    async def batch(self, body: Any) -> Answer:
        return await self._fail()

    async def _fail(self) -> Answer:
        raise self._error


_BODIES: dict[str, Any] = {
    "publish": {"channel": "chat:a", "data": 1},
    "broadcast": {"channels": ["chat:a", "none"], "data": 1},
    "presence": {"channel": "chat:a"},
    "presence_stats": {"channel": "chat:a"},
    "history": {"channel": "chat:a"},
    "history_remove": {"channel": "chat:a"},
    "subscribe": {"channel": "chat:a", "user": "7"},
    "unsubscribe": {"channel": "chat:a", "user": "7"},
    "disconnect": {"user": "7"},
    "refresh": {"user": "7"},
    "channels": {},
    "info": {},
    "rpc": {"method": "m"},
    "batch": {"commands": [{"info": {}}]},
}


def test_each_refusal_has_a_code() -> None:
    assert CODE_OF_REFUSAL.keys() == set(Refusal)
    assert CODE_OF_KIND.keys() == set(ErrorKind)
    assert STATUS_OF_CODE.keys() == {code.value[0] for code in ApiErrorCode}
