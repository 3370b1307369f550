"""What NATS's chart makes of our values is a server that knows our accounts."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from hubbub_client.nats.client import connect_bus
from tests.deploy.manifests import (
    DEPLOY,
    KUBERNETES,
    component,
    container_of,
    kustomization_of,
    named,
    of_kind,
    read_yaml,
    secret_files,
)
from tests.fixtures.nats import StartServer
from tests.fixtures.waiting import eventually

VALUES: dict[str, Any] = read_yaml(KUBERNETES / "nats-values.yaml")
CONNECT_SECONDS = 20


def _as_the_chart_writes_it(config: dict[str, Any]) -> str:
    """JSON, but for `<< 256KB >>`, which loses its quotes, and `$include`, which becomes one."""
    text = json.dumps(config, indent=2, sort_keys=True)
    text = re.sub(r'".*\$include": "(.*)",?', r"include \1;", text)
    return re.sub(r'"<<\s+(.*)\s+>>"', r"\1", text)


def _volume() -> dict[str, Any]:
    [patch] = VALUES["podTemplate"]["patch"]
    assert patch["path"] == "/spec/volumes/-"
    volume: dict[str, Any] = patch["value"]
    return volume


def _mount() -> dict[str, Any]:
    [patch] = VALUES["container"]["patch"]
    assert patch["path"] == "/volumeMounts/-"
    mount: dict[str, Any] = patch["value"]
    return mount


async def test_a_server_with_these_values_knows_the_services(
    nats_server: StartServer, secrets_made: Path, tmp_path: Path
) -> None:
    mounted = tmp_path / Path(_mount()["mountPath"]).name
    _, secret = _volume()["projected"]["sources"]
    [item] = secret["secret"]["items"]
    passwords = mounted / item["path"]
    passwords.parent.mkdir(parents=True)
    passwords.write_text((secrets_made / "nats" / item["key"]).read_text())
    (mounted / "accounts.conf").write_text((DEPLOY / "nats/accounts.conf").read_text())

    server = nats_server(_as_the_chart_writes_it(VALUES["config"]["merge"]))

    for user in ("gateway", "posts", "auth", "bootstrap", "application"):
        given = (secrets_made / user / "nats_url").read_text().strip()
        url = given.replace("@nats:4222", f"@127.0.0.1:{server.port}")
        async with connect_bus(url, name=user) as bus, asyncio.timeout(CONNECT_SECONDS):
            await bus.until_connected()
    async with connect_bus(server.url, name="nobody"):
        await eventually(lambda: "authentication error" in server.log, seconds=CONNECT_SECONDS)


def test_the_charts_server_has_the_limits_that_compose_has() -> None:
    compose = (DEPLOY / "nats/nats.conf").read_text()
    config = VALUES["config"]["merge"]

    for name in ("max_payload", "write_deadline"):
        [value] = re.findall(rf"^{name}: (.*)$", compose, re.MULTILINE)
        assert value.strip('"') == config[name].strip("<> ")


def test_the_accounts_are_where_the_config_includes_them_from() -> None:
    included = Path("/etc/nats-config") / VALUES["config"]["merge"]["$include"]
    mount = _mount()

    assert mount["name"] == _volume()["name"]
    assert str(included.parent.resolve()) == mount["mountPath"]
    assert mount["mountPath"].startswith("/etc/")  # what the chart's reloader watches


def test_a_new_password_makes_the_server_read_its_configuration_again() -> None:
    option, watched = (patch["value"] for patch in VALUES["reloader"]["patch"])
    [item] = _volume()["projected"]["sources"][1]["secret"]["items"]

    assert option == "-config"
    assert watched == f"{_mount()['mountPath']}/{item['path']}"


def test_the_chart_mounts_what_kustomize_makes() -> None:
    config_map, secret = _volume()["projected"]["sources"]
    [made] = kustomization_of(DEPLOY / "nats")["configMapGenerator"]
    [item] = secret["secret"]["items"]

    assert config_map["configMap"]["name"] == made["name"]
    assert made["files"] == ["accounts.conf"]
    assert made["options"] == {"disableNameSuffixHash": True}  # the chart would not follow it
    [file] = secret_files()[secret["secret"]["name"]]
    assert Path(file).name == item["key"]


def test_there_is_a_server_for_each_replica_of_a_stream() -> None:
    [job] = [each for each in of_kind("Job") if component(each) == "bootstrap-streams"]
    arguments = container_of(job)["args"]

    assert arguments[-2:] == ["--replicas", str(VALUES["config"]["cluster"]["replicas"])]


def test_the_network_knows_the_charts_pods() -> None:
    policy = named("NetworkPolicy", "nats")["spec"]

    assert policy["podSelector"]["matchLabels"] == {
        "app.kubernetes.io/name": "nats",
        "app.kubernetes.io/component": "nats",
    }
