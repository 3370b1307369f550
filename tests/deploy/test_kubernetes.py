"""The manifests fit together, and the services that they start."""

import re

import click
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from gateway.settings import GatewaySettings
from hubbub.cli import cli
from shared.web.operations import add_operations
from tests.deploy.manifests import (
    ALL,
    BASE,
    EXAMPLE,
    SERVICES,
    WORKLOADS,
    Resource,
    container_of,
    environment_of,
    kustomization_of,
    named,
    of_kind,
    pod_of,
    title,
    workloads_selected_by,
)

TO_SPARE_SECONDS = 10
each_workload = pytest.mark.parametrize("workload", WORKLOADS, ids=title)
each_service = pytest.mark.parametrize("service", SERVICES)


@each_service
def test_deployment_service_and_budget_mean_the_same_pods(service: str) -> None:
    deployment = named("Deployment", service)
    selectors = [
        deployment["spec"]["selector"],
        {"matchLabels": named("Service", service)["spec"]["selector"]},
        named("PodDisruptionBudget", service)["spec"]["selector"],
        *(spread["labelSelector"] for spread in pod_of(deployment)["topologySpreadConstraints"]),
    ]

    assert [workloads_selected_by(selector) for selector in selectors] == (
        [[deployment]] * len(selectors)
    )


@each_service
def test_the_service_leads_to_the_port_that_its_container_listens_on(service: str) -> None:
    container = container_of(named("Deployment", service))
    [port] = container["ports"]
    [exposed] = named("Service", service)["spec"]["ports"]

    assert exposed["targetPort"] == port["name"]
    assert container["args"][-2:] == ["--port", str(port["containerPort"])]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == port["name"]


@each_service
def test_the_probes_ask_pages_that_the_services_have(service: str) -> None:
    app = FastAPI()
    add_operations(app, registry=CollectorRegistry(), ready=list)
    pages = set(app.openapi()["paths"])
    container = container_of(named("Deployment", service))
    asked = {
        probe: container[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    }

    assert set(asked.values()) <= pages
    assert asked["readinessProbe"] == "/readyz"
    assert asked["livenessProbe"] == "/livez"  # never /readyz: NATS away would restart gateways


def test_a_gateway_has_the_time_to_drain_before_it_is_killed() -> None:
    gateway = named("Deployment", "gateway")
    given = environment_of(gateway).get("HUBBUB_GATEWAY_DRAIN_SECONDS")
    defaults = GatewaySettings.model_fields
    drain = float(given or defaults["drain_seconds"].default)
    sleep = container_of(gateway)["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed = sleep + drain + defaults["close_seconds"].default + TO_SPARE_SECONDS

    assert pod_of(gateway)["terminationGracePeriodSeconds"] >= needed


@each_service
def test_a_rollout_takes_none_away_before_another_is_ready(service: str) -> None:
    deployment = named("Deployment", service)

    assert deployment["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
    }
    probe = container_of(deployment)["readinessProbe"]
    unready_after = probe["periodSeconds"] * probe["failureThreshold"]
    assert container_of(deployment)["lifecycle"]["preStop"]["sleep"]["seconds"] >= 5
    assert unready_after <= pod_of(deployment)["terminationGracePeriodSeconds"]


def test_the_autoscaler_alone_says_how_many_gateways_there_are() -> None:
    autoscaler = named("HorizontalPodAutoscaler", "gateway")["spec"]
    target = autoscaler["scaleTargetRef"]
    deployment = named(target["kind"], target["name"])

    assert "replicas" not in deployment["spec"]  # each apply would set it back
    assert deployment["apiVersion"] == target["apiVersion"]
    assert autoscaler["minReplicas"] >= 2


@each_workload
def test_the_container_can_do_no_more_than_it_needs(workload: Resource) -> None:
    pod, container = pod_of(workload), container_of(workload)

    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


@each_workload
def test_every_mount_has_its_volume_and_every_volume_its_mount(workload: Resource) -> None:
    mounts = [mount["name"] for mount in container_of(workload)["volumeMounts"]]

    assert mounts == [volume["name"] for volume in pod_of(workload)["volumes"]]


def test_one_image_is_all_that_runs_and_the_example_says_which() -> None:
    images = {container_of(workload)["image"] for workload in WORKLOADS}

    assert images == {"hubbub"}
    assert [image["name"] for image in kustomization_of(EXAMPLE)["images"]] == ["hubbub"]


@each_workload
def test_the_command_line_takes_the_arguments(workload: Resource) -> None:
    name, *arguments = container_of(workload)["args"]
    command = cli.commands[name]

    command.make_context(name, list(arguments), parent=click.Context(cli))


def test_the_jobs_names_end_where_the_example_puts_the_version() -> None:
    [replacement] = kustomization_of(EXAMPLE)["replacements"]
    [target] = replacement["targets"]
    jobs = of_kind("Job")

    assert target["select"] == {"kind": "Job"}
    assert target["fieldPaths"] == ["metadata.name"]
    assert len(jobs) == 3
    for job in jobs:
        parts = job["metadata"]["name"].split(target["options"]["delimiter"])
        assert parts[target["options"]["index"] :] == ["version"]


def test_the_version_is_read_off_the_image_with_any_registry_before_it() -> None:
    [replacement] = kustomization_of(EXAMPLE)["replacements"]
    source = replacement["source"]
    options = source["options"]

    assert source["fieldPath"] == "spec.template.spec.containers.[name=gateway].image"
    assert title(named(source["kind"], source["name"])) == "Deployment/gateway"
    for image in ("hubbub:0.1.0", "registry.example:5000/team/hubbub:0.1.0"):
        assert image.split(options["delimiter"])[options["index"]] == "0.1.0"
    assert re.fullmatch(r"[a-z0-9.-]+", kustomization_of(EXAMPLE)["images"][0]["newTag"])


def test_what_jobs_refer_to_keeps_its_name() -> None:
    """A Job can't be changed: with another name in it, it could not be applied again."""
    generators = [
        generator
        for folder in (BASE, EXAMPLE)
        for kind in ("configMapGenerator", "secretGenerator")
        for generator in kustomization_of(folder).get(kind, ())
    ]
    named_anew = {
        generator["name"]
        for generator in generators
        if not generator.get("options", {}).get("disableNameSuffixHash")
    }
    for job in of_kind("Job"):
        secret = pod_of(job)["volumes"][0]["secret"]["secretName"]
        maps = {source["configMapRef"]["name"] for source in container_of(job).get("envFrom", ())}
        assert named_anew.isdisjoint({secret, *maps})


def test_jobs_and_services_get_the_same_settings() -> None:
    for folder in (BASE, EXAMPLE):
        made = {each["name"]: each for each in kustomization_of(folder)["configMapGenerator"]}
        assert made["settings"]["envs"] == made["job-settings"]["envs"]


def test_everything_lands_in_one_namespace() -> None:
    namespace = kustomization_of(EXAMPLE)["namespace"]

    assert title(named("Namespace", namespace))
    assert [title(each) for each in ALL if "namespace" in each["metadata"]] == []
