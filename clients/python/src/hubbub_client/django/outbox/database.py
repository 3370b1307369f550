"""The URL of one of Django's databases, for the relay, which has connections of its own."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from sqlalchemy import URL

_OF_DJANGO = {"pool", "isolation_level", "server_side_binding", "assume_role"}
"""Options of its own connections, which libpq does not have."""


def url_of(alias: str) -> URL:
    """
    Raises:
        ImproperlyConfigured: the relay can't use that database.
    """
    connection = connections[alias]
    settings: dict[str, Any] = connection.settings_dict
    if connection.vendor == "sqlite":
        return URL.create("sqlite", database=str(settings["NAME"]))
    if connection.vendor != "postgresql":
        raise ImproperlyConfigured("the outbox is on PostgreSQL or SQLite")
    options = settings["OPTIONS"].items()
    host = settings["HOST"]
    query = {name: str(value) for name, value in options if name not in _OF_DJANGO}
    return URL.create(
        "postgresql",
        username=settings["USER"] or None,
        password=settings["PASSWORD"] or None,
        host=None if host.startswith("/") else host or None,
        port=int(settings["PORT"]) if settings["PORT"] else None,
        database=settings["NAME"],
        query=query | ({"host": host} if host.startswith("/") else {}),
    )
