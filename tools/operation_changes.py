"""What of a new OpenAPI document breaks those who use the old one."""

from collections.abc import Iterator

from tools.schema_changes import Document, Schema, SchemaChanges, Way, resolved


def breaks_of_operations(old: Document, new: Document) -> Iterator[str]:
    yield from _of_proofs(old, new)
    changes = _OperationChanges(old, new)
    for path, operations in old["paths"].items():
        for method, operation in operations.items():
            where = f"{method.upper()} {path}"
            found = new["paths"].get(path, {}).get(method)
            if found is None:
                yield f"{where} is gone"
            else:
                yield from changes.of(operation, found, where)


def _of_proofs(old: Document, new: Document) -> Iterator[str]:
    """Where keys and tokens stand, under the names by which operations ask for them."""
    before, now = (document["components"].get("securitySchemes", {}) for document in (old, new))
    for name, scheme in before.items():
        if _told(scheme) != _told(now.get(name, {})):
            yield f"{name} is gone, or elsewhere"


def _told(scheme: Schema) -> Schema:
    """The scheme of a key or token, without what is said for people."""
    return {name: value for name, value in scheme.items() if name != "description"}


class _OperationChanges:
    def __init__(self, old: Document, new: Document) -> None:
        self._old = old
        self._new = new
        self._schemas = SchemaChanges(old, new)

    def of(self, old: Schema, new: Schema, where: str) -> Iterator[str]:
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
                before = resolved(self._old, response)
                found = resolved(self._new, new["responses"][status])
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
                yield from self._schemas.of(*schemas, f"{where}, parameter {key[1]}", Way.TAKEN)
            else:
                yield f"{where}, parameter {key[1]} is gone"

    def _of_contents(self, old: Schema, new: Schema, where: str, way: Way) -> Iterator[str]:
        for media_type, content in old.get("content", {}).items():
            found = new.get("content", {}).get(media_type)
            if found is None:
                yield f"{where}: {media_type} is gone"
            else:
                schemas = content.get("schema", {}), found.get("schema", {})
                yield from self._schemas.of(*schemas, where, way)
