"""What docs/events.md says of events is so, and what it shows works."""

import asyncio
import json
import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi.testclient import TestClient

from hubbub_client.bus import ConsumerLimits, EventFailed, Events, connect
from hubbub_client.contracts.envelope import Envelope
from hubbub_client.events import event_name
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.nats.client import Bus
from posts_service import events as of_posts
from tests.fixtures.waiting import eventually
from tests.shared.jetstream.builders import publish_event

TEXT = (Path(__file__).resolve().parents[2] / "docs/events.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
SECONDS = 20.0


@pytest.fixture
def page() -> ModuleType:
    """All that the page shows, as one module."""
    module = ModuleType("mailer")
    for snippet in SNIPPETS:
        exec(snippet, module.__dict__)
    return module


def rows(heading: str) -> dict[str, list[str]]:
    """The table below a heading, by its first column."""
    [section] = [each for each in TEXT.split("\n## ") if each.startswith(heading)]
    found = re.findall(r"^\| `([a-z_]+)` \|(.*)\|$", section, re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in found}


async def test_the_consumer_that_is_shown_handles_what_the_posts_service_tells(
    page: ModuleType, nats_url: str, bus: Bus, capsys: pytest.CaptureFixture[str]
) -> None:
    like = of_posts.PostLiked(post_id=7, post_title="Hello", liked_by="Ben", like_count=3)
    envelope = Envelope.of(like)
    async with start_publisher(bus) as publisher, page.events.running(nats_url):
        await page.events.until_ready()
        await publish_event(publisher, envelope)
        printed = ""

        def has_printed() -> bool:
            nonlocal printed
            printed += capsys.readouterr().out
            return f"Ben likes Hello (event {envelope.id})" in printed

        await eventually(has_printed, seconds=SECONDS)


async def test_the_event_that_is_shown_is_told_to_its_recipients_and_to_services(
    page: ModuleType, nats_url: str, bus: Bus
) -> None:
    heard: asyncio.Queue[object] = asyncio.Queue()
    events = Events("documented")

    @events.on(page.OrderShipped, service="shop")
    async def hear(event: object) -> None:
        heard.put_nowait(event)

    async with events.running(nats_url), asyncio.timeout(SECONDS):
        await events.until_ready()
        await page.ship(nats_url, "auth0|17")

        assert await heard.get() == page.OrderShipped(order=17)


async def test_what_failed_is_tried_again_as_it_is_shown(
    page: ModuleType, nats_url: str, bus: Bus, capsys: pytest.CaptureFixture[str]
) -> None:
    like = of_posts.PostLiked(post_id=7, post_title="Hello", liked_by="Grace", like_count=3)
    failure = EventFailed(
        consumer="mailer",
        reason="OSError",
        subject="events.posts.post_liked",
        sequence=1,
        deliveries=20,
        payload=Envelope.of(like, event_id="e1").model_dump_json(),
    )
    async with connect(nats_url, service="mailer") as mailer, page.repair.running(nats_url):
        await mailer.emit(failure)
        await eventually(
            lambda: "Grace likes Hello (event e1)" in capsys.readouterr().out, seconds=SECONDS
        )


def test_an_application_starts_and_stops_with_its_consumer(page: ModuleType, nats_url: str) -> None:
    with TestClient(page.create_app(nats_url)) as browser:
        assert browser.get("/docs").status_code == 200


def test_every_event_of_the_posts_service_is_listed_with_its_fields() -> None:
    models = {
        event_name(model): model
        for model in vars(of_posts).values()
        if isinstance(model, type)
        and issubclass(model, of_posts.PostEvent)
        and model is not of_posts.PostEvent
    }
    listed = rows("The events of the posts service")

    assert {(name, 1) for name in listed} == set(models)
    for (name, _), model in models.items():
        [example] = re.findall(r"`(\{.*\})`", listed[name][1])
        shown: dict[str, Any] = json.loads(example)
        assert set(shown) == set(model.model_fields)
        assert model.model_validate(shown).model_dump(mode="json") == shown


def test_the_envelope_that_is_shown_is_one_and_all_of_its_fields_are_explained() -> None:
    [shown] = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    [table] = [each for each in TEXT.split("\n## ") if each.startswith("On the bus")]

    envelope = Envelope.read(shown.encode())
    assert json.loads(envelope.model_dump_json()) == json.loads(shown)
    assert set(Envelope.model_fields) == set(json.loads(shown))
    explained = re.findall(r"^\| (`.*?) \| ", table, re.MULTILINE)
    assert set(re.findall(r"`([a-z]+)`", " ".join(explained))) == set(Envelope.model_fields)


def test_every_limit_and_every_field_of_a_failed_event_is_documented() -> None:
    shown = {name: cells[0] for name, cells in rows("To consume events").items()}
    defaults = {field.name: field.default for field in fields(ConsumerLimits)}

    assert {name: float(value.strip("`")) for name, value in shown.items()} == defaults
    assert set(rows("Failed events")) == set(EventFailed.model_fields)
