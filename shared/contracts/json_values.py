"""JSON as strangers write it, and what of it every reader can read."""

import json
import re
import sys
from math import isfinite
from typing import Any, NewType, NoReturn

import pydantic_core

RawJson = NewType("RawJson", bytes)
"""One JSON value as it is written in a frame: compact, in UTF-8, and readable by all."""

MAX_LEVELS = 60
"""Of arrays and objects within each other. Some readers take 64 of them unless told
otherwise (.NET's), and what is published lies a few levels deep in what they read."""

_LARGEST = int(sys.float_info.max)
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(text: str | bytes) -> Any:
    """Read one JSON value; of a name that comes twice in an object, the last counts.

    Half a surrogate pair is read as well: it is JSON, and `JSON.stringify` writes it. Whether
    it may stand where it stands is for whoever uses the value.

    Raises:
        ValueError: it is no JSON, or nested hundreds of levels deep.
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
    """Why not every reader could read the value, which was read from JSON; None if all can.

    Numbers that no double can hold are infinite to some and an error to others. Those that it
    holds nearly, such as large integers, are numbers to all, if not quite the same ones.
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


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
