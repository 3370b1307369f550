"""`manage.py check` says in a line what is wrong with the settings."""

import re
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings

from hubbub_client.django import the_hubbub

GOOD = {"URL": "http://127.0.0.1:8000", "API_KEY": "a key"}


def test_good_settings_are_silent() -> None:
    with override_settings(HUBBUB=GOOD | {"DEADLINE_SECONDS": 0.5}):
        call_command("check")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (None, "there is no settings.HUBBUB = {"),
        ("http://127.0.0.1:8000", "there is no settings.HUBBUB = {"),
        (GOOD | {"API_KY": "a key"}, "settings.HUBBUB has no 'API_KY', only URL, API_KEY"),
        ({"API_KEY": "a key"}, "settings.HUBBUB['URL'] is no URL of HTTP"),
        (GOOD | {"URL": "127.0.0.1:8000"}, "settings.HUBBUB['URL'] is no URL of HTTP"),
        (GOOD | {"API_KEY": ""}, "settings.HUBBUB['API_KEY'] is no text, empty, or"),
        (GOOD | {"API_KEY": None}, "settings.HUBBUB['API_KEY'] is no text, empty, or"),
        (GOOD | {"URL": "http://["}, "settings.HUBBUB['URL'] is no URL of HTTP"),
        (GOOD | {"URL": "http://127.0.0.1:abc"}, "settings.HUBBUB['URL'] is no URL of HTTP"),
        (GOOD | {"API_KEY": "schlüssel"}, "settings.HUBBUB['API_KEY'] is no text, empty, or"),
        (GOOD | {"DEADLINE_SECONDS": 0}, "settings.HUBBUB['DEADLINE_SECONDS'] is no number"),
        (GOOD | {"DEADLINE_SECONDS": 300}, "settings.HUBBUB['DEADLINE_SECONDS'] is no number"),
        (GOOD | {"DEADLINE_SECONDS": "3"}, "settings.HUBBUB['DEADLINE_SECONDS'] is no number"),
        (GOOD | {"NATS_URL": b"nats://"}, "settings.HUBBUB['NATS_URL'] is no text"),
        (GOOD | {"NATS_CREDS": 1}, "settings.HUBBUB['NATS_CREDS'] is no text"),
        (GOOD | {"NATS_CA": 1}, "settings.HUBBUB['NATS_CA'] is no text"),
    ],
)
def test_each_mistake_has_a_line(wrong: Any, said: str) -> None:
    with override_settings(HUBBUB=wrong):
        with pytest.raises(SystemCheckError) as checked:
            call_command("check")
        with pytest.raises(ImproperlyConfigured) as asked:
            the_hubbub()

    [line] = re.findall(r"^\?: \(hubbub\.E001\) (.*)$", str(checked.value), re.MULTILINE)
    assert line.startswith(said)
    assert str(asked.value) == line
