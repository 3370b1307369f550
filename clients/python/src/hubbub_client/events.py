"""Events: pydantic models, published under the name of their class.

`class PostLiked(BaseModel)` is the event `post_liked`, and `PostLikedV2` its version 2. On the wire
an event is its fields, with `event`, `id` and, from 2 on, `version` beside them: what the posts
service's own events look like to subscribers. Nothing here imports pydantic.
"""

import inspect
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, Self, TypeGuard, TypeVar, runtime_checkable

RESERVED = frozenset({"event", "id", "version", "type", "offset", "time"})
"""What a notification says beside the fields of its event."""

_CLASS_NAME = re.compile(r"(?P<name>[A-Za-z0-9]+?)(?:V(?P<version>[1-9][0-9]*))?")
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_EVENT_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


@runtime_checkable
class Event(Protocol):
    """What can tell its fields as JSON, such as a pydantic model."""

    def model_dump(self, *, mode: str) -> dict[str, Any]: ...


class Readable(Protocol):
    """The class of an event, such as a pydantic model."""

    @classmethod
    def model_validate(cls, values: Any) -> Self: ...


R = TypeVar("R", bound=Readable)


class EventName(NamedTuple):
    """What an event is called."""

    name: str
    version: int


def event_name(model: type) -> EventName:
    """The name and version that a class stands for.

    Raises:
        ValueError: no event can be called so.
    """
    parts = _CLASS_NAME.fullmatch(model.__name__)
    name = _WORDS.sub("_", parts["name"]).lower() if parts else ""
    if parts is None or not _EVENT_NAME.fullmatch(name):
        raise ValueError(f"no event can be called as the class {model.__name__}")
    return EventName(name, int(parts["version"] or 1))


def to_data(data: object, event_id: str) -> object:
    """What is published: an event as an object, anything else as it is.

    Raises:
        ValueError: a field is called as something that every notification has.
    """
    if not _is_event(data):
        return data
    name, version = event_name(type(data))
    return {
        **event_fields(data),
        "event": name,
        "id": event_id,
        **({"version": version} if version > 1 else {}),
    }


def event_fields(event: Event) -> dict[str, Any]:
    """Its fields as JSON.

    Raises:
        ValueError: one is called as something that every notification has; or it is no event.
    """
    if not _is_event(event):
        raise ValueError(f"an event is a model, such as pydantic's, and no {type(event).__name__}")
    fields = event.model_dump(mode="json")
    if not isinstance(fields, dict):
        raise ValueError(f"an event has fields, and {type(event).__name__} is a single value")
    taken = RESERVED & fields.keys()
    if taken:
        raise ValueError(f"{type(event).__name__}.{min(taken)}: call the field something else")
    return fields


def to_notification(event: object, event_id: str) -> object:
    """The same of an event; a mapping is one if it says its name as `event`.

    Raises:
        ValueError: it is no event.
    """
    if _is_event(event):
        return to_data(event, event_id)
    if isinstance(event, Mapping) and isinstance(event.get("event"), str):
        return {"id": event_id, **event}
    raise ValueError("neither a model nor a mapping with its name as `event`")


def read_fields(model: type[R], fields: Mapping[str, Any]) -> R:
    """The event with these fields, as `event_fields` has written them.

    Raises:
        ValueError: it can't be read as one of that class, such as pydantic's `ValidationError`.
    """
    # They have their names there, which pydantic by default doesn't read where there is an alias.
    may_say = "by_name" in inspect.signature(model.model_validate).parameters
    either: dict[str, bool] = {"by_alias": True, "by_name": True} if may_say else {}
    return model.model_validate(fields, **either)


def _is_event(value: object) -> TypeGuard[Event]:
    """Whether it is a model. Its class is none."""
    return isinstance(value, Event) and not isinstance(value, type)
