"""The application `hubbub_outbox`, as `INSTALLED_APPS` has it."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks


class HubbubOutboxConfig(AppConfig):
    name = "hubbub_client.django.outbox"
    label = "hubbub_outbox"
    verbose_name = "Hubbub's outbox"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        checks.register(check_settings, "hubbub")


def check_settings(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[checks.CheckMessage]:
    """What `manage.py check` says, and each command that checks before it begins."""
    if settings.USE_TZ:
        return []
    return [checks.Error("Hubbub's outbox needs settings.USE_TZ", id="hubbub.E002")]
