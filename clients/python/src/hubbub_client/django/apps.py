"""The application `hubbub`, as `INSTALLED_APPS` has it."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core import checks

from hubbub_client.django.conf import problems


class HubbubConfig(AppConfig):
    name = "hubbub_client.django"
    label = "hubbub"
    verbose_name = "Hubbub"

    def ready(self) -> None:
        checks.register(check_settings, "hubbub")


def check_settings(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[checks.CheckMessage]:
    """What `manage.py check` says, and each command that checks before it begins."""
    return [checks.Error(problem, id="hubbub.E001") for problem in problems()]
