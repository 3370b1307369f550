"""`manage.py hubbub_relay`: sends what the outbox holds, until it is stopped."""

import asyncio
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS

from hubbub_client.django.conf import HubbubSettings, hubbub_settings
from hubbub_client.django.outbox.database import url_of
from hubbub_client.outbox.__main__ import CannotRelay, read_settings, relay_until_signal


class Command(BaseCommand):
    help = "Send what the outbox holds, until stopped. Of several, one is at work."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help="Its alias in DATABASES.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            settings = read_settings([], environment(hubbub_settings(), options["database"]))
            asyncio.run(relay_until_signal(settings))
        except (CannotRelay, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error


def environment(wanted: HubbubSettings, alias: str) -> dict[str, str]:
    """What the library's own command would find there."""
    known = {
        "HUBBUB_OUTBOX_DATABASE_URL": url_of(alias).render_as_string(hide_password=False),
        "HUBBUB_URL": "" if wanted.nats_url else wanted.url,
        "HUBBUB_API_KEY": wanted.api_key,
        "HUBBUB_NATS_URL": wanted.nats_url,
        "HUBBUB_NATS_CREDS": wanted.nats_creds,
        "HUBBUB_NATS_CA": wanted.nats_ca,
    }
    return {name: value for name, value in known.items() if value}
