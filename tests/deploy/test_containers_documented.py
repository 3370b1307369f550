"""What can be set of the containers is in docs/containers.md, and nothing else is."""

import re
from pathlib import Path

from hubbub.check_config import SETTINGS
from shared.runtime.environment import environment_names
from tests.deploy.compose_file import COMPOSE_FILES, services_of
from tests.deploy.manifests import ROOT

DOCUMENT = (ROOT / "docs/containers.md").read_text()
NAMED = set(re.findall(r"`(HUBBUB_[A-Z_]+)`", DOCUMENT))
PUT_IN = re.compile(r"\$\{(HUBBUB_[A-Z_]+):")


def _taken_by(*files: Path) -> set[str]:
    return {name for file in files for name in PUT_IN.findall(file.read_text())}


def test_every_variable_of_the_compose_files_is_documented() -> None:
    assert _taken_by(*COMPOSE_FILES) - NAMED == set()


def test_no_variable_is_documented_that_nobody_reads() -> None:
    settings = {name for each in SETTINGS.values() for name in environment_names(each)}

    assert NAMED - _taken_by(*COMPOSE_FILES) - settings == set()


def test_every_service_is_documented() -> None:
    assert [
        name for name in services_of(ROOT / "compose.yaml") if f"`{name}`" not in DOCUMENT
    ] == []


def test_every_overlay_is_documented() -> None:
    overlays = [file for file in COMPOSE_FILES if file.name != "compose.yaml"]

    assert len(overlays) >= 5
    assert [file.name for file in overlays if f"[{file.name}]" not in DOCUMENT] == []


def test_a_new_version_reaches_every_container_and_the_bus_before_all_that_need_it() -> None:
    services = services_of(ROOT / "compose.yaml")
    recipe = DOCUMENT.partition("**A new version**")[2].split("```")[1]
    updated = [word for word in re.split(r"[\s;]+", recipe) if word in services]

    other_images = {"nats", "postgres", "edge"}
    by_hand = {"cli", "secrets"}
    assert updated[0] == "nats"
    assert updated[-1] == "streams"
    assert set(updated[1:]) == set(services) - other_images - by_hand
