"""As much of Prometheus's language as it takes to find what an expression asks for."""

import re
from typing import NamedTuple

_STRING = re.compile(r"\"[^\"]*\"")
_METRIC = re.compile(r"\b(hubbub_\w+)(?:\s*\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPING = re.compile(r"\b(?:by|without)\s*\(([^)]*)\)")


class Asked(NamedTuple):
    """A metric, and the labels that an expression expects of it."""

    metric: str
    labels: frozenset[str]


def asked_for(expression: str) -> list[Asked]:
    """The metrics of ours in it; labels of a grouping are expected of each."""
    bare = _STRING.sub('""', expression)
    grouping = {
        label.strip() for labels in _GROUPING.findall(bare) for label in labels.split(",") if label
    }
    return [
        Asked(metric, frozenset(_MATCHER.findall(matchers)) | grouping)
        for metric, matchers in _METRIC.findall(bare)
    ]
