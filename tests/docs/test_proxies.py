"""The application and the service of docs/proxies.md do what is said there."""

import json
import re
from pathlib import Path
from typing import Any

import nats
import pytest

from hubbub_client.nats.client import Bus
from tests.fixtures import plain_http
from tests.gateway.chatting import a_gateway, token_of
from tests.gateway.protocols.centrifuge.talking import talk, talking
from tests.gateway.serving import served

TEXT = (Path(__file__).resolve().parents[2] / "docs/proxies.md").read_text()
APPLICATION, SERVICE = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
SECRET = "the same secret"


def settings_shown(port: int) -> dict[str, Any]:
    """What the example has in its environment."""
    [shown] = re.findall(r"```\n(HUBBUB_.*?)```", TEXT, re.DOTALL)
    shown = shown.replace("127.0.0.1:9000", f"127.0.0.1:{port}")
    pairs = (line.split("=", 1) for line in shown.splitlines())
    return {
        name.removeprefix("HUBBUB_GATEWAY_").lower(): (
            json.loads(value) if value.startswith("{") else value
        )
        for name, value in pairs
    }


async def test_the_application_of_the_example_says_who_somebody_is_and_answers_calls(
    nats_url: str, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REALTIME_SECRET", SECRET)
    names: dict[str, Any] = {}
    exec(APPLICATION, names)
    cookie = {"Cookie": "session=a long random text"}
    async with (
        served(names["app"], options={}) as port,
        a_gateway(nats_url, settings=settings_shown(port)) as gateway,
    ):
        async with talk(gateway, headers=cookie) as client:
            connected = await client.ask("connect")
            assert connected["data"] == {"unread": 3}
            assert connected["subs"].keys() == {"#42", "news:42"}
            assert await client.ask("rpc", method="add", data=[1, 2]) == {"data": 3}
            refused = await client.ask("rpc", method="other")
            assert refused["error"]["code"] == 404
            assert "error" not in await client.ask("subscribe", channel="team:blue")
            assert await client.ask("publish", channel="team:blue", data="hi") == {}
            assert (await client.publication("team:blue"))["data"] == {"text": "hi"}
            refused = await client.ask("subscribe", channel="team:red")
            assert refused["error"]["message"] == "not a member"
        async with talk(gateway) as client:
            await client.say({"id": 1, "connect": {}})
            assert await client.closed() == (4501, "signed out")
        async with plain_http.client() as stranger:
            answer = await stranger.post(f"http://127.0.0.1:{port}/realtime/rpc", json={})
            assert answer.status_code == 403


async def test_the_service_of_the_example_answers_on_the_bus(nats_url: str, bus: Bus) -> None:
    names: dict[str, Any] = {}
    exec(SERVICE, names)
    service = await nats.connect(nats_url)
    try:
        await names["serve"](service)
        await service.flush()
        async with (
            a_gateway(nats_url, settings={"rpc_over_bus": True}) as gateway,
            talking(gateway, token_of(7, "Ann")) as client,
        ):
            answer = await client.ask("rpc", method="answers.stop", data=1)
            assert answer == {"data": {"stopped": True}}
    finally:
        await service.close()
