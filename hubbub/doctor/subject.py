"""What a doctor looks at: the system on a data folder, or what an environment describes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import URL

from hubbub.check_config import SETTINGS
from hubbub.data_folder import DEFAULT_PATH, DataFolder, Running
from hubbub.migrate import PACKAGES
from hubbub_client.nats.address import credentials_of
from shared.runtime.settings import ServiceSettings, read_settings

_USER = "operator"
_OF_USERS = {_USER: "doctor"}
"""The inbox of each user of the bus is called as the user, but for this one, who has several."""


@dataclass(frozen=True, slots=True)
class BusAddress:
    """How to reach the bus."""

    url: str
    creds: Path | None
    ca: Path | None
    inbox: str
    """Its name: of others' the user may not read the answers."""


@dataclass(frozen=True, slots=True)
class Subject:
    """All that can be looked at."""

    settings: ServiceSettings
    service: str | None = None
    """Whose settings they are, if they are a service's."""
    folder: DataFolder | None = None
    running: Running | None = None
    """What runs on the folder."""
    bus: BusAddress | None = None
    """None if nothing runs, or none is known."""
    databases: Mapping[str, URL] = field(default_factory=dict)
    services: tuple[str, ...] = ()
    """The origins of what answers by HTTP."""


def subject_of(service: str | None, data: Path | None, urls: tuple[str, ...]) -> Subject:
    """What the options and the environment mean; without either, the folder that `up` would use.

    Where there is no such folder, and URLs are given, they are all that is meant.

    Raises:
        WrongSettings: what the environment says.
    """
    settings = read_settings(
        SETTINGS[service] if service else ServiceSettings, alone=service is not None
    )
    is_named = service is not None or "nats_url" in settings.model_fields_set
    if data is None and is_named:
        return _described(service, settings, urls)
    if data is None and urls and not DEFAULT_PATH.exists():
        return Subject(settings, services=urls)
    return _on(DataFolder(data or DEFAULT_PATH), settings, urls)


def _described(service: str | None, settings: ServiceSettings, urls: tuple[str, ...]) -> Subject:
    url = getattr(settings, "database_url", None)
    user, _ = credentials_of(settings.nats_url.split(","))
    inbox = _OF_USERS.get(user or "", user) or service or "doctor"
    return Subject(
        settings,
        service=service,
        bus=BusAddress(settings.nats_url, settings.nats_creds, settings.nats_ca, inbox),
        databases={} if url is None or service is None else {service: url},
        services=urls,
    )


def _on(folder: DataFolder, settings: ServiceSettings, urls: tuple[str, ...]) -> Subject:
    running = folder.running() if folder.is_in_use else None
    bus = None
    if running is not None:
        url = folder.bus_url_file(_USER).read_text(encoding="utf-8").strip()
        bus = BusAddress(url, None, None, _OF_USERS[_USER])
    return Subject(
        settings,
        folder=folder,
        running=running,
        bus=bus,
        databases={name: folder.database_url(name) for name in PACKAGES},
        services=(*((running.url, *running.gateways) if running else ()), *urls),
    )
