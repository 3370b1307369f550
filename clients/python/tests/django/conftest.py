"""A Django project in this process, with a database in memory."""

from collections.abc import Iterator

import django
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections

from hubbub_client.recorder import Recorder


@pytest.fixture(scope="session", autouse=True)
def project() -> Iterator[None]:
    """There is one for a process."""
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        HUBBUB={"URL": "http://nowhere", "API_KEY": "any"},
        INSTALLED_APPS=["hubbub_client.django", "hubbub_client.django.outbox"],
        LOGGING_CONFIG=None,
        USE_TZ=True,
    )
    django.setup()
    yield
    connections.close_all()


@pytest.fixture
def recorder(hubbub_recorder: Recorder) -> Iterator[Recorder]:
    """The application's client tells it."""
    from hubbub_client.django import another_hubbub

    with another_hubbub(hubbub_recorder.sync_hubbub):
        yield hubbub_recorder


@pytest.fixture
def outbox(project: None) -> Iterator[None]:
    """Its tables, which are empty."""
    call_command("migrate", verbosity=0)
    yield
    call_command("migrate", "hubbub_outbox", "zero", verbosity=0)
