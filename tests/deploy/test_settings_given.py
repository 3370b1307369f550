"""What compose and the manifests set is what the processes read, and what they accept."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

import hubbub_client.outbox
from hubbub.check_config import SETTINGS, problems_of
from shared.runtime.environment import environment_names
from tests.deploy import compose_file
from tests.deploy.compose_file import COMPOSE_FILES, services_of
from tests.deploy.manifests import (
    DEPLOY,
    SERVICES,
    WORKLOADS,
    Resource,
    container_of,
    environment_of,
    named,
    of_kind,
    pod_of,
    secret_files,
    title,
)

MOUNTED_AT = "/run/hubbub"
KNOWN = {name for settings in SETTINGS.values() for name in environment_names(settings)}
KNOWN |= {f"{name}_FILE" for name in KNOWN}
OF_THE_EDGE = set(re.findall(r"\{\$(HUBBUB_[A-Z_]+)", (DEPLOY / "edge/Caddyfile").read_text()))
COMPOSE = "".join(path.read_text() for path in COMPOSE_FILES)
RELAY = Path(hubbub_client.outbox.__file__).with_name("__main__.py").read_text()
OF_COMPOSE = [
    pytest.param(service, id=f"{path.name}-{name}")
    for path in COMPOSE_FILES
    for name, service in services_of(path).items()
]


def _process_with(
    monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str], mounted: Path
) -> None:
    """Make this process's environment that one, with the secrets where they lie here."""
    for name in [name for name in os.environ if name.startswith("HUBBUB_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.replace(MOUNTED_AT, str(mounted)))


@pytest.mark.parametrize("service", SERVICES)
def test_the_service_accepts_what_its_manifest_gives_it(
    service: str, secrets_made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = environment_of(named("Deployment", service))
    _process_with(monkeypatch, environment, secrets_made / service)

    assert problems_of(service) == []


@pytest.mark.parametrize("name", ["gateway-1", "gateway-2", "auth", "posts"])
def test_the_service_accepts_what_compose_gives_it(
    name: str, secrets_made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [compose] = [path for path in COMPOSE_FILES if path.name == "compose.yaml"]
    service = name.partition("-")[0]
    environment = compose_file.environment_of(services_of(compose)[name])
    _process_with(monkeypatch, environment, secrets_made / service)

    assert problems_of(service) == []


@pytest.mark.parametrize("workload", WORKLOADS, ids=title)
def test_no_manifest_sets_what_nobody_reads(workload: Resource) -> None:
    given = {name for name in environment_of(workload) if name.startswith("HUBBUB_")}

    assert given
    assert given <= KNOWN


@pytest.mark.parametrize("service", OF_COMPOSE)
def test_compose_sets_nothing_that_nobody_reads(service: dict[str, object]) -> None:
    environment = compose_file.environment_of(service)
    given = {name for name in environment if name.startswith("HUBBUB_")}

    assert given <= KNOWN | OF_THE_EDGE


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("reader", [COMPOSE, RELAY], ids=["compose", "relay"])
def test_one_file_may_have_the_settings_of_services_and_those_beside_them(
    reader: str, service: str, secrets_made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = set(re.findall(r"HUBBUB_[A-Z_]+", reader)) - KNOWN
    environment = environment_of(named("Deployment", service)) | dict.fromkeys(beside, "x")
    _process_with(monkeypatch, environment, secrets_made / service)

    assert beside
    assert problems_of(service) == []


@pytest.mark.parametrize("workload", WORKLOADS, ids=title)
def test_every_secret_that_is_read_is_in_the_secret_that_is_mounted(workload: Resource) -> None:
    secrets = {
        mount["mountPath"]: volume["secret"]["secretName"]
        for mount in container_of(workload)["volumeMounts"]
        for volume in pod_of(workload)["volumes"]
        if volume["name"] == mount["name"] and "secret" in volume
    }
    read = {
        Path(value)
        for name, value in environment_of(workload).items()
        if name.startswith("HUBBUB_") and name.endswith("_FILE")
    }
    kept = {Path(file).name for file in secret_files()[secrets[MOUNTED_AT]]}

    assert {str(path.parent) for path in read} == {MOUNTED_AT} == secrets.keys()
    assert {path.name for path in read} == kept  # it is given nothing that it does not read


def test_the_secrets_of_the_example_are_those_that_are_made(secrets_made: Path) -> None:
    wanted = {file for files in secret_files().values() for file in files}

    assert {file for file in wanted if not file.startswith("secrets/")} == set()
    missing = {
        file for file in wanted if not (secrets_made / file.removeprefix("secrets/")).exists()
    }
    assert missing == set()


def test_every_secret_that_a_manifest_names_is_made_by_the_example() -> None:
    mounted = {
        volume["secret"]["secretName"]
        for workload in of_kind("Deployment", "Job")
        for volume in pod_of(workload)["volumes"]
        if "secret" in volume
    }

    of_others = {"nats-passwords", "hubbub-application"}
    assert mounted | of_others == secret_files().keys()
