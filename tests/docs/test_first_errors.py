"""What people meet first is what docs/errors.md says."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from websockets.exceptions import InvalidStatus

from hubbub_client import Hubbub, HubbubError
from hubbub_client.exchange import Limits
from hubbub_client.nats.client import Bus
from hubbub_client.tokens import connection_token, subscription_token
from tests.fixtures.tokens import SECRET
from tests.gateway.chatting import RunningGateway, a_gateway, token_of
from tests.gateway.protocols.centrifuge.talking import talk, talking

TABLE = (Path(__file__).resolve().parents[2] / "docs/errors.md").read_text()
API_KEY = "the key of the server API"
NAMESPACES: dict[str, Any] = {
    "news": {"subscribe": "services"},
    "chat": {"publish": "users"},
    "post": {"history": False},
}
SETTINGS = {"api_key": SecretStr(API_KEY), "namespaces": NAMESPACES}
USER = "9d0b2f7e-3c51-4a55-8f3e-0a6f5a1f7c11"


def line(seen: str) -> str:
    """The table's line about what is seen."""
    [found] = [each for each in TABLE.splitlines() if each.startswith("| ") and seen in each]
    return found


def assert_listed(answer: Any, names: str) -> None:
    """The error has a line, which names what was done."""
    error = answer["error"]
    assert names in line(f"error {error['code']} `{error['message']}`")


async def test_a_page_of_another_host_is_refused_until_its_origin_is_listed(
    nats_url: str, bus: Bus
) -> None:
    page, local = {"Origin": "https://app.example.com"}, {"Origin": "http://localhost:9000"}
    async with a_gateway(nats_url) as gateway:
        with pytest.raises(InvalidStatus) as refused:
            async with talk(gateway, headers=page):
                pass
        async with talk(gateway, headers=local):
            pass
    async with (
        a_gateway(nats_url, settings={"allowed_origins": page["Origin"]}) as gateway,
        talk(gateway, headers=page),
    ):
        pass

    status = refused.value.response.status_code
    assert "HUBBUB_ALLOWED_ORIGINS" in line(f"{status} for the WebSocket, `origin_refused`")


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret": "another secret, and it is long enough too"},
        {"secret": SECRET, "audience": "another"},
        {"secret": SECRET, "seconds": 1e6},
    ],
    ids=["secret", "audience", "seconds"],
)
async def test_a_token_that_is_not_accepted_is_invalid(
    nats_url: str, bus: Bus, wrong: dict[str, Any]
) -> None:
    token = connection_token(USER, **wrong)
    async with a_gateway(nats_url, hmac_secret=SECRET) as gateway, talk(gateway) as client:
        await client.say({"id": 1, "connect": {"token": token}})
        code, reason = await client.closed()

    assert "hubbub check-token" in line(f"disconnected, {code} `{reason}`")


async def test_no_token_is_a_bad_request(nats_url: str, bus: Bus) -> None:
    async with a_gateway(nats_url) as gateway, talk(gateway) as client:
        await client.say({"id": 1, "connect": {}})
        code, reason = await client.closed()

    assert "no token" in line(f"disconnected, {code} `{reason}`")


async def test_a_user_is_told_only_under_the_id_of_the_token(nats_url: str, bus: Bus) -> None:
    token = connection_token(USER, secret=SECRET)
    async with (
        a_gateway(nats_url, settings=SETTINGS, hmac_secret=SECRET) as gateway,
        talking(gateway, token) as client,
        Hubbub(url_of(gateway), API_KEY) as hubbub,
    ):
        await hubbub.notify(USER.upper(), {"event": "for_nobody"})
        await hubbub.notify(USER, {"event": "for_the_user"})
        publication = await client.publication(f"#{USER}")

    assert publication["data"]["event"] == "for_the_user"
    assert "letter by letter" in line("`notify` returns, and no page shows it")


async def test_what_a_user_may_not_do_is_answered_with_the_error_that_is_listed(
    nats_url: str, bus: Bus
) -> None:
    invitation = subscription_token("7", "$chat:secret", secret=SECRET)
    async with (
        a_gateway(nats_url, settings=SETTINGS, hmac_secret=SECRET) as gateway,
        talking(gateway, token_of(7, "Ann")) as client,
    ):
        assert_listed(await client.ask("subscribe", channel="orders:17"), "no namespace")
        assert_listed(await client.ask("subscribe", channel="news:today"), '`"services"`')
        assert_listed(await client.ask("subscribe", channel="$chat:secret"), "`$`")
        assert "error" not in await client.ask(
            "subscribe", channel="$chat:secret", token=invitation
        )
        assert_listed(await client.ask("publish", channel="chat:lobby", data=1), "does not listen")
        assert "error" not in await client.ask("subscribe", channel="post:17")
        assert_listed(
            await client.ask("publish", channel="post:17", data=1), '`"publish": "users"`'
        )
        assert_listed(await client.ask("subscribe", channel="#7"), "`#<id>`")
        assert_listed(await client.ask("rpc", method="add"), "`rpc`")
        assert_listed(await client.ask("presence", channel="post:17"), "presence")
        assert_listed(await client.ask("history", channel="post:17", limit=1), "history")


async def test_the_errors_of_the_client_are_listed(nats_url: str, bus: Bus) -> None:
    async with a_gateway(nats_url, settings=SETTINGS) as gateway:
        url = url_of(gateway)
        assert await error_of(url, "another key") == ("unauthorized", "401")
    async with a_gateway(nats_url) as gateway:
        assert await error_of(url_of(gateway), API_KEY) == ("unauthorized", "404")
    code, _ = await error_of(url, API_KEY, within_seconds=0.2)

    assert "another key" in line("`unauthorized` from hubbub-client, status 401")
    assert "no `HUBBUB_API_KEY`" in line("`unauthorized` from hubbub-client, status 404")
    assert "nothing answers" in line(
        f"`{code}` from hubbub-client, after {Limits().deadline_seconds:g} s"
    )


def url_of(gateway: RunningGateway) -> str:
    return f"http://127.0.0.1:{gateway.port}"


async def error_of(url: str, api_key: str, *, within_seconds: float = 20) -> tuple[str, str]:
    """The code, and the last word of the message."""
    async with Hubbub(url, api_key, limits=Limits(deadline_seconds=within_seconds)) as hubbub:
        with pytest.raises(HubbubError) as refused:
            await hubbub.notify(USER, {"event": "greeting"})
    return refused.value.code, str(refused.value).split()[-1]
