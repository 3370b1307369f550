"""What was found, as lines for people and as JSON. Pure."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, and may not for long, or not as it is meant."""
    ERROR = "error"
    """Something does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    about: str
    level: Level
    says: str
    todo: str = ""
    """For who runs the system; empty if there is nothing to do."""


def good(about: str, says: str) -> Finding:
    return Finding(about, Level.OK, says)


def doubtful(about: str, says: str, todo: str) -> Finding:
    return Finding(about, Level.WARNING, says, todo)


def bad(about: str, says: str, todo: str) -> Finding:
    return Finding(about, Level.ERROR, says, todo)


def worst_of(findings: Iterable[Finding]) -> Level:
    levels = {each.level for each in findings}
    return next((level for level in (Level.ERROR, Level.WARNING) if level in levels), Level.OK)


def as_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """A line for each, one more for what to do about it, and a count at the end."""
    width = max((len(each.about) for each in findings), default=0)
    for each in findings:
        yield f"{each.level:<8} {each.about:<{width}}  {each.says}"
        if each.todo:
            yield f"{'':<8} {'':<{width}}  -> {each.todo}"
    counts = {level: sum(each.level is level for each in findings) for level in Level}
    yield f"{counts[Level.ERROR]} errors, {counts[Level.WARNING]} warnings"


def as_json(findings: Sequence[Finding]) -> str:
    return json.dumps(
        {
            "level": worst_of(findings),
            "findings": [
                {"about": each.about, "level": each.level, "says": each.says, "do": each.todo}
                for each in findings
            ],
        },
        indent=2,
    )
