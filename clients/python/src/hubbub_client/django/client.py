"""The client of this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.signals import setting_changed

from hubbub_client.django.conf import SETTING, hubbub_settings
from hubbub_client.exchange import Limits
from hubbub_client.sync_client import SyncHubbub

_made: SyncHubbub | None = None


def the_hubbub() -> SyncHubbub:
    """Made from the settings when it is first asked for; for all threads, also after a fork.

    What it is told it does at once, and it raises what `notify` and `publish` here only log.

    Raises:
        ImproperlyConfigured: there are no good settings.
    """
    global _made
    if (hubbub := _made) is None:  # no lock: it could be held at a fork, and one more does no harm
        wanted = hubbub_settings()
        limits = Limits(deadline_seconds=wanted.deadline_seconds)
        hubbub = _made = SyncHubbub(wanted.url, wanted.api_key, limits=limits)
    return hubbub


@contextmanager
def another_hubbub(client: SyncHubbub) -> Iterator[None]:
    """Put it in the place of the application's own while the body runs, for tests."""
    global _made
    before, _made = _made, client
    try:
        yield
    finally:
        _made = before


def _forget(*, setting: str, **_: Any) -> None:
    """As `override_settings` says."""
    global _made
    if setting == SETTING:
        _made = None


setting_changed.connect(_forget)
