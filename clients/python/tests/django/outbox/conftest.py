"""A Django project in a folder, with a database of its own, whose commands are processes."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, make_url

from tests.fixtures.commands import Command, Program, run_command

COMMAND_SECONDS = 60
DJANGO = Program(
    "django",
    (
        "django.core.management.commands.check", "django.core.management.commands.makemigrations",
        "django.core.management.commands.migrate", "django.core.management.commands.shell",
        "django.db.backends.postgresql.base", "django.db.backends.sqlite3.base", "django.test",
        "hubbub_client.outbox.bus", "hubbub_client.outbox.gateway", "hubbub_client.outbox.relay",
        "aiosqlite", "asyncpg",
    ),
)  # fmt: skip
APPS = ["hubbub_client.django", "hubbub_client.django.outbox"]


class Project:
    def __init__(self, folder: Path, database: dict[str, Any]) -> None:
        self._folder = folder
        self._settings: dict[str, Any] = {
            "SECRET_KEY": "a secret",
            "INSTALLED_APPS": APPS,
            "USE_TZ": True,
            "DATABASES": {"default": database},
            "HUBBUB": {"URL": "http://127.0.0.1:9", "API_KEY": "a key"},
        }
        self.set()

    def set(self, **settings: Any) -> None:
        """Change them."""
        self._settings |= settings
        lines = (f"{name} = {value!r}\n" for name, value in self._settings.items())
        (self._folder / "project_settings.py").write_text("".join(lines))

    def run(self, *command: str) -> str:
        """What a command prints."""
        done = run_command(
            *command,
            program=DJANGO,
            env=self._environment,
            cwd=self._folder,
            timeout=COMMAND_SECONDS,
        )
        return done.stdout + done.stderr

    @contextmanager
    def running(self, *command: str) -> Generator[Command]:
        """One that runs until it is stopped."""
        with (self._folder / "log").open("wb") as log:
            process = Command(
                command,
                program=DJANGO,
                env=self._environment,
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    @property
    def _environment(self) -> dict[str, str]:
        return os.environ | {"DJANGO_SETTINGS_MODULE": "project_settings"}


def as_django_has_it(url: str) -> dict[str, Any]:
    """The entry in `DATABASES`."""
    parts: URL = make_url(url)
    if parts.get_backend_name() == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": parts.database}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.database,
        "USER": parts.username,
        "PASSWORD": parts.password or "",
        "HOST": parts.host or parts.query["host"],
        "PORT": parts.port or "",
    }


@pytest.fixture
def project_on(tmp_path: Path, database_url: str) -> Project:
    """On each kind of database in turn, which is empty."""
    return Project(tmp_path, as_django_has_it(database_url))


@pytest.fixture
def sqlite_project(tmp_path: Path, sqlite_url: str) -> Project:
    return Project(tmp_path, as_django_has_it(sqlite_url))
