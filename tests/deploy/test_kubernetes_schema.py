"""Every manifest is what the Kubernetes API takes, field by field."""

import copy
from pathlib import Path

import kubernetes_validate
import pytest

from tests.deploy.manifests import (
    ALL,
    BASE,
    DEPLOY,
    EXAMPLE,
    KUBERNETES,
    Resource,
    kustomization_of,
    named,
    resource_files,
    title,
)

OLDEST = "1.30"  # the first in which `preStop.sleep` is there without a feature gate
VERSIONS = (OLDEST, kubernetes_validate.latest_version())
NOT_FOR_KUSTOMIZE = {"nats-values.yaml", "prometheus-adapter-values.yaml"}  # for Helm charts


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("resource", ALL, ids=title)
def test_the_manifest_fits_its_schema(resource: Resource, version: str) -> None:
    kubernetes_validate.validate(resource, version, strict=True)


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        (("spec", "template", "spec"), "terminationGraceSeconds", 60),
        (("spec", "strategy", "rollingUpdate"), "maxSurges", 1),
        (("spec",), "replicas", "two"),
    ],
)
def test_a_field_that_does_not_exist_or_fit_is_refused(
    path: tuple[str, ...], name: str, value: object
) -> None:
    broken = copy.deepcopy(named("Deployment", "gateway"))
    inside = broken
    for key in path:
        inside = inside[key]
    inside[name] = value

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, OLDEST, strict=True)


def test_no_manifest_is_left_out_of_the_kustomizations() -> None:
    named_somewhere = set(resource_files(EXAMPLE))
    there = {
        path
        for path in KUBERNETES.rglob("*.yaml")
        if path.name not in NOT_FOR_KUSTOMIZE | {"kustomization.yaml"}
    }

    assert named_somewhere == there


@pytest.mark.parametrize(
    "folder", [BASE, EXAMPLE, DEPLOY / "nats"], ids=lambda folder: str(folder.name)
)
def test_the_kustomization_names_only_files_that_are_there(folder: Path) -> None:
    kustomization = kustomization_of(folder)
    names = [
        *kustomization.get("resources", ()),
        *(
            file
            for generator in kustomization.get("configMapGenerator", ())
            for file in [*generator.get("envs", ()), *generator.get("files", ())]
        ),
    ]

    assert names
    assert [name for name in names if not (folder / name).exists()] == []


def test_no_two_manifests_are_of_one_kind_and_name() -> None:
    titles = [title(resource) for resource in ALL]

    assert sorted(titles) == sorted(set(titles))


def test_no_secret_is_in_the_repository() -> None:
    assert [title(resource) for resource in ALL if resource["kind"] == "Secret"] == []
    assert (EXAMPLE / ".gitignore").read_text().splitlines()[-1] == "/secrets/"
