"""The messages of `/ws/chat`, typed; their schemas are the published protocol."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from hubbub_client.contracts.ids import ChannelName, JsonUserId
from shared.tokens.access_tokens import MAX_TOKEN_BYTES

MIN_BODY_BYTES = 1
MAX_BODY_BYTES = 4096
MAX_ID_BYTES = 64

ERROR_CODES = (
    "bad_json", "unknown_type", "bad_body", "bad_id", "too_long", "rate_limited", "id_reused",
    "invalid_token", "forbidden", "unavailable", "refused",
)  # fmt: skip
"""Those of today; newer gateways may have more."""


def _size(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise PydanticCustomError("not_utf8", "half a surrogate pair has no UTF-8") from None


def _body_fits(body: str) -> str:
    if not body:
        raise PydanticCustomError("bad_body", "a body has at least one character")
    if _size(body) > MAX_BODY_BYTES:
        raise PydanticCustomError("too_long", f"a body has at most {MAX_BODY_BYTES} bytes of UTF-8")
    return body


def _id_fits(command_id: str) -> str:
    if not 1 <= _size(command_id) <= MAX_ID_BYTES:
        raise PydanticCustomError("bad_id", f"an id has 1 to {MAX_ID_BYTES} bytes of UTF-8")
    return command_id


CommandId = Annotated[
    str,
    AfterValidator(_id_fits),
    Field(json_schema_extra={"minLength": 1, "maxLength": MAX_ID_BYTES}),
]
Body = Annotated[
    str,
    AfterValidator(_body_fits),
    Field(json_schema_extra={"minLength": 1, "maxLength": MAX_BODY_BYTES}),
]


class Command(BaseModel):
    """What a tab asks for; unknown fields are ignored, so that newer clients work."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class PublishMessage(Command):
    """Say something in the room; with an ``id`` it is acknowledged, and stored once."""

    type: Literal["message"] = "message"
    id: CommandId | None = None
    """The sender's own, for safe retries; errors repeat it."""
    body: Body


class Ping(Command):
    """Ask for a `pong`."""

    type: Literal["ping"] = "ping"


class Authenticate(Command):
    """Show a token: as the first message, or later to prolong the connection."""

    type: Literal["auth"] = "auth"
    id: CommandId | None = None
    token: Annotated[str, Field(max_length=MAX_TOKEN_BYTES)]


class Person(BaseModel):
    """A user as others see them."""

    user_id: JsonUserId
    name: str


class Welcome(BaseModel):
    """The first message of a connection that was let in."""

    type: Literal["welcome"] = "welcome"
    user_id: JsonUserId
    name: str
    room: str
    count: int
    """Users of the room, over all gateways, this one included."""
    users: list[Person]
    """The first of them to come; in a crowd not all."""
    offset: int
    epoch: str


class Greeting(BaseModel):
    """The first message of a connection at `/ws/notifications`, which has no room."""

    type: Literal["welcome"] = "welcome"
    user_id: JsonUserId
    name: str
    offset: int
    epoch: str


class UserJoined(BaseModel):
    """A user came into the room, with a first tab."""

    type: Literal["user_joined"] = "user_joined"
    user_id: JsonUserId
    name: str
    count: int


class UserLeft(BaseModel):
    """A user left the room, with the last tab."""

    type: Literal["user_left"] = "user_left"
    user_id: JsonUserId
    name: str
    count: int


class UserCount(BaseModel):
    """In a crowd, instead of joined and left."""

    type: Literal["user_count"] = "user_count"
    count: int


class Users(BaseModel):
    """The names anew, when a crowd has shrunk or a connection was behind."""

    type: Literal["users"] = "users"
    users: list[Person]
    count: int


class Message(BaseModel):
    """What somebody said in the room."""

    type: Literal["message"] = "message"
    user_id: JsonUserId
    name: str
    body: str
    offset: int
    time: str
    """When it was stored, RFC 3339."""


class ServicePublication(BaseModel):
    """What a service published, into the room or, with ``channel``, into the personal channel."""

    type: Literal["publication"] = "publication"
    channel: ChannelName | None = None
    data: Any
    offset: int
    time: str
    """When it was stored, RFC 3339."""


class Notification(BaseModel):
    """An event for the user, with its own fields beside these."""

    model_config = ConfigDict(extra="allow")

    type: Literal["notification"] = "notification"
    event: str
    offset: int
    time: str
    """When it was stored, RFC 3339."""


class Ack(BaseModel):
    """The message with this ``id`` is stored."""

    type: Literal["ack"] = "ack"
    id: str
    offset: int


class Pong(BaseModel):
    """Where the stream stands for this connection: a fresh ``since``."""

    type: Literal["pong"] = "pong"
    offset: int


class Reset(BaseModel):
    """There is a hole here: what was missed can't be replayed."""

    type: Literal["reset"] = "reset"
    reason: str


class Error(BaseModel):
    """A command failed; the connection lives."""

    type: Literal["error"] = "error"
    code: Annotated[str, Field(examples=list(ERROR_CODES))]
    message: str
    id: str | None = None


COMMANDS: tuple[type[BaseModel], ...] = (PublishMessage, Ping, Authenticate)
PUSHES: tuple[type[BaseModel], ...] = (
    Welcome, UserJoined, UserLeft, UserCount, Users, Message, ServicePublication,
    Notification, Ack, Pong, Reset, Error,
)  # fmt: skip
NOTIFICATION_PUSHES: tuple[type[BaseModel], ...] = (
    Greeting, ServicePublication, Notification, Ack, Pong, Reset, Error,
)  # fmt: skip
"""At `/ws/notifications`."""
