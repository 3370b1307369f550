"""Who may subscribe, and what may be published, as the application says."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.channels.namespaces import Namespaces
from gateway.channels.options import Namespace, PersonalOptions, Who
from gateway.errors import Refusal
from gateway.settings import GatewaySettings
from hubbub_client.contracts.channels import parse_channel
from hubbub_client.contracts.ids import UserId
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.jetstream.publishing import publish
from hubbub_client.nats.client import Bus
from tests.fixtures.tokens import SECRET, a_foreign_token
from tests.gateway.chatting import RunningGateway, a_gateway, a_room, now, token_of
from tests.gateway.protocols.centrifuge.talking import Talk, talk, talking
from tests.gateway.proxies.application import AnApplication, an_application

ASKED = {"subscribe_proxy_enabled": True, "publish_proxy_enabled": True}
NAMESPACES = {
    "chat": Namespace(publish=Who.USERS),
    "team": Namespace(**ASKED, presence=True, force_recovery=True),
    "patched": Namespace(**ASKED, allowed_delta_types={"fossil"}),
    "tagged": Namespace(**ASKED, allow_tags_filter=True),
    "objects": Namespace(**ASKED, publication_data_format="json_object"),
    "dialog": Namespace(**ASKED, allow_user_limited_channels=True),
}
TEMPORARY = {"error": {"code": 100, "message": "internal server error", "temporary": True}}
DENIED = {"error": {"code": 103, "message": "permission denied"}}
NOT_AVAILABLE = {"error": {"code": 108, "message": "not available"}}
TOKEN = token_of(7, "Ann")


def a_channel(namespace: str = "team") -> str:
    return f"{namespace}:{a_room()}"


@pytest.fixture
async def application() -> AsyncGenerator[AnApplication]:
    async with an_application(subscribe={"result": {}}, publish={"result": {}}) as running:
        yield running


@pytest.fixture
async def gateway(
    nats_url: str, bus: Bus, application: AnApplication
) -> AsyncGenerator[RunningGateway]:
    settings = {
        "namespaces": NAMESPACES,
        "proxy_subscribe_url": application.url("/subscribe"),
        "proxy_publish_url": application.url("/publish"),
        "channel_limit": 4,
    }
    async with a_gateway(nats_url, settings=settings, hmac_secret=SECRET) as running:
        yield running


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncGenerator[Talk]:
    async with talking(gateway, TOKEN) as connected:
        yield connected


# Subscribing.


async def test_the_application_lets_somebody_subscribe_and_says_what_of_the_subscription(
    gateway: RunningGateway, application: AnApplication, publisher: Publisher
) -> None:
    channel = a_channel()
    application.answers["/subscribe"] = {
        "result": {"info": {"role": "dj"}, "data": {"topic": "x"}, "expire_at": now() + 900}
    }
    async with talk(gateway, headers={"Cookie": "session=ann"}) as client:
        connected = await client.ask("connect", token=TOKEN)
        subscribed = await client.ask("subscribe", channel=channel, data={"page": 1})
        present = await client.ask("presence", channel=channel)
        await publish(publisher, parse_channel(channel), "live")
        assert (await client.publication(channel))["data"] == "live"

    assert subscribed["data"] == {"topic": "x"}
    assert subscribed["recoverable"] is True
    assert subscribed.keys().isdisjoint({"expires", "ttl"})
    assert present["presence"][connected["client"]]["chan_info"] == {"role": "dj"}
    [asked] = application.asked
    assert asked.headers["cookie"] == "session=ann"
    assert asked.body == {
        "client": connected["client"],
        "transport": "websocket",
        "protocol": "json",
        "encoding": "json",
        "user": "7",
        "channel": channel,
        "data": {"page": 1},
    }


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"error": {"code": 403, "message": "no"}}, {"error": {"code": 403, "message": "no"}}),
        ({"result": {"expire_at": 1}}, {"error": {"code": 110, "message": "expired"}}),
        ({}, TEMPORARY),
        ({"result": None}, TEMPORARY),
        ({"result": {"override": 1}}, TEMPORARY),
    ],
    ids=str,
)
async def test_whom_the_application_does_not_let_hears_nothing(
    client: Talk, application: AnApplication, answer: Any, expected: Any
) -> None:
    channel = a_channel()
    application.answers["/subscribe"] = answer
    assert await client.ask("subscribe", channel=channel) == expected
    assert await client.ask("presence", channel=channel) == DENIED


async def test_only_where_the_options_say_so_the_application_is_asked(
    client: Talk, application: AnApplication
) -> None:
    assert "error" not in await client.ask("subscribe", channel=a_channel("chat"))
    assert "error" not in await client.ask("subscribe", channel="dialog:#7,8")
    assert await client.ask("subscribe", channel="dialog:#8,9") == DENIED
    assert await client.ask("subscribe", channel="$team:x") == DENIED
    assert application.asked == []


async def test_who_brings_a_token_for_the_channel_is_not_asked_about(
    client: Talk, application: AnApplication
) -> None:
    channel = a_channel()
    token = a_foreign_token({"sub": "7", "channel": channel, "exp": now() + 900})
    assert "error" not in await client.ask("subscribe", channel=channel, token=token)
    assert application.asked == []


async def test_no_other_way_leads_into_a_channel_of_which_the_application_decides(
    gateway: RunningGateway, application: AnApplication
) -> None:
    channel = a_channel()
    async with talking(gateway, TOKEN, subs={channel: {}}) as client:
        assert await client.ask("presence", channel=channel) == DENIED
    assert application.asked == []


async def test_a_slow_answer_holds_up_no_other_channel_and_the_channel_is_asked_about_once(
    client: Talk, application: AnApplication
) -> None:
    slow, other = a_channel(), a_channel("chat")
    application.goes_on.clear()
    await client.say({"id": 50, "subscribe": {"channel": slow}})
    await application.until_asked(1)

    assert "error" not in await client.ask("subscribe", channel=other)
    again = await client.ask("subscribe", channel=slow)
    assert again == {"error": {"code": 105, "message": "already subscribed"}}

    application.goes_on.set()
    assert "subscribe" in json.loads(await client.socket.recv())
    assert len(application.asked) == 1


async def test_those_that_are_asked_about_count_for_the_limit_of_channels(
    client: Talk, application: AnApplication
) -> None:
    application.goes_on.clear()
    await client.say(*({"id": 50 + n, "subscribe": {"channel": a_channel()}} for n in range(3)))
    await application.until_asked(3)
    refused = await client.ask("subscribe", channel=a_channel("chat"))
    assert refused == {"error": {"code": 106, "message": "limit exceeded"}}
    application.goes_on.set()


async def test_who_unsubscribes_while_the_application_is_asked_is_not_subscribed(
    client: Talk, application: AnApplication
) -> None:
    channel = a_channel()
    application.goes_on.clear()
    await client.say({"id": 50, "subscribe": {"channel": channel}})
    await application.until_asked(1)
    assert await client.ask("unsubscribe", channel=channel) == {}
    await client.say({"id": 51, "subscribe": {"channel": channel, "data": 2}})
    await application.until_asked(2)
    application.goes_on.set()

    answers = [json.loads(await client.socket.recv()) for _ in range(2)]
    by_id = {answer["id"]: answer for answer in answers}
    assert by_id[50]["error"]["code"] == 103
    assert "subscribe" in by_id[51]


async def test_a_subscription_lasts_until_the_application_said_and_is_asked_for_again(
    client: Talk, application: AnApplication
) -> None:
    channel = a_channel()
    application.answers["/subscribe"] = lambda _: {"result": {"expire_at": now() + 1}}
    await client.ask("subscribe", channel=channel)
    push = await client.push()
    assert push == {
        "channel": channel,
        "unsubscribe": {"code": 2501, "reason": "subscription expired"},
    }


# Publishing.


async def test_the_application_may_change_what_is_published(
    client: Talk, application: AnApplication
) -> None:
    channel = a_channel("tagged")
    application.answers["/publish"] = lambda asked: {
        "result": {"data": {"said": asked.body["data"]}, "tags": {"kind": "x"}}
    }
    await client.ask("subscribe", channel=channel)
    assert await client.ask("publish", channel=channel, data="hi") == {}

    published = await client.publication(channel)
    assert (published["data"], published["tags"]) == ({"said": "hi"}, {"kind": "x"})
    assert published["info"]["user"] == "7"
    [body] = application.bodies("/publish")
    assert (body["user"], body["channel"], body["data"]) == ("7", channel, "hi")


async def test_what_the_application_leaves_is_published_as_it_was_said_in_its_order(
    client: Talk,
) -> None:
    channel = a_channel()
    await client.ask("subscribe", channel=channel)
    await client.say(
        *({"id": 50 + n, "publish": {"channel": channel, "data": n}} for n in range(9))
    )
    assert [(await client.publication(channel))["data"] for _ in range(9)] == [*range(9)]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"error": {"code": 422, "message": "rude"}}, {"error": {"code": 422, "message": "rude"}}),
        ({}, TEMPORARY),
        ({"result": {"tags": [1]}}, TEMPORARY),
        ({"result": {"version": 3}}, NOT_AVAILABLE),
    ],
    ids=str,
)
async def test_what_the_application_does_not_let_pass_is_not_published(
    client: Talk, application: AnApplication, answer: Any, expected: Any
) -> None:
    channel = a_channel()
    application.answers["/publish"] = answer
    assert await client.ask("publish", channel=channel, data=1) == expected
    await client.ask("subscribe", channel=channel)
    assert (await client.ask("history", channel=channel, limit=10))["publications"] == []


async def test_what_is_not_to_be_kept_reaches_those_who_are_there_alone(
    client: Talk, application: AnApplication
) -> None:
    channel = a_channel()
    application.answers["/publish"] = {"result": {"skip_history": True}}
    await client.ask("subscribe", channel=channel)
    assert await client.ask("publish", channel=channel, data="typing") == {}

    published = await client.publication(channel)
    assert published["data"] == "typing"
    assert "offset" not in published
    assert (await client.ask("history", channel=channel, limit=10))["publications"] == []
    assert await client.ask("publish", channel=a_channel("patched"), data=1) == NOT_AVAILABLE


async def test_the_same_key_is_published_once(client: Talk, application: AnApplication) -> None:
    channel = a_channel()
    application.answers["/publish"] = {"result": {"idempotency_key": "k"}}
    await client.ask("subscribe", channel=channel)
    for _ in range(2):
        assert await client.ask("publish", channel=channel, data=1) == {}
    assert len((await client.ask("history", channel=channel, limit=10))["publications"]) == 1


async def test_the_options_and_names_of_channels_hold_whatever_the_application_says(
    client: Talk, application: AnApplication
) -> None:
    application.answers["/publish"] = {"result": {"data": "no object"}}
    refused = await client.ask("publish", channel=a_channel("objects"), data={})
    assert refused == {"error": {"code": 107, "message": "bad request"}}
    assert len(application.asked) == 1
    assert await client.ask("publish", channel="dialog:#8,9", data=1) == DENIED
    assert await client.ask("publish", channel="$team:x", data=1) == DENIED
    assert len(application.asked) == 1


async def test_rooms_of_plain_tabs_are_none_where_the_application_decides(
    nats_url: str, bus: Bus, application: AnApplication
) -> None:
    settings = {
        "namespaces": {"chat": Namespace(subscribe_proxy_enabled=True, presence=True)},
        "proxy_subscribe_url": application.url("/subscribe"),
    }
    async with (
        a_gateway(nats_url, settings=settings) as gateway,
        gateway.socket(token=TOKEN, room="lobby") as tab,
    ):
        assert await tab.closed() == (1008, "Invalid room")
    assert application.asked == []


# Without a gateway.


def test_insecure_gateways_ask_all_the_same() -> None:
    namespaces = Namespaces({"team": Namespace(**ASKED)}, insecure=True)
    channel = parse_channel("team:x")
    denied = Refusal.PERMISSION_DENIED
    assert namespaces.why_not_subscribe(channel, UserId("7")) is denied
    assert namespaces.why_not_publish(channel, UserId("7"), is_subscribed=True) is denied


@pytest.mark.parametrize("kind", ["subscribe", "publish"])
def test_who_is_asked_has_an_address(kind: str) -> None:
    options: dict[str, Any] = {f"{kind}_proxy_enabled": True}
    settings: dict[str, Any] = {"namespaces": {"team": options}}
    with pytest.raises(ValidationError, match=f"team: {kind}_proxy_enabled needs HUBBUB_GATEWAY"):
        GatewaySettings(**settings)
    GatewaySettings(**(settings | {f"proxy_{kind}_url": "http://app.example.com/"}))
    with pytest.raises(ValidationError, match="its name says"):
        PersonalOptions(**options)
