"""An application has one client, from its start to its end."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from clients.python.tests.conftest import API_KEY
from hubbub_client import Hubbub
from hubbub_client.fastapi import HubbubDep, State, hubbub_lifespan, the_hubbub
from hubbub_client.recorder import Recorder


def an_application(url: str) -> FastAPI:
    app = FastAPI(lifespan=hubbub_lifespan(url, API_KEY))

    @app.post("/say/{room}")
    async def say(room: str, hubbub: HubbubDep) -> int:
        seen.append(hubbub)
        return (await hubbub.publish(f"chat:{room}", "hi")).offset

    seen: list[Hubbub] = []
    app.state.seen = seen
    return app


def say_twice(app: FastAPI, room: str) -> list[int]:
    with TestClient(app) as browser:
        return [browser.post(f"/say/{room}").json() for _ in range(2)]


async def test_routes_publish_with_the_client_of_the_application(url: str) -> None:
    app = an_application(url)
    room = secrets.token_hex(6)

    offsets = await asyncio.to_thread(say_twice, app, room)

    async with Hubbub(url, API_KEY) as hubbub:
        publications = (await hubbub.history(f"chat:{room}")).publications
    assert [each.offset for each in publications] == offsets
    assert len(set(app.state.seen)) == 1


def test_who_forgets_the_lifespan_is_told_so() -> None:
    browser = TestClient(an_application("http://nowhere"))  # and no `with`

    with pytest.raises(RuntimeError, match=r"within `with TestClient\(app\)`"):
        browser.post("/say/lobby")


def test_an_application_may_start_again_with_a_recorder(hubbub_recorder: Recorder) -> None:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[State]:
        async with hubbub_recorder.hubbub as hubbub:
            with hubbub_recorder.sync_hubbub as synchronous:
                synchronous.publish("chat:starts", 1)
            yield {"hubbub": hubbub}

    app = an_application("http://nowhere")
    app.router.lifespan_context = lifespan

    assert say_twice(app, "lobby") + say_twice(app, "lobby") == [2, 3, 5, 6]


def test_a_test_may_put_another_client_in_its_place() -> None:
    answer = httpx2.Response(200, json={"result": {"offset": 7, "epoch": "e"}})
    transport = httpx2.MockTransport(lambda _request: answer)
    app = an_application("http://nowhere")
    app.dependency_overrides[the_hubbub] = lambda: Hubbub(
        "http://here", API_KEY, transport=transport
    )

    assert say_twice(app, "lobby") == [7, 7]
