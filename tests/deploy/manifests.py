"""The files under deploy/ as data, read as kustomize would, as far as the tests need it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
BASE = KUBERNETES / "base"
EXAMPLE = KUBERNETES / "example"
SERVICES = ("gateway", "auth", "posts")


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def kustomization_of(folder: Path) -> Resource:
    """Its kustomization.yaml."""
    found: Resource = read_yaml(folder / "kustomization.yaml")
    return found


def resource_files(folder: Path) -> Iterator[Path]:
    """The files of resources that a kustomization names, those of others that it names too."""
    for name in kustomization_of(folder).get("resources", ()):
        path = (folder / name).resolve()
        if path.is_dir():
            yield from resource_files(path)
        else:
            yield path


def documents_of(path: Path) -> list[Resource]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


ALL = [document for path in resource_files(EXAMPLE) for document in documents_of(path)]
"""Every resource of the example, before kustomize makes names and maps of it."""


def of_kind(*kinds: str) -> list[Resource]:
    return [resource for resource in ALL if resource["kind"] in kinds]


WORKLOADS = of_kind("Deployment", "Job")


def named(kind: str, name: str) -> Resource:
    [found] = [each for each in of_kind(kind) if each["metadata"]["name"] == name]
    return found


def title(resource: Resource) -> str:
    return f"{resource['kind']}/{resource['metadata']['name']}"


def component(resource: Resource) -> str:
    return str(resource["metadata"]["labels"]["app.kubernetes.io/component"])


def pod_of(workload: Resource) -> Resource:
    spec: Resource = workload["spec"]["template"]["spec"]
    return spec


def container_of(workload: Resource) -> Resource:
    """The only one that it has."""
    [container] = pod_of(workload)["containers"]
    found: Resource = container
    return found


def pod_labels(workload: Resource) -> dict[str, str]:
    """What its pods bear, with what the base's kustomization gives to all."""
    own: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    [for_all] = kustomization_of(BASE)["labels"]
    assert for_all["includeTemplates"]
    given: dict[str, str] = for_all["pairs"]
    return own | given


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector of the manifests means pods with these labels."""
    for rule in selector.get("matchExpressions", ()):
        assert rule["operator"] == "In"
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


def workloads_selected_by(selector: Mapping[str, Any]) -> list[Resource]:
    return [workload for workload in WORKLOADS if selects(selector, pod_labels(workload))]


def read_env_file(path: Path) -> dict[str, str]:
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def config_maps(folder: Path) -> dict[str, dict[str, str]]:
    """The ConfigMaps that a kustomization makes of env files."""
    return {
        each["name"]: {
            name: value
            for file in each.get("envs", ())
            for name, value in read_env_file(folder / file).items()
        }
        for each in kustomization_of(folder).get("configMapGenerator", ())
    }


def environment_of(workload: Resource) -> dict[str, str]:
    """What its process finds in its environment, in the example."""
    base, overlay = config_maps(BASE), config_maps(EXAMPLE)
    found: dict[str, str] = {}
    container = container_of(workload)
    for source in container.get("envFrom", ()):
        name = source["configMapRef"]["name"]
        found |= base[name] | overlay.get(name, {})
    return found | {each["name"]: each["value"] for each in container.get("env", ())}


def secret_files(folder: Path = EXAMPLE) -> dict[str, list[str]]:
    """Of what files each Secret of the overlay is made."""
    return {
        each["name"]: each["files"] for each in kustomization_of(folder).get("secretGenerator", ())
    }
