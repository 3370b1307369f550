"""`settings.HUBBUB`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from hubbub_client.exchange import KEY_SECONDS
from hubbub_client.http import is_api_key, is_url

SETTING = "HUBBUB"


@dataclass(frozen=True, slots=True)
class HubbubSettings:
    """The names that it has there are these, in capital letters."""

    url: str
    """Of a gateway, or of what stands before all of them."""
    api_key: str = field(repr=False)
    """Which the gateways know as `HUBBUB_API_KEY`."""
    deadline_seconds: float = 3.0
    """For a command with all its retries, while which a request waits."""
    nats_url: str | None = field(default=None, repr=False)
    """Of the bus, or the file that has it: an outbox is relayed there, else to the gateway."""
    nats_creds: str | None = None
    """A file with credentials, instead of those."""
    nats_ca: str | None = None
    """A file with the authority of the bus's certificate."""


NAMES = tuple(each.name.upper() for each in fields(HubbubSettings))


def hubbub_settings() -> HubbubSettings:
    """
    Raises:
        ImproperlyConfigured: they are not what they should be.
    """
    problem = next(problems(), None)
    if problem is not None:
        raise ImproperlyConfigured(problem)
    given = getattr(settings, SETTING)
    return HubbubSettings(**{name.lower(): value for name, value in given.items()})


def problems() -> Iterator[str]:
    """What is wrong with them, a line each."""
    given: Any = getattr(settings, SETTING, None)
    if not isinstance(given, Mapping):
        yield f'there is no settings.{SETTING} = {{"URL": …, "API_KEY": …}}'
        return
    for name in given:
        if name not in NAMES:
            yield f"settings.{SETTING} has no {name!r}, only {', '.join(NAMES)}"
    if not is_url(given.get("URL")):
        yield f"settings.{SETTING}['URL'] is no URL of HTTP, such as http://127.0.0.1:8000"
    if not is_api_key(given.get("API_KEY")):
        yield f"settings.{SETTING}['API_KEY'] is no text, empty, or can't stand in a header"
    for name in ("NATS_URL", "NATS_CREDS", "NATS_CA"):
        if not isinstance(given.get(name, ""), str | None):
            yield f"settings.{SETTING}['{name}'] is no text"
    seconds = given.get("DEADLINE_SECONDS", 1)
    if not isinstance(seconds, int | float) or not 0 < seconds < KEY_SECONDS:
        yield (f"settings.{SETTING}['DEADLINE_SECONDS'] is no number between 0 and {KEY_SECONDS}")
