"""Which handler is for which event, and what it is called with. Pure."""

import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, overload

from pydantic import ValidationError

from hubbub_client.contracts.envelope import Envelope, first_problem
from hubbub_client.contracts.subjects import event_subject, parse_service
from hubbub_client.events import Readable, event_name, read_fields

_ANY_SERVICE = "*"


E = TypeVar("E", bound=Readable)
EC = TypeVar("EC", bound=Readable, contravariant=True)


@dataclass(frozen=True, slots=True)
class Received:
    """What is known of an event beside its fields."""

    id: str
    """The same whenever it comes: note it, where handling an event twice would do harm."""
    service: str
    """That published it."""
    time: datetime
    traceparent: str | None
    """W3C trace context of what caused it."""
    deliveries: int
    """1 if it comes for the first time."""


class Handler(Protocol[EC]):
    """Handles an event. If it raises, the event comes again."""

    def __call__(self, event: EC, /) -> Awaitable[None]: ...


class HandlerOfAll(Protocol[EC]):
    """The same, and is told of the rest."""

    def __call__(self, event: EC, received: Received, /) -> Awaitable[None]: ...


class CannotHandle(Exception):
    """The event can't be read, or nobody here handles such ones. Another try changes nothing."""


class NoHandler(Exception):
    """Nobody here handles it; another process of the same name, of another version, may."""


class _Key(NamedTuple):
    service: str
    name: str
    version: int


class _Entry(NamedTuple):
    model: type[Readable]
    call: Callable[[Any, Received], Awaitable[None]]


class Handlers:
    """The handlers of a consumer, by the events that they are for."""

    def __init__(self) -> None:
        self._entries: dict[_Key, _Entry] = {}
        self._given_up: set[str] = set()

    def subjects(self, known: Iterable[str] = ()) -> list[str]:
        """The subjects of all events that somebody handles; none covers another.

        Args:
            known: What the consumer has so far. Other processes of it, of another version, may
                handle that, so it stays, unless it was given up.
        """
        kept = {subject for subject in known if not self._given_up & {subject, _of_any(subject)}}
        wanted = kept | {event_subject(key.service, key.name) for key in self._entries}
        return sorted(
            subject
            for subject in wanted
            if subject == _of_any(subject) or _of_any(subject) not in wanted
        )

    def give_up(self, model: type[Readable], service: str | None) -> None:
        """
        Raises:
            ValueError: no event or service is called so.
        """
        named = parse_service(service) if service else _ANY_SERVICE
        self._given_up.add(event_subject(named, event_name(model).name))

    def add(
        self, model: type[E], handler: Handler[E] | HandlerOfAll[E], service: str | None
    ) -> None:
        """
        Raises:
            ValueError: no event or service is called so, or there is a handler for it.
            TypeError: it can be called neither with the event alone nor with what is known of it.
        """
        key = _Key(parse_service(service) if service else _ANY_SERVICE, *event_name(model))
        if key in self._entries:
            raise ValueError(f"there is a handler for {model.__name__} already")
        self._entries[key] = _Entry(model, _with_both(handler))

    async def handle(self, payload: bytes, subject: str, *, deliveries: int) -> None:
        """Call the handler; what it raises is not caught.

        Raises:
            CannotHandle: the event can't be read.
            NoHandler: there is none for it.
        """
        service = subject.split(".")[1] if "." in subject else ""
        try:
            envelope = Envelope.read(payload)
        except ValueError as error:
            raise CannotHandle(f"no event: {error}") from error
        entry = self._entry_for(service, envelope)
        try:
            event = read_fields(entry.model, envelope.data)
        except ValidationError as error:
            # From None: its own text has what was sent.
            raise CannotHandle(f"no {entry.model.__name__}: {first_problem(error)}") from None
        received = Received(envelope.id, service, envelope.time, envelope.traceparent, deliveries)
        await entry.call(event, received)

    def _entry_for(self, service: str, envelope: Envelope) -> _Entry:
        for each in (service, _ANY_SERVICE):
            entry = self._entries.get(_Key(each, envelope.type, envelope.version))
            if entry is not None:
                return entry
        raise NoHandler(f"no handler for {envelope.type}, version {envelope.version}")


def _of_any(subject: str) -> str:
    """The subject of events of that name, of whatever service."""
    return event_subject(_ANY_SERVICE, subject.rpartition(".")[2])


class Register(Generic[E]):
    """Takes the handler of an event, and returns it as it is."""

    def __init__(self, handlers: Handlers, model: type[E], service: str | None) -> None:
        self._handlers = handlers
        self._model = model
        self._service = service

    @overload
    def __call__(self, handler: Handler[E], /) -> Handler[E]: ...
    @overload
    def __call__(self, handler: HandlerOfAll[E], /) -> HandlerOfAll[E]: ...
    def __call__(self, handler: Handler[E] | HandlerOfAll[E], /) -> Handler[E] | HandlerOfAll[E]:
        self._handlers.add(self._model, handler, self._service)
        return handler


def _with_both(handler: Any) -> Callable[[Any, Received], Awaitable[None]]:
    """The handler as one that is told of all.

    Raises:
        TypeError: it can be called neither way.
    """
    functions = (handler, type(handler).__call__) if callable(handler) else ()
    if not any(map(inspect.iscoroutinefunction, functions)):
        raise TypeError(f"a handler is an async function: {handler!r}")
    signature = inspect.signature(handler)
    for arguments, call in (
        (("event",), lambda event, _received: handler(event)),
        (("event", "received"), handler),
    ):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return call
    raise TypeError(f"a handler takes an event, or an event and Received: {handler!r}")
