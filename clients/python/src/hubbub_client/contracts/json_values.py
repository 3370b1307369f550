"""Reading JSON from outside, and checking that every reader can read it."""

import json
import re
import sys
from math import isfinite
from typing import Any, NewType, NoReturn

import pydantic_core

RawJson = NewType("RawJson", bytes)
"""One JSON value as it is written in a frame: compact, in UTF-8, and readable by all."""

MAX_LEVELS = 60
"""How deep arrays and objects may nest. Some readers (.NET's) take 64 levels by default, and a
publication's data is a few levels deep in what they read."""

_SMALL = 2**53 - 1
_LARGEST = int(sys.float_info.max)
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(text: str | bytes) -> Any:
    """Read one JSON value; of a name that comes twice in an object, the last counts.

    A lone surrogate is read too: it is valid JSON, and `JSON.stringify` writes it. The caller
    decides whether it is allowed in its place.

    Raises:
        ValueError: it is not JSON, or nested hundreds of levels deep.
    """
    try:
        return pydantic_core.from_json(text, allow_inf_nan=False)
    except (ValueError, TypeError) as error:  # TypeError: a surrogate that is not escaped
        plain = text if isinstance(text, str) else text.decode()
        if not _ESCAPED_SURROGATE.search(plain):
            raise ValueError(str(error)) from error
    try:
        return json.loads(plain, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def fault_of(value: Any) -> str | None:
    """Why some reader could not read a value that came from JSON; None if every reader can.

    Some readers take a number beyond the largest double for infinity, others refuse it. A large
    integer is a number to all of them, though some round it.
    """
    containers: list[Any] = [[value]]
    for _ in range(MAX_LEVELS + 1):
        inner = []
        for container in containers:
            for each in container.values() if type(container) is dict else container:
                kind = type(each)
                if kind is str:
                    continue
                if kind is dict or kind is list:
                    inner.append(each)
                elif kind is int:
                    if not -_LARGEST <= each <= _LARGEST:
                        return "a number that is too large"
                elif kind is float and not isfinite(each):
                    return "a number that is not finite"
        if not inner:
            return None
        containers = inner
    return f"nested more than {MAX_LEVELS} levels deep"


def is_plain(value: Any) -> bool:
    """Whether a value is an object of texts, truths, nulls and small integers, and nothing else.

    Most are. It comes back from JSON as it is, and every reader can read it.
    """
    if type(value) is not dict:
        return False
    for name, each in value.items():
        kind = type(each)
        if type(name) is not str or not (
            kind is str
            or kind is bool
            or each is None
            or (kind is int and -_SMALL <= each <= _SMALL)
        ):
            return False
    return True


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
