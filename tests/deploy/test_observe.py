"""Prometheus and Grafana look at what is there: processes, metrics, labels."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from hubbub_client.nats.client import Bus
from shared.sql.outbox_metrics import OutboxMetrics
from tests.deploy.compose_file import OBSERVING, services_of
from tests.deploy.manifests import (
    DEPLOY,
    KUBERNETES,
    ROOT,
    SERVICES,
    documents_of,
    named,
    pod_of,
    read_yaml,
)
from tests.deploy.promql import Asked, asked_for
from tests.deploy.test_settings_given import KNOWN
from tests.fixtures import plain_http
from tests.gateway.chatting import a_gateway, a_room
from tests.gateway.serving import until

PROMETHEUS = DEPLOY / "observe/prometheus"
PROVISIONING = DEPLOY / "observe/grafana/provisioning"
GIVEN_BY_SCRAPING = {"instance", "job"}
GRID_COLUMNS = 24

Exposed = dict[str, set[str]]
"""The labels of each sample."""

RULES = [
    rule for group in read_yaml(PROMETHEUS / "alerts.yml")["groups"] for rule in group["rules"]
]
BOARD: dict[str, Any] = json.loads((PROVISIONING / "dashboards/hubbub.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]


def _samples(text: str) -> Exposed:
    """Also of families without a sample yet: those have no labels that we could see."""
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
async def exposed(nats_url: str, bus: Bus) -> Exposed:
    """What a gateway shows that has seen a message, a mistake and a farewell; and an outbox."""
    async with a_gateway(nats_url) as gateway:
        async with gateway.tab(1, "Ann", a_room()) as tab:
            await tab.say("hello")
            await tab.send(type="nonsense")
            await tab.until("error")
        await until(lambda: "hubbub_closes_total{" in generate_latest(gateway.registry).decode())
        async with plain_http.client() as client:
            response = await client.get(f"http://127.0.0.1:{gateway.port}/metrics")
    registry = CollectorRegistry()
    OutboxMetrics(registry).of("posts")
    return _samples(response.text) | _samples(generate_latest(registry).decode())


def _not_there(asked: list[Asked], exposed: Exposed) -> list[Asked]:
    return [
        each
        for each in asked
        if each.metric not in exposed or not each.labels <= exposed[each.metric] | GIVEN_BY_SCRAPING
    ]


def _asked_by_the_board() -> list[Asked]:
    expressions = [target["expr"] for panel in PANELS for target in panel["targets"]]
    expressions += [variable["definition"] for variable in BOARD["templating"]["list"]]
    return [asked for expression in expressions for asked in asked_for(expression)]


async def test_the_alerts_ask_for_what_is_counted(exposed: Exposed) -> None:
    asked = [asked for rule in RULES for asked in asked_for(rule["expr"])]

    assert len(asked) >= len(RULES) - 1  # one asks for `up`, which is Prometheus's
    assert _not_there(asked, exposed) == []


async def test_the_board_asks_for_what_is_counted(exposed: Exposed) -> None:
    asked = _asked_by_the_board()

    assert len(asked) > len(PANELS) / 2
    assert _not_there(asked, exposed) == []


async def test_the_board_shows_everything_that_is_counted(exposed: Exposed) -> None:
    shown = {asked.metric for asked in _asked_by_the_board()}
    counted = {name for name in exposed if not name.endswith(("_created", "_sum", "_count"))}

    assert counted - shown == set()


async def test_the_autoscaler_asks_for_what_is_counted(exposed: Exposed) -> None:
    metrics = named("HorizontalPodAutoscaler", "gateway")["spec"]["metrics"]
    [custom] = [metric["pods"]["metric"]["name"] for metric in metrics if "pods" in metric]
    [adapter] = documents_of(KUBERNETES / "prometheus-adapter-values.yaml")
    [rule] = adapter["rules"]["custom"]

    assert custom in exposed
    assert re.fullmatch(rule["name"]["matches"], custom)
    assert {asked.metric for asked in asked_for(rule["seriesQuery"])} == {custom}


def test_prometheus_asks_every_process_of_compose() -> None:
    jobs = read_yaml(PROMETHEUS / "prometheus.yml")["scrape_configs"]
    targets = {
        target: job["job_name"]
        for job in jobs
        for config in job["static_configs"]
        for target in config["targets"]
    }
    serving = {
        f"{name}:{command[command.index('--port') + 1]}": command[0]
        for name, service in services_of(ROOT / "compose.yaml").items()
        if (command := service.get("command") or [""])[0] in SERVICES
    }

    assert len(serving) == 4
    assert targets == serving


def test_prometheus_is_on_a_network_with_everybody_it_asks() -> None:
    services = services_of(ROOT / "compose.yaml")
    asked = [services[name]["networks"] for name in ("gateway-1", "gateway-2", "auth", "posts")]
    observing = services_of(OBSERVING)

    assert all(set(networks) & set(observing["prometheus"]["networks"]) for networks in asked)
    assert set(observing["grafana"]["networks"]) & set(observing["prometheus"]["networks"])


@pytest.mark.parametrize(
    ("name", "folder", "mounted_at"),
    [
        ("prometheus", PROMETHEUS, "/etc/prometheus"),
        ("grafana", PROVISIONING, "/etc/grafana/provisioning"),
    ],
)
def test_what_observes_finds_its_files(name: str, folder: Path, mounted_at: str) -> None:
    service = services_of(OBSERVING)[name]

    assert f"./{folder.relative_to(ROOT)}:{mounted_at}:ro" in service["volumes"]


def test_the_datasource_is_prometheus() -> None:
    [datasource] = read_yaml(PROVISIONING / "datasources/prometheus.yml")["datasources"]
    [port] = services_of(OBSERVING)["prometheus"]["ports"]

    assert datasource["url"] == f"http://prometheus:{port.rpartition(':')[2]}"


def test_only_this_machine_reaches_what_observes_unless_told_otherwise() -> None:
    for service in services_of(OBSERVING).values():
        for port in service["ports"]:
            assert port.startswith("${HUBBUB_OBSERVE_BIND:-127.0.0.1}:")


def test_prometheus_reads_the_alerts() -> None:
    files = read_yaml(PROMETHEUS / "prometheus.yml")["rule_files"]

    assert [(PROMETHEUS / file).exists() for file in files] == [True]


@pytest.mark.parametrize("service", SERVICES)
def test_the_pods_say_where_their_metrics_are(service: str) -> None:
    deployment = named("Deployment", service)
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    [container] = pod_of(deployment)["containers"]

    assert annotations == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(container["ports"][0]["containerPort"]),
    }


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_the_alert_tells_a_person_what_to_do(rule: dict[str, Any]) -> None:
    text = rule["annotations"]["summary"] + rule["annotations"]["description"]

    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(re.findall(r"HUBBUB_[A-Z_]+", text)) <= KNOWN
    assert [
        path for path in re.findall(r"\b[a-z_/]+\.py\b", text) if not (ROOT / path).exists()
    ] == []


def test_no_two_alerts_have_one_name() -> None:
    names = [rule["alert"] for rule in RULES]

    assert sorted(names) == sorted(set(names))


def test_the_board_asks_the_datasource_that_is_provisioned() -> None:
    [datasource] = read_yaml(PROVISIONING / "datasources/prometheus.yml")["datasources"]
    asked = {panel["datasource"]["uid"] for panel in PANELS}
    asked |= {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]}
    asked |= {variable["datasource"]["uid"] for variable in BOARD["templating"]["list"]}

    assert asked == {datasource["uid"]}


def test_grafana_finds_the_board_beside_its_provider() -> None:
    [provider] = read_yaml(PROVISIONING / "dashboards/hubbub.yml")["providers"]

    assert provider["options"]["path"] == "/etc/grafana/provisioning/dashboards"


def test_the_panels_have_a_place_each() -> None:
    places = [panel["gridPos"] for panel in BOARD["panels"]]
    ids = [panel["id"] for panel in BOARD["panels"]]

    assert sorted(ids) == sorted(set(ids))
    assert [place for place in places if place["x"] + place["w"] > GRID_COLUMNS] == []
    assert [pair for pair in combinations(places, 2) if _overlap(*pair)] == []


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )
