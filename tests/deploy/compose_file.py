"""The compose files as data: what Compose would make of them, with nothing set outside."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.manifests import DEPLOY, ROOT

OBSERVING = DEPLOY / "observe/overlay.yaml"
COMPOSE_FILES = [
    ROOT / "compose.yaml",
    *sorted((DEPLOY / "compose").glob("*.yaml")),
    OBSERVING,
]
_VARIABLE = re.compile(r"\$\{[A-Z_]+:-([^}]*)\}")


class _Loader(yaml.SafeLoader):
    """Takes Compose's own tags, `!reset` and `!override`, for nothing special."""


def _untagged(loader: _Loader, _tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.ScalarNode)
    return loader.construct_scalar(node)


_Loader.add_multi_constructor("!", _untagged)


def services_of(path: Path) -> dict[str, Any]:
    """By name; without those that the file takes away."""
    found: dict[str, Any] = yaml.load(path.read_text(), _Loader)["services"]
    return {name: service for name, service in found.items() if isinstance(service, dict)}


def environment_of(service: Mapping[str, Any]) -> dict[str, str]:
    """What its process finds in its environment."""
    given = service.get("environment") or {}
    if isinstance(given, list):
        given = dict(pair.split("=", 1) for pair in given)
    return {name: _VARIABLE.sub(r"\1", str(value)) for name, value in given.items()}
