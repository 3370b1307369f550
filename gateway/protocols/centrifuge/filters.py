"""Filters of publications by their tags, as subscribers may ask for. Pure.

Source: centrifugal/protocol, FilterNode of client.proto; centrifugal/centrifuge, internal/filter.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import pydantic_core

MAX_BYTES = 4096
"""As JSON: every subscription may have a filter of its own, which stays in memory."""
MAX_NODES = 64
MAX_VALUES = 256

Tags = Mapping[str, str]
Predicate = Callable[[Tags], bool]


class BadFilter(ValueError):
    """It is no filter, or too large a one."""


def text_of(node: Mapping[str, Any]) -> bytes:
    """A filter as JSON, by which equal ones are known.

    Raises:
        BadFilter: it is too long, or can't be written.
    """
    try:
        text = pydantic_core.to_json(node)
    except ValueError:  # half a surrogate pair, which no tag has either
        raise BadFilter("no text of this can be written") from None
    if len(text) > MAX_BYTES:
        raise BadFilter("too long")
    return text


def compile_filter(node: Any) -> Predicate:
    """Make a predicate of a filter.

    Raises:
        BadFilter: it isn't one.
    """
    return _Compiler().compile(node)


class _Compiler:
    def __init__(self) -> None:
        self._nodes = 0

    def compile(self, node: Any) -> Predicate:
        self._nodes += 1
        if type(node) is not dict or self._nodes > MAX_NODES:
            raise BadFilter("no filter, or one of too many nodes")
        match node.get("op", ""):
            case "":
                return _leaf(node)
            case "and":
                each = self._inner(node)
                return lambda tags: all(holds(tags) for holds in each)
            case "or":
                each = self._inner(node)
                return lambda tags: any(holds(tags) for holds in each)
            case "not":
                inner = self._inner(node)
                if len(inner) != 1:
                    raise BadFilter("`not` has one node")
                return lambda tags: not inner[0](tags)
            case _:
                raise BadFilter("no such operation")

    def _inner(self, node: dict[str, Any]) -> list[Predicate]:
        nodes = node.get("nodes")
        if type(nodes) is not list or not nodes:
            raise BadFilter("an operation has nodes")
        return [self.compile(each) for each in nodes]


def _leaf(node: dict[str, Any]) -> Predicate:
    key, comparison, value = node.get("key"), node.get("cmp"), node.get("val", "")
    if type(key) is not str or not key or type(value) is not str:
        raise BadFilter("a comparison has a key")
    if type(comparison) is not str:
        raise BadFilter("no such comparison")
    if comparison in ("in", "nin"):
        values = node.get("vals")
        if type(values) is not list or len(values) > MAX_VALUES:
            raise BadFilter("`in` has a list of values")
        if not all(type(each) is str for each in values):
            raise BadFilter("values are texts")
        among = frozenset(values)
        if comparison == "in":
            return lambda tags: tags.get(key) in among
        return lambda tags: tags.get(key) not in among
    if comparison in _NUMBERS:
        bound = _number(value)
        if bound is None:
            raise BadFilter("no number to compare with")
        compare = _NUMBERS[comparison]
        return lambda tags: (has := _number(tags.get(key))) is not None and compare(has, bound)
    plain = _TEXTS.get(comparison)
    if plain is None:
        raise BadFilter("no such comparison")
    return lambda tags: plain(tags.get(key), value)


def _number(text: str | None) -> Decimal | None:
    try:
        number = Decimal(text) if text else None
    except InvalidOperation:
        return None
    return number if number is not None and number.is_finite() else None


_TEXTS: Mapping[str, Callable[[str | None, str], bool]] = {
    "eq": lambda has, value: has == value,
    "neq": lambda has, value: has != value,
    "ex": lambda has, _value: has is not None,
    "nex": lambda has, _value: has is None,
    "sw": lambda has, value: has is not None and has.startswith(value),
    "ew": lambda has, value: has is not None and has.endswith(value),
    "ct": lambda has, value: has is not None and value in has,
}
_NUMBERS: Mapping[str, Callable[[Decimal, Decimal], bool]] = {
    "lt": lambda has, bound: has < bound,
    "lte": lambda has, bound: has <= bound,
    "gt": lambda has, bound: has > bound,
    "gte": lambda has, bound: has >= bound,
}
