"""The commands of the protocol, typed, and how they are read. Unknown members are ignored.

Source: centrifugal/protocol, client.proto and decode.go.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from hubbub_client.contracts.json_values import read_json

Offset = Annotated[int, Field(ge=0, lt=2**64)]
CommandId = Annotated[int, Field(ge=0, lt=2**32)]


class Request(BaseModel):
    """What a command asks; a member that is null counts as absent, of what it holds too."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


def _without_nulls(value: object) -> object:
    """Null in place of all of it is as empty as it can be."""
    if value is None:
        return {}
    if type(value) is dict and None in value.values():
        return {name: each for name, each in value.items() if each is not None}
    return value


_NoNulls = BeforeValidator(_without_nulls)
_Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]


class Position(Request):
    offset: Offset = 0
    epoch: str = ""


class HeldSubscription(Position):
    """A subscription on the server's side that the client still holds."""

    recover: bool = False

    def as_subscribe(self, channel: str) -> "Subscribe":
        return Subscribe(
            channel=channel, recover=self.recover, offset=self.offset, epoch=self.epoch
        )


class Connect(Request):
    token: str = ""
    data: Any = None
    subs: Mapping[str, Annotated[HeldSubscription, _NoNulls]] = Field(default_factory=dict)
    name: str = ""
    version: str = ""
    headers: Mapping[str, _Text] = Field(default_factory=dict)


class Subscribe(Position):
    channel: str = ""
    token: str = ""
    recover: bool = False
    data: Any = None
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    delta: str = ""
    tf: Mapping[str, Any] | None = None
    flag: int = 0
    type: int = 0

    @property
    def rejects_unrecovered(self) -> bool:
        return bool(self.flag & 2)


NOTHING_ASKED = Subscribe()


class Unsubscribe(Request):
    channel: str = ""


class Publish(Request):
    channel: str = ""
    data: Any = None


class Presence(Request):
    channel: str = ""


class PresenceStats(Request):
    channel: str = ""


class History(Request):
    channel: str = ""
    limit: int = 0
    since: Annotated[Position, _NoNulls] | None = None
    reverse: bool = False


class Rpc(Request):
    method: str = ""
    data: Any = None


class Send(Request):
    data: Any = None


class Refresh(Request):
    token: str = ""


class SubRefresh(Request):
    channel: str = ""
    token: str = ""


METHODS: Mapping[str, type[Request]] = {
    "connect": Connect,
    "subscribe": Subscribe,
    "unsubscribe": Unsubscribe,
    "publish": Publish,
    "presence": Presence,
    "presence_stats": PresenceStats,
    "history": History,
    "rpc": Rpc,
    "send": Send,
    "refresh": Refresh,
    "sub_refresh": SubRefresh,
}
"""In the order in which the first one counts."""

_VALIDATE: dict[str, Callable[[object], Request]] = {
    name: TypeAdapter(model).validator.validate_python for name, model in METHODS.items()
}
_ID = TypeAdapter(CommandId).validator.validate_python


class Command(NamedTuple):
    """One command of a message."""

    id: int
    """0 if it wants no reply."""
    method: str
    """Empty for a pong."""
    request: Request


PONG = Command(0, "", Request())


class BadCommand(ValueError):
    """The message is none of this protocol: the connection ends."""


def read_commands(message: str) -> Iterator[tuple[Command, str]]:
    """The commands of one message, each with its line; read one by one, as they are executed.

    Raises:
        BadCommand: there is none, or the next is none.
    """
    lines = message.removesuffix("\n").split("\n")
    for line in lines:
        yield _read(line), line


def read_connect(message: str) -> Command:
    """The bare request with which a unidirectional client begins.

    Raises:
        BadCommand: it is none.
    """
    try:
        values = read_json(message)
    except ValueError as error:
        raise BadCommand("not JSON") from error
    return _read_values({"id": 1, "connect": _without_nulls(values)})


def _read(line: str) -> Command:
    try:
        values = read_json(line)
    except ValueError as error:
        raise BadCommand("not JSON") from error
    if type(values) is not dict:
        raise BadCommand("not a JSON object")
    return _read_values(values)


def _read_values(values: dict[str, Any]) -> Command:
    method = next((name for name in METHODS if values.get(name) is not None), "")
    try:
        command_id = _ID(values.get("id") or 0, strict=True)
        if not method:
            return PONG if not command_id else Command(command_id, "", Request())
        asked = values[method]
        request = _VALIDATE[method](_without_nulls(asked))
    except ValidationError as error:
        raise BadCommand(f"{method}: not as the protocol has it") from error
    if not command_id and method != "send":
        raise BadCommand(f"{method}: without an id")
    return Command(command_id, method, request)
