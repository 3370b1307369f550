"""What a doctor finds on this machine, without a bus or a database."""

from pathlib import Path

import pytest

from auth_service.signing import make_signing_key
from hubbub.data_folder import DataFolder, Running
from hubbub.doctor.findings import Finding, Level
from hubbub.doctor.here import look_here
from hubbub.doctor.subject import Subject
from shared.runtime.settings import ServiceSettings

pytestmark = pytest.mark.usefixtures("bare_process")


def found_of(about: str, subject: Subject) -> Finding:
    [found] = [each for each in look_here(subject) if each.about == about]
    return found


@pytest.mark.parametrize(
    ("mode", "level"), [(0o600, Level.OK), (0o640, Level.ERROR), (0o604, Level.ERROR)]
)
def test_a_signing_key_that_others_can_read_is_told(
    tmp_path: Path, mode: int, level: Level
) -> None:
    folder = DataFolder(tmp_path)
    make_signing_key(folder.signing_key)
    folder.signing_key.chmod(mode)

    found = found_of("keys", Subject(ServiceSettings(), folder=folder))

    assert (found.level, "others can read" in found.says) == (level, level is Level.ERROR)


def test_a_signing_key_that_is_damaged_is_told(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.signing_key.write_bytes(b"-----BEGIN PRIVATE KEY-----\n\xfc")

    found = found_of("keys", Subject(ServiceSettings(), folder=folder))

    assert (found.level, found.todo.startswith("put back the file")) == (Level.ERROR, True)


def test_a_system_that_runs_on_in_an_old_version_is_told() -> None:
    running = Running(pid=1, version="0.0.1", url="http://a", nats_url="nats://a")

    found = found_of("versions", Subject(ServiceSettings(), running=running))

    assert (found.level, found.todo) == (Level.WARNING, "restart `hubbub up`")


@pytest.mark.parametrize(
    ("origins", "level"), [("", Level.OK), ("https://a.example", Level.OK), ("*", Level.WARNING)]
)
def test_origins_that_are_open_to_all_the_world_are_told(origins: str, level: Level) -> None:
    settings = ServiceSettings(allowed_origins=origins)

    assert found_of("origins", Subject(settings)).level is level
