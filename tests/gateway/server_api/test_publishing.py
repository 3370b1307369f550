"""What a service publishes over the server API: what is stored of it, and who hears it."""

import asyncio
import base64
import secrets
from collections.abc import Callable
from typing import Any, cast
from unittest.mock import ANY

import httpx2
import pytest
from pydantic import SecretStr

from gateway.channels.namespaces import Namespaces
from gateway.server_api.api import Api
from gateway.server_api.publishing import Publishing
from gateway.server_api.requests import BroadcastRequest
from gateway.streams.ephemeral import EphemeralFeed
from gateway.streams.history import History
from gateway.streams.publishing import ChannelPublisher, PublishingLimits
from hubbub_client.contracts.channels import parse_channel
from hubbub_client.contracts.publications import Publication
from hubbub_client.contracts.subjects import publication_subject
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus, connect_bus
from shared.jetstream.streams import bootstrap
from tests.fixtures import plain_http
from tests.fixtures.nats import NatsServer
from tests.gateway.chatting import RunningGateway, a_gateway
from tests.gateway.server_api.conftest import KEY


def a_channel() -> str:
    return f"chat:{secrets.token_hex(6)}"


async def publish(api: httpx2.AsyncClient, **parameters: Any) -> dict[str, Any]:
    answer = await api.post("/api/publish", json=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json()
    return body


async def test_what_is_published_is_answered_with_its_position_and_heard_in_the_room(
    api: httpx2.AsyncClient, guarded: RunningGateway
) -> None:
    channel = a_channel()
    async with guarded.tab(1, "Ann", channel.removeprefix("chat:")) as tab:
        answer = await publish(api, channel=channel, data={"text": "hi"})
        heard = await tab.until("publication")

    offset = answer["result"]["offset"]
    assert answer == {"result": {"offset": offset, "epoch": tab.welcome["epoch"]}}
    assert heard == {"type": "publication", "data": {"text": "hi"}, "offset": offset, "time": ANY}


async def test_an_event_in_a_personal_channel_is_a_notification(
    api: httpx2.AsyncClient, guarded: RunningGateway
) -> None:
    async with guarded.tab(7_000_001, "Ann", "api") as tab:
        answer = await publish(api, channel="#7000001", data={"event": "invoice_paid", "sum": 5})
        heard = await tab.until("notification")

    offset = answer["result"]["offset"]
    assert heard == {
        "type": "notification",
        "event": "invoice_paid",
        "sum": 5,
        "offset": offset,
        "time": ANY,
    }


async def test_the_same_key_is_stored_once_in_its_channel(api: httpx2.AsyncClient) -> None:
    one, two = a_channel(), a_channel()
    first = await publish(api, channel=one, data=1, idempotency_key="k")
    again = await publish(api, channel=one, data=1, idempotency_key="k")
    elsewhere = await publish(api, channel=two, data=1, idempotency_key="k")
    without = await publish(api, channel=one, data=1)
    other_data = await publish(api, channel=one, data=2, idempotency_key="k")

    assert first == again
    assert elsewhere["result"]["offset"] > first["result"]["offset"]
    assert without["result"]["offset"] > elsewhere["result"]["offset"]
    assert other_data["error"]["code"] == 113


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ("1e400", "not finite"),
        ('{"a":[-1e400]}', "not finite"),
        ("9" * 400, "too large"),
        ("[" * 61 + "]" * 61, "60 levels"),
        ("[" * 200 + "]" * 200, "60 levels"),
        ('"\\ud83d"', "JSON"),
    ],
    ids=lambda text: text[:10],
)
async def test_json_that_some_readers_can_not_read_is_not_stored(
    api: httpx2.AsyncClient, bus: Bus, data: str, word: str
) -> None:
    channel = a_channel()
    for field in (f'"data":{data}', f'"b64data":"{base64.b64encode(data.encode()).decode()}"'):
        answer = await api.post("/api/publish", content=f'{{"channel":"{channel}",{field}}}')
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (200, 107)
        assert word in error["message"]

    subject = publication_subject(parse_channel(channel))
    assert await StreamReader(bus, "RT").last_of(subject) is None


async def test_a_lone_surrogate_in_an_ignored_field_is_allowed(
    api: httpx2.AsyncClient,
) -> None:
    body = f'{{"channel":"{a_channel()}","data":1,"newer":"\\ud83d"}}'

    assert "result" in (await api.post("/api/publish", content=body)).json()


async def test_data_is_stored_unchanged(api: httpx2.AsyncClient, bus: Bus) -> None:
    channel = a_channel()
    data = {"n": 2**53, "text": "<b>\u2028é\U0001f600", "deep": [[None, True, 1.5]]}
    answer = await publish(api, channel=channel, data=data)

    subject = publication_subject(parse_channel(channel))
    stored = await StreamReader(bus, "RT").last_of(subject)
    assert stored is not None
    assert stored.sequence == answer["result"]["offset"]
    assert Publication.decode(stored.payload) == Publication(data=data)


async def test_data_may_come_as_json_in_base64(api: httpx2.AsyncClient, bus: Bus) -> None:
    channel = a_channel()
    b64data = base64.b64encode(b'{"a": [1]}').decode()
    await publish(api, channel=channel, data=None, b64data=b64data, tags={}, skip_history=False)

    stored = await StreamReader(bus, "RT").last_of(publication_subject(parse_channel(channel)))
    assert stored is not None
    assert Publication.decode(stored.payload) == Publication(data={"a": [1]})


async def test_what_goes_into_many_channels_is_read_and_encoded_once(bus: Bus) -> None:
    class CountingPublisher(ChannelPublisher):
        encoded = 0

        def encode(self, publication: Publication) -> bytes:
            self.encoded += 1
            return super().encode(publication)

    class CountingRequest(BroadcastRequest):
        def to_data(self) -> Any:
            read.append(self)
            return super().to_data()

    read: list[CountingRequest] = []
    channels = [a_channel() for _ in range(3)]
    async with start_publisher(bus) as publisher:
        history = History(StreamReader(bus, "RT"))
        publishing = CountingPublisher(publisher, history, limits=PublishingLimits(5))
        ephemeral = cast(EphemeralFeed, None)
        by_api = Publishing(publishing, ephemeral, namespaces=Namespaces(), epoch=lambda: "e")
        b64data = base64.b64encode(b'{"a": [1]}').decode()
        answer = await by_api.broadcast(CountingRequest(channels=channels, b64data=b64data))

    assert all("result" in each for each in answer["responses"])
    assert (len(read), publishing.encoded) == (1, 1)
    for channel in channels:
        stored = await StreamReader(bus, "RT").last_of(publication_subject(parse_channel(channel)))
        assert stored is not None
        assert Publication.decode(stored.payload) == Publication(data={"a": [1]})


def an_api(publishing: ChannelPublisher, *, epoch: str) -> Api:
    """One that stores what is published."""
    ephemeral = cast(EphemeralFeed, None)
    return Api(
        Publishing(publishing, ephemeral, namespaces=Namespaces(), epoch=lambda: epoch).methods
    )


async def test_without_a_bus_the_answer_is_error_100_and_the_key_makes_a_retry_safe(
    nats_server: Callable[[], NatsServer],
) -> None:
    server = nats_server()
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        await bootstrap(bus)
        limits = PublishingLimits(deadline_seconds=0.3)
        publishing = ChannelPublisher(publisher, History(StreamReader(bus, "RT")), limits=limits)
        api = an_api(publishing, epoch="e")
        command = {"channel": "chat:a", "data": 1, "idempotency_key": "k"}
        server.kill()
        away = await api.call("publish", command)
        server.start()
        await bus.until_connected()
        answers = [await _until_stored(api, command) for _ in range(2)]

    assert away == {"error": {"code": 100, "message": "internal server error"}}
    assert answers == [{"result": {"offset": 1, "epoch": "e"}}] * 2


async def _until_stored(api: Api, command: dict[str, Any]) -> dict[str, Any]:
    """Try again while the answer says that a retry may succeed."""
    async with asyncio.timeout(20):
        while True:
            answer = await api.call("publish", command)
            if answer.get("error", {}).get("code") != 100:
                return answer


@pytest.mark.parametrize(("data", "code"), [({"a": 1}, None), ([1], 107)])
async def test_services_too_publish_only_what_the_channel_takes(
    nats_url: str, data: object, code: int | None
) -> None:
    options = {"publication_data_format": "json_object", "channel_regex": "^[0-9a-f]+$"}
    given = {"api_key": SecretStr(KEY), "namespaces": {"chat": options}}
    async with (
        a_gateway(nats_url, settings=given) as gateway,
        plain_http.client(
            base_url=f"http://127.0.0.1:{gateway.port}",
            headers={"X-API-Key": KEY},
        ) as api,
    ):
        answer = await publish(api, channel=a_channel(), data=data)
        misnamed = await publish(api, channel="chat:x_y", data=data)

    assert answer.get("error", {}).get("code") == code
    assert misnamed["error"]["code"] == 107


async def test_nothing_is_published_before_the_epoch_is_known(bus: Bus) -> None:
    async with start_publisher(bus) as publisher:
        publishing = ChannelPublisher(
            publisher,
            History(StreamReader(bus, "RT")),
            limits=PublishingLimits(deadline_seconds=5),
        )
        api = an_api(publishing, epoch="")
        channel = a_channel()

        answer = await api.call("publish", {"channel": channel, "data": 1})

    assert answer["error"]["code"] == 100
    assert (
        await StreamReader(bus, "RT").last_of(publication_subject(parse_channel(channel))) is None
    )
