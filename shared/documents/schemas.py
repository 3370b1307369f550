"""Schemas of our own types, as the documents of the interfaces hold them: each once, by name."""

from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

Schema = dict[str, Any]

SCHEMAS = "#/components/schemas/"
"""Where both kinds of documents keep them, OpenAPI's and AsyncAPI's."""

_CARRIED = "$defs"


class _Untitled(GenerateJsonSchema):
    """A field's title would be its name once more."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


class _Written(_Untitled):
    """A default is one for who makes the object: it is written all the same."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> Schema:
        return self.generate_inner(schema["schema"])

    def field_is_required(self, field: Any, total: bool) -> bool:
        return field["type"] == "model-field" or super().field_is_required(field, total)


class _WithoutNone(_Written):
    """And what is None is left out."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> Schema:
        return self.generate_inner(schema["schema"])

    def field_is_required(self, field: Any, total: bool) -> bool:
        inner = field["schema"]
        if inner["type"] == "default":
            return inner.get("default") is not None
        return super().field_is_required(field, total)


def taken(type_: Any) -> Schema:
    """What we accept as this type."""
    return deepcopy(_schema(type_, "validation", _Untitled))


def given(type_: Any, *, without_none: bool = False) -> Schema:
    """What we write as this type.

    Args:
        without_none: Members that are None are left out.
    """
    return deepcopy(_schema(type_, "serialization", _WithoutNone if without_none else _Written))


@cache
def _schema(
    type_: Any,
    mode: Literal["validation", "serialization"],
    generator: type[GenerateJsonSchema],
) -> Schema:
    """A reference that carries what it needs, until `with_schemas` puts that into a document."""
    schemas, carried = TypeAdapter.json_schemas(
        [("it", mode, TypeAdapter(type_))],
        ref_template=f"{SCHEMAS}{{model}}",
        schema_generator=generator,
    )
    return {**schemas["it", mode], _CARRIED: carried.get("$defs", {})}


def named(name: str, schema: Schema) -> Schema:
    """The schema under a name of its own."""
    return {"$ref": f"{SCHEMAS}{name}", _CARRIED: {name: {"title": name, **schema}}}


def renamed(reference: Schema, name: str) -> Schema:
    """The same under another name: of a type that is taken and given, one of the two."""
    carried = reference[_CARRIED]
    schema = carried.pop(reference["$ref"].removeprefix(SCHEMAS))
    return {"$ref": f"{SCHEMAS}{name}", _CARRIED: {**carried, name: {**schema, "title": name}}}


def members_required(reference: Schema, *names: str) -> Schema:
    """The same, of which these members are always there."""
    schema = reference[_CARRIED][reference["$ref"].removeprefix(SCHEMAS)]
    schema["required"] = list(dict.fromkeys([*names, *schema.get("required", [])]))
    return reference


def with_schemas(document: dict[str, Any]) -> dict[str, Any]:
    """The document with all that its references carry, where they lead.

    Raises:
        ValueError: two schemas have one name.
    """
    document = deepcopy(document)
    collected: dict[str, Schema] = document.setdefault("components", {}).setdefault("schemas", {})
    for carried in list(_carried(document)):
        for name, schema in carried.items():
            if collected.setdefault(name, schema) != schema:
                raise ValueError(f"two schemas are called {name}")
    document["components"]["schemas"] = dict(sorted(collected.items()))
    return document


def _carried(value: Any) -> Iterator[dict[str, Schema]]:
    if isinstance(value, dict):
        if _CARRIED in value:
            carried = value.pop(_CARRIED)
            yield from _carried(carried)
            yield carried
        for each in list(value.values()):
            yield from _carried(each)
    elif isinstance(value, list):
        for each in value:
            yield from _carried(each)
