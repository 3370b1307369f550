"""A Django project in this process, with a database in memory."""

from collections.abc import Iterator

import django
import pytest
from django.conf import settings

from hubbub_client.recorder import Recorder


@pytest.fixture(scope="session", autouse=True)
def project() -> None:
    """There is one for a process."""
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        HUBBUB={"URL": "http://nowhere", "API_KEY": "any"},
        INSTALLED_APPS=["hubbub_client.django"],
        LOGGING_CONFIG=None,
    )
    django.setup()


@pytest.fixture
def recorder(hubbub_recorder: Recorder) -> Iterator[Recorder]:
    """The application's client tells it."""
    from hubbub_client.django import another_hubbub

    with another_hubbub(hubbub_recorder.sync_hubbub):
        yield hubbub_recorder
