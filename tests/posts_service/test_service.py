"""The whole service beside a real bus: what it tells, whom it believes, what it outlives."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from hubbub_client.contracts.envelope import Envelope
from hubbub_client.contracts.ids import UserId
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.nats.client import Bus, BusUnavailable, connect_bus
from hubbub_client.outbox.limits import RelayLimits
from posts_service.app import create_app, serving
from posts_service.settings import PostsSettings
from shared.jetstream.streams import bootstrap
from shared.sql.migrations import migrate
from shared.sql.outbox_metrics import OutboxMetrics
from shared.tokens.claims import SessionId
from shared.tokens.configured import open_verifier
from shared.tokens.revocations import SESSION_REVOKED_SUBJECT, SessionRevoked
from tests.fixtures.nats import NatsServer, StartServer
from tests.posts_service.callers import HMAC_SECRET, a_client, a_post

Client = httpx2.AsyncClient

DEADLINE_SECONDS = 15


@pytest.fixture
def nats(nats_server: StartServer) -> NatsServer:
    return nats_server()


@pytest.fixture
async def observer(nats: NatsServer) -> AsyncGenerator[Bus]:
    """Another's connection to the bus, on which the streams exist."""
    async with connect_bus(nats.url, name="observer") as bus:
        await bootstrap(bus)
        yield bus


@asynccontextmanager
async def served(
    nats_url: str,
    database_url: str,
    *,
    relay_limits: RelayLimits | None = None,
    is_migrated: bool = True,
) -> AsyncGenerator[FastAPI]:
    """The service with all that its process has around it, but for the listening socket."""
    settings = PostsSettings(
        nats_url=nats_url, database_url=database_url, hmac_secret=SecretStr(HMAC_SECRET)
    )
    registry = CollectorRegistry()
    if is_migrated:
        await migrate(database_url, "posts_service")
    async with (
        open_verifier(settings) as verifier,
        connect_bus(nats_url, name="posts") as bus,
        start_publisher(bus) as publisher,
        serving(
            settings,
            bus=bus,
            publisher=publisher,
            verifier=verifier,
            outbox_metrics=OutboxMetrics(registry),
            relay_limits=relay_limits,
        ) as parts,
    ):
        yield create_app(parts, registry=registry)


async def until_answered(client: Client, path: str, status: int) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (await client.get(path)).status_code != status:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def until_ready(client: Client) -> None:
    await until_answered(client, "/readyz", 200)


async def stored_events(bus: Bus, subject: str = "events.posts.>") -> list[Envelope]:
    """What the EVENTS stream holds, from its start, each as often as it is stored."""
    found: list[Envelope] = []
    sequence = 1
    while True:
        request = json.dumps({"seq": sequence, "next_by_subj": subject}).encode()
        answer = json.loads(
            await bus.request("$JS.API.STREAM.MSG.GET.EVENTS", request, timeout_seconds=20)
        )
        if "error" in answer:
            return found
        message = answer["message"]
        found.append(Envelope.model_validate_json(base64.b64decode(message["data"])))
        sequence = message["seq"] + 1


async def until_stored(bus: Bus, subject: str, count: int) -> list[Envelope]:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                found = await stored_events(bus, subject)
            except BusUnavailable:  # it has only just come back
                found = []
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)


async def test_likes_end_up_on_the_bus_once_and_in_order_for_each_post(
    nats: NatsServer, observer: Bus, database_url: str
) -> None:
    async with served(nats.url, database_url) as app, a_client(app, 1, "Ada") as ada:
        await until_ready(ada)
        posts = [await a_post(ada), await a_post(ada)]

        async def like_both(user_id: int) -> None:
            async with a_client(app, user_id, f"User {user_id}") as user:
                for post_id in posts:
                    assert (await user.put(f"/posts/{post_id}/like")).status_code == 200

        async with asyncio.TaskGroup() as group:
            for user_id in range(2, 12):
                group.create_task(like_both(user_id))
        stored = await until_stored(observer, "events.posts.post_liked", 20)

    assert len({event.id for event in stored}) == 20
    for post_id in posts:
        of_post = [event for event in stored if event.data["post_id"] == post_id]
        assert [event.data["like_count"] for event in of_post] == list(range(1, 11))
        assert {event.recipients for event in of_post} == {("1",)}


async def test_a_commit_wakes_the_relay(nats: NatsServer, observer: Bus, sqlite_url: str) -> None:
    never_by_itself = RelayLimits(idle_seconds=300, lease_seconds=300)
    async with (
        served(nats.url, sqlite_url, relay_limits=never_by_itself) as app,
        a_client(app, 1, "Ada") as ada,
    ):
        await until_ready(ada)
        for count in (1, 2, 3):
            await a_post(ada)
            await until_stored(observer, "events.posts.post_created", count)


async def test_likes_go_on_while_the_bus_is_away_and_all_arrive_in_order(
    nats: NatsServer, observer: Bus, database_url: str
) -> None:
    async with served(nats.url, database_url) as app, a_client(app, 1, "Ada") as ada:
        await until_ready(ada)
        post_id = await a_post(ada)
        nats.kill()

        for user_id in range(2, 8):
            async with a_client(app, user_id, f"User {user_id}") as user:
                assert (await user.post(f"/posts/{post_id}/like")).status_code == 200
        assert (await ada.get("/readyz")).status_code == 200
        nats.start()
        stored = await until_stored(observer, "events.posts.post_liked", 6)

    assert [event.data["like_count"] for event in stored] == [1, 2, 3, 4, 5, 6]


async def test_a_revoked_session_is_refused_and_stays_so_without_the_bus(
    nats: NatsServer, observer: Bus, sqlite_url: str
) -> None:
    async with (
        served(nats.url, sqlite_url) as app,
        a_client(app, 1, "Ada", sid="s-1") as ada,
        a_client(app, 1, "Ada", sid="s-2") as elsewhere,
        start_publisher(observer) as publisher,
    ):
        await until_ready(ada)
        assert (await ada.get("/posts")).status_code == 200

        revoked = SessionRevoked(session_id=SessionId("s-1"), user_id=UserId("1"))
        await publisher.publish(
            SESSION_REVOKED_SUBJECT, revoked.model_dump_json().encode(), message_id=revoked.id
        )

        await until_answered(ada, "/posts", 401)
        assert (await elsewhere.get("/posts")).status_code == 200
        nats.kill()
        assert (await ada.get("/posts")).status_code == 401
        assert (await elsewhere.get("/posts")).status_code == 200


async def test_a_session_that_was_revoked_before_the_start_is_refused(
    nats: NatsServer, observer: Bus, sqlite_url: str
) -> None:
    async with start_publisher(observer) as publisher:
        revoked = SessionRevoked(session_id=SessionId("s-1"), user_id=UserId("1"))
        await publisher.publish(
            SESSION_REVOKED_SUBJECT, revoked.model_dump_json().encode(), message_id=revoked.id
        )

    async with served(nats.url, sqlite_url) as app, a_client(app, 1, "Ada", sid="s-1") as ada:
        await until_ready(ada)
        assert (await ada.get("/posts")).status_code == 401


async def test_until_the_revocations_were_read_nobody_is_believed(
    nats: NatsServer, observer: Bus, sqlite_url: str
) -> None:
    nats.kill()
    async with served(nats.url, sqlite_url) as app, a_client(app, 1, "Ada") as ada:
        answer = await ada.get("/posts")
        readiness = await ada.get("/readyz")

        assert (answer.status_code, answer.json()["code"]) == (503, "revocations_unknown")
        assert (readiness.status_code, readiness.json()["code"]) == (503, "not_ready")
        assert "revocations" in readiness.json()["detail"]
        assert (await ada.get("/livez")).status_code == 200

        nats.start()
        await until_ready(ada)
        assert (await ada.get("/posts")).status_code == 200


async def test_with_a_database_that_is_not_migrated_it_is_not_ready_and_says_what_to_do(
    nats: NatsServer, observer: Bus, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with (
        served(nats.url, sqlite_url, is_migrated=False) as app,
        a_client(app, 1, "Ada") as ada,
    ):
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (answer := await ada.get("/posts")).json()["code"] == "revocations_unknown":  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        readiness = await ada.get("/readyz")

    assert readiness.status_code == 503
    assert "run `hubbub migrate`" in readiness.json()["detail"]
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "Traceback" not in "".join(capsys.readouterr())


async def test_the_depth_of_the_outbox_is_measured(
    nats: NatsServer, observer: Bus, sqlite_url: str
) -> None:
    async with served(nats.url, sqlite_url) as app, a_client(app, 1, "Ada") as ada:
        await until_ready(ada)

        metrics = (await ada.get("/metrics")).text

    assert "hubbub_outbox_depth" in metrics
    assert "hubbub_outbox_oldest" in metrics
