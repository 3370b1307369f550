"""The application `hubbub_outbox`, as `INSTALLED_APPS` has it."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.db import connections, router

SQLITE_OPTIONS = '{"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"}'
"""Then transactions wait for each other: SQLite lets none wait that has read before it writes."""

_LOCK_AT_ONCE = ("IMMEDIATE", "EXCLUSIVE")


class HubbubOutboxConfig(AppConfig):
    name = "hubbub_client.django.outbox"
    label = "hubbub_outbox"
    verbose_name = "Hubbub's outbox"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        checks.register(check_settings, "hubbub")


def check_settings(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[checks.CheckMessage]:
    """What `manage.py check` says, and each command that checks before it begins."""
    found: list[checks.CheckMessage] = []
    if not settings.USE_TZ:
        found.append(checks.Error("Hubbub's outbox needs settings.USE_TZ", id="hubbub.E002"))
    found += [
        checks.Warning(
            f"a transaction on settings.DATABASES[{alias!r}] that reads first fails with "
            "'database is locked' while the relay of Hubbub's outbox writes",
            hint=f'"OPTIONS": {SQLITE_OPTIONS}',
            id="hubbub.W001",
        )
        for alias, database in connections.settings.items()  # with what Django adds to them
        if database["ENGINE"].endswith("sqlite3")
        and router.allow_migrate(alias, HubbubOutboxConfig.label)
        and str(database.get("OPTIONS", {}).get("transaction_mode")).upper() not in _LOCK_AT_ONCE
    ]
    return found
