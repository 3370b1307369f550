"""`manage.py hubbub_relay` sends what the application has committed."""

import asyncio
import json
import re
import secrets
import signal
from typing import Any

import pytest

from clients.python.tests.conftest import API_KEY
from clients.python.tests.django.outbox.conftest import COMMAND_SECONDS, Project
from clients.python.tests.outbox.builders import until
from clients.python.tests.test_documents import OUTBOX
from hubbub_client import Hubbub
from hubbub_client.django.outbox.apps import SQLITE_OPTIONS
from tests.gateway.chatting import RunningGateway

STOP_SECONDS = 20
TELL = """
from django.core.management import call_command
from django.db import transaction
from pydantic import BaseModel
from hubbub_client.django.outbox import append, append_publication

class InvoicePaid(BaseModel):
    invoice_id: int

call_command("migrate", verbosity=0)
with transaction.atomic():
    append(InvoicePaid(invoice_id=17), recipients=[{user!r}])
    append_publication("chat:{user}", "hi")
"""


async def until_published(url: str, channel: str) -> list[Any]:
    """What it has, once the relay has begun its work, which takes a busy machine a while."""
    found: list[Any] = []
    async with Hubbub(url, API_KEY) as hubbub:

        async def is_there() -> bool:
            found.extend(each.data for each in (await hubbub.history(channel)).publications)
            return bool(found)

        await until(is_there, seconds=COMMAND_SECONDS)
    return found


@pytest.mark.parametrize("destination", ["bus", "gateway"])
async def test_it_sends_what_is_committed_and_stops_when_it_is_told_to(
    destination: str, project_on: Project, gateway: RunningGateway, url: str, nats_url: str
) -> None:
    user = secrets.token_hex(6)
    told = {"URL": url, "API_KEY": API_KEY}
    project_on.set(HUBBUB=told | ({"NATS_URL": nats_url} if destination == "bus" else {}))
    assert "Error" not in await asyncio.to_thread(
        project_on.run, "shell", "-c", TELL.format(user=user)
    )

    with project_on.running("hubbub_relay") as relay:
        assert await until_published(url, f"chat:{user}") == ["hi"]
        if destination == "gateway":
            [notification] = await until_published(url, f"#{user}")
            assert notification["invoice_id"] == 17
        relay.send_signal(signal.SIGTERM)
        status = await asyncio.to_thread(relay.wait, STOP_SECONDS)

    assert (status, "Traceback" in project_on.log) == (0, False), project_on.log


def test_what_it_can_not_use_it_says_in_a_line(sqlite_project: Project) -> None:
    sqlite_project.set(HUBBUB={"URL": "nowhere", "API_KEY": "k"})
    assert "settings.HUBBUB['URL'] is no URL" in sqlite_project.run("hubbub_relay", "--skip-checks")

    sqlite_project.set(USE_TZ=False)
    assert "(hubbub.E002)" in sqlite_project.run("check")


def test_on_sqlite_it_is_said_how_transactions_wait_for_the_relay(sqlite_project: Project) -> None:
    assert "(hubbub.W001)" in sqlite_project.run("check")

    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.sqlite3"}
    [options] = re.findall(r"^OPTIONS = (.*)$", OUTBOX, re.MULTILINE)
    assert options == SQLITE_OPTIONS
    sqlite_project.set(DATABASES={"default": database | {"OPTIONS": json.loads(options)}})
    assert "no issues" in sqlite_project.run("check", "--database", "default")
    assert "Traceback" not in sqlite_project.run("migrate")


def test_a_project_whose_default_database_is_empty_is_checked_too(sqlite_project: Project) -> None:
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.sqlite3"}
    sqlite_project.set(DATABASES={"default": {}, "shop": database})

    said = sqlite_project.run("check")

    assert "settings.DATABASES['shop'] that reads first" in said, said
    assert "settings.DATABASES['default']" not in said
