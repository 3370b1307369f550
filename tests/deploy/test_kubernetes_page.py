"""docs/kubernetes.md says what the manifests do."""

import re

from deploy.secrets.make_secrets import main as make_secrets
from tests.deploy.manifests import (
    EXAMPLE,
    KUBERNETES,
    ROOT,
    container_of,
    kustomization_of,
    named,
    of_kind,
    pod_of,
)
from tests.deploy.test_kubernetes_schema import OLDEST
from tests.deploy.test_settings_given import KNOWN

PAGE = (ROOT / "docs/kubernetes.md").read_text()


def test_the_numbers_are_those_of_the_manifests() -> None:
    gateway = named("Deployment", "gateway")
    autoscaler = named("HorizontalPodAutoscaler", "gateway")["spec"]
    [connections] = [
        int(metric["pods"]["target"]["averageValue"])
        for metric in autoscaler["metrics"]
        if metric["type"] == "Pods"
    ]
    [slowly] = autoscaler["behavior"]["scaleDown"]["policies"]

    assert f"Kubernetes {OLDEST}" in PAGE
    assert f"user {pod_of(gateway)['securityContext']['runAsUser']}" in PAGE
    sleep = container_of(gateway)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert f"continues for {sleep} s" in PAGE
    assert f"killed after {pod_of(gateway)['terminationGracePeriodSeconds']} s" in PAGE
    assert f"{connections:,} connections for each gateway" in PAGE
    assert (autoscaler["minReplicas"], slowly["value"], slowly["periodSeconds"]) == (2, 1, 600)
    assert "begins with two" in PAGE
    assert "down by one gateway every ten minutes" in PAGE


def test_the_settings_and_files_that_it_names_exist() -> None:
    in_the_example = re.findall(r"^\| `([a-z-]+\.(?:yaml|env))` \|", PAGE, re.MULTILINE)
    elsewhere = re.findall(r"`(deploy/[a-z/.-]+)`", PAGE)

    assert set(re.findall(r"`(HUBBUB_[A-Z_]+[A-Z])`", PAGE)) <= KNOWN
    assert len(in_the_example) > 4
    for name in in_the_example:
        assert (EXAMPLE / name).exists() or (KUBERNETES / name).exists(), name
    for name in elsewhere:
        assert (ROOT / name).exists(), name


def test_the_secrets_command_takes_the_arguments() -> None:
    [arguments] = re.findall(r"deploy\.secrets\.make_secrets (.*?)\n(?!  )", PAGE, re.DOTALL)

    context = make_secrets.make_context("make_secrets", arguments.replace("\\", "").split())

    assert ROOT / context.params["folder"] == EXAMPLE / "secrets"


def test_its_first_step_applies_all_but_what_serves() -> None:
    """The selector leaves out what bears one of these components."""
    [left_out] = re.findall(r"component notin \(([a-z, ]+)\)", PAGE)
    services = set(left_out.split(", "))

    for workload in of_kind("Deployment", "Job"):
        component = workload["metadata"]["labels"]["app.kubernetes.io/component"]
        assert (component in services) == (workload["kind"] == "Deployment")
    assert f"--namespace {kustomization_of(EXAMPLE)['namespace']} " in PAGE
    assert f"rollout status deployment {' '.join(left_out.split(', '))}" in PAGE


def test_the_job_it_names_is_one_of_this_version() -> None:
    version = kustomization_of(EXAMPLE)["images"][0]["newTag"]
    jobs = {job["metadata"]["name"].replace("version", version) for job in of_kind("Job")}

    assert set(re.findall(rf"`([a-z-]+-{re.escape(version)})`", PAGE)) <= jobs
