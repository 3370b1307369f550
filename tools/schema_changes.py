"""What of a new schema breaks those who write, or read, by the old one."""

from collections.abc import Callable, Iterator
from enum import Enum
from itertools import chain
from typing import Any

Document = dict[str, Any]
Schema = dict[str, Any]

_LOWER_IS_NARROWER = ("maxLength", "maximum", "exclusiveMaximum", "maxItems")
_HIGHER_IS_NARROWER = ("minLength", "minimum", "exclusiveMinimum", "minItems")


class Way(Enum):
    """Who writes what a schema describes."""

    TAKEN = "taken"
    """Users do."""
    GIVEN = "given"
    """Hubbub does."""


class SchemaChanges:
    """From the schemas of one document to those of another."""

    def __init__(self, old: Document, new: Document) -> None:
        self._old = old
        self._new = new
        self._under_way: set[tuple[str, str, Way]] = set()
        """References that are compared already: schemas may refer to themselves."""

    def of(self, old: Schema, new: Schema, where: str, way: Way) -> Iterator[str]:
        if "$ref" in old and "$ref" in new:
            references = (old["$ref"], new["$ref"], way)
            if references in self._under_way:
                return
            self._under_way.add(references)
            where = old["$ref"].rpartition("/")[2]
        before, now = _alternatives(self._old, old), _alternatives(self._new, new)
        if len(before) == len(now) == 1:
            yield from self._of_alternative(before[0], now[0], where, way)
        else:
            yield from self._of_alternatives(before, now, where, way)

    def _of_alternatives(
        self, before: list[Schema], now: list[Schema], where: str, way: Way
    ) -> Iterator[str]:
        """What users send must be taken by some of the new; what they get is some of the old."""
        ours, others = (before, now) if way is Way.TAKEN else (now, before)
        for each in ours:
            pairs = [(each, other) if way is Way.TAKEN else (other, each) for other in others]
            if all(any(self._tried(*pair, where, way)) for pair in pairs):
                said = each.get("type") or each.get("title") or each.get("const") or "it"
                yield f"{where}: {said} {'is taken no more' if way is Way.TAKEN else 'is new'}"

    def _tried(self, old: Schema, new: Schema, where: str, way: Way) -> list[str]:
        tried = SchemaChanges(self._old, self._new)
        tried._under_way = set(self._under_way)
        return list(tried._of_alternative(old, new, where, way))

    def _of_alternative(self, old: Schema, new: Schema, where: str, way: Way) -> Iterator[str]:
        narrow, wide = (old, new) if way is Way.TAKEN else (new, old)
        if not _fits(narrow.get("type"), wide.get("type")):
            yield f"{where}: {old.get('type', 'anything')} is {new.get('type', 'anything')} now"
            return
        if old.get("format") != new.get("format"):
            yield f"{where}: the format {old.get('format')} is {new.get('format')} now"
        yield from _of_values(old, new, where, way)
        if way is Way.TAKEN:
            yield from _of_limits(old, new, where)
        yield from self._of_members(old, new, where, way)
        for key, part in (("items", "[]"), ("additionalProperties", "{}")):
            before, now = _part(old, key), _part(new, key)
            if before is not None and now is not None and before != now:
                yield from self.of(before, now, f"{where}{part}", way)

    def _of_members(self, old: Schema, new: Schema, where: str, way: Way) -> Iterator[str]:
        if way is Way.TAKEN and _is_closed(new) and not _is_closed(old):
            yield f"{where}: other members are refused now"
        before, now = old.get("properties", {}), new.get("properties", {})
        needed = {*old.get("required", [])}, {*new.get("required", [])}
        for name, schema in before.items():
            member = f"{where}: {name}"
            if name not in now:
                yield f"{member} is gone"
            else:
                yield from self.of(schema, now[name], member, way)
        if way is Way.TAKEN:
            yield from (f"{where}: {name} is required now" for name in needed[1] - needed[0])
        else:
            may_lack = (needed[0] - needed[1]) & now.keys()
            yield from (f"{where}: {name} may be missing now" for name in may_lack)


def _of_values(old: Schema, new: Schema, where: str, way: Way) -> Iterator[str]:
    before, now = _values(old), _values(new)
    if before is not None and now is not None:
        yield from (f"{where}: the value {each!r} is gone" for each in before if each not in now)
    elif before is None and now is not None and way is Way.TAKEN:
        yield f"{where}: only {now} are taken now"
    elif before is not None and now is None and way is Way.GIVEN:
        yield f"{where}: it may be another value than {before} now"


def _values(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _of_limits(old: Schema, new: Schema, where: str) -> Iterator[str]:
    narrower: list[tuple[str, Callable[[float, float], bool]]] = [
        *((name, lambda before, now: now < before) for name in _LOWER_IS_NARROWER),
        *((name, lambda before, now: now > before) for name in _HIGHER_IS_NARROWER),
    ]
    for name, is_narrower in narrower:
        if name in new and (name not in old or is_narrower(old[name], new[name])):
            yield f"{where}: {name} is {new[name]} now"
    if "pattern" in new and new["pattern"] != old.get("pattern"):
        yield f"{where}: the pattern is {new['pattern']} now"


def _part(schema: Schema, key: str) -> Schema | None:
    """What each item or other member has to be, if there may be any."""
    part: Schema | bool = schema.get(key, True)
    if isinstance(part, bool):
        return {} if part else None
    return part


def _is_closed(schema: Schema) -> bool:
    return schema.get("additionalProperties") is False


def _fits(narrow: str | None, wide: str | None) -> bool:
    return wide is None or narrow == wide or (narrow, wide) == ("integer", "number")


def _alternatives(document: Document, schema: Schema) -> list[Schema]:
    """The forms that a value may have, with all that they share in each."""
    schema = _merged(document, schema)
    forms = schema.get("anyOf") or schema.get("oneOf")
    if forms:
        return list(chain.from_iterable(_alternatives(document, form) for form in forms))
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": each} for each in schema["type"]]
    return [schema]


def _merged(document: Document, schema: Schema) -> Schema:
    """With references followed, and the parts of `allOf` as one."""
    schema = resolved(document, schema)
    merged = {key: value for key, value in schema.items() if key != "allOf"}
    for part in schema.get("allOf", []):
        found = _merged(document, part)
        properties = merged.get("properties", {}) | found.get("properties", {})
        required = [*merged.get("required", []), *found.get("required", [])]
        merged = {**found, **merged, "properties": properties, "required": required}
    return merged


def resolved(document: Document, value: Schema) -> Schema:
    while "$ref" in value:
        found: Any = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        value = found
    return value
