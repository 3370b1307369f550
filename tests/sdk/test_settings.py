"""The settings with which the SDKs' own suites run against a gateway."""

import os
from pathlib import Path

import pytest
from dotenv import dotenv_values

from hubbub.check_config import problems_of

FILES = sorted(Path(__file__).parent.glob("*.env"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_gateway_starts_with_the_settings_for_each_suite(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [each for each in os.environ if each.startswith("HUBBUB_")]:
        monkeypatch.delenv(name)
    for name, value in dotenv_values(file).items():
        monkeypatch.setenv(name, value or "")

    assert problems_of("gateway") == []


def test_there_are_settings_for_each_suite() -> None:
    assert [file.name for file in FILES] == ["cent.env", "js.env", "python.env"]
