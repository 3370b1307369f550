"""What of a new document breaks those who use the old one: OpenAPI or AsyncAPI.

Users must be able to send what they sent before, and find what they found before. So of what
Hubbub takes nothing may be refused or needed anew, and of what it gives nothing may go away. More
members, codes, statuses and messages are no break: users ignore what they don't know.
"""

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


def unannounced_breaks(old: Document, new: Document) -> list[str]:
    """What breaks users although the first number of the version is the same: a line for each."""
    if _major(new) > _major(old):
        return []
    return list(dict.fromkeys(_Comparison(old, new).breaks()))


def _major(document: Document) -> int:
    return int(document["info"]["version"].partition(".")[0])


class _Comparison:
    def __init__(self, old: Document, new: Document) -> None:
        self._old = old
        self._new = new
        self._under_way: set[tuple[str, str, Way]] = set()
        """References that are compared already: schemas may refer to themselves."""

    def breaks(self) -> Iterator[str]:
        return self._of_operations() if "paths" in self._old else self._of_channels()

    # OpenAPI

    def _of_operations(self) -> Iterator[str]:
        yield from self._of_proofs()
        for path, operations in self._old["paths"].items():
            for method, operation in operations.items():
                where = f"{method.upper()} {path}"
                new = self._new["paths"].get(path, {}).get(method)
                if new is None:
                    yield f"{where} is gone"
                else:
                    yield from self._of_operation(operation, new, where)

    def _of_proofs(self) -> Iterator[str]:
        """Where keys and tokens stand, under the names by which operations ask for them."""
        before, now = (
            document["components"].get("securitySchemes", {}) for document in (self._old, self._new)
        )
        for name, scheme in before.items():
            if _told(scheme) != _told(now.get(name, {})):
                yield f"{name} is gone, or elsewhere"

    def _of_operation(self, old: Schema, new: Schema, where: str) -> Iterator[str]:
        before, now = old.get("security", []), new.get("security", [])
        if now and not before:
            yield f"{where} needs a key or a token now"
        elif now:
            yield from (f"{where} takes no {'+'.join(way)} now" for way in before if way not in now)
        yield from self._of_parameters(old, new, where)
        old_body, new_body = old.get("requestBody", {}), new.get("requestBody", {})
        if new_body.get("required") and not old_body.get("required"):
            yield f"{where} needs a body now"
        yield from self._of_contents(old_body, new_body, f"{where}, body", Way.TAKEN)
        for status, response in old["responses"].items():
            answer = f"{where}, {status}"
            if status in new["responses"]:
                before = _resolved(self._old, response)
                found = _resolved(self._new, new["responses"][status])
                for header in before.get("headers", {}).keys() - found.get("headers", {}).keys():
                    yield f"{answer}, {header} is gone"
                yield from self._of_contents(before, found, answer, Way.GIVEN)
            else:
                yield f"{answer} is gone"

    def _of_parameters(self, old: Schema, new: Schema, where: str) -> Iterator[str]:
        before, now = (
            {(each["in"], each["name"]): each for each in operation.get("parameters", [])}
            for operation in (old, new)
        )
        for key, parameter in now.items():
            required = before.get(key, {}).get("required", False)
            if parameter.get("required") and not required:
                yield f"{where}, parameter {key[1]} is required now"
        for key, parameter in before.items():
            if key in now:
                schemas = parameter.get("schema", {}), now[key].get("schema", {})
                yield from self._of_schemas(*schemas, f"{where}, parameter {key[1]}", Way.TAKEN)
            else:
                yield f"{where}, parameter {key[1]} is gone"

    def _of_contents(self, old: Schema, new: Schema, where: str, way: Way) -> Iterator[str]:
        for media_type, content in old.get("content", {}).items():
            found = new.get("content", {}).get(media_type)
            if found is None:
                yield f"{where}: {media_type} is gone"
            else:
                schemas = content.get("schema", {}), found.get("schema", {})
                yield from self._of_schemas(*schemas, where, way)

    # AsyncAPI

    def _of_channels(self) -> Iterator[str]:
        for key, channel in self._old["channels"].items():
            found = self._new["channels"].get(key, {})
            if found.get("address") != channel["address"]:
                yield f"{channel['address']} ({key}) is gone, or elsewhere"
            else:
                schemas = _query(channel), _query(found)
                yield from self._of_schemas(*schemas, f"{key}, query", Way.TAKEN)
                gone = _close_codes(channel) - _close_codes(found)
                yield from (f"{key}, close {code} is gone" for code in sorted(gone))
        for key, operation in self._old["operations"].items():
            if operation["action"] != self._new["operations"].get(key, operation)["action"]:
                yield f"{key} goes the other way now"
            way = Way.GIVEN if operation["action"] == "send" else Way.TAKEN
            before, now = _messages(self._old, key), _messages(self._new, key)
            for name, payload in before.items():
                if name in now:
                    yield from self._of_schemas(payload, now[name], f"{key}, {name}", way)
                else:
                    yield f"{key}, {name} is gone"

    # Schemas

    def _of_schemas(self, old: Schema, new: Schema, where: str, way: Way) -> Iterator[str]:
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
        tried = _Comparison(self._old, self._new)
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
            before, now = old.get(key), new.get(key)
            if isinstance(before, dict) and isinstance(now, dict):
                yield from self._of_schemas(before, now, f"{where}{part}", way)

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
                yield from self._of_schemas(schema, now[name], member, way)
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


def _is_closed(schema: Schema) -> bool:
    return schema.get("additionalProperties") is False


def _told(scheme: Schema) -> Schema:
    """The scheme of a key or token, without what is said for people."""
    return {name: value for name, value in scheme.items() if name != "description"}


def _query(channel: Schema) -> Schema:
    query: Schema = channel.get("bindings", {}).get("ws", {}).get("query", {})
    return query


def _close_codes(channel: Schema) -> set[int]:
    return {close["code"] for close in channel.get("x-closes", [])}


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
    schema = _resolved(document, schema)
    merged = {key: value for key, value in schema.items() if key != "allOf"}
    for part in schema.get("allOf", []):
        found = _merged(document, part)
        properties = merged.get("properties", {}) | found.get("properties", {})
        required = [*merged.get("required", []), *found.get("required", [])]
        merged = {**found, **merged, "properties": properties, "required": required}
    return merged


def _resolved(document: Document, value: Schema) -> Schema:
    while "$ref" in value:
        found: Any = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        value = found
    return value


def _messages(document: Document, operation: str) -> dict[str, Schema]:
    """The payloads of an operation, by the message's name."""
    found = document["operations"].get(operation, {}).get("messages", [])
    names = [each["$ref"].rpartition("/")[2] for each in found]
    return {name: document["components"]["messages"][name]["payload"] for name in names}
