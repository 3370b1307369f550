"""`/ws/chat` in plain JSON: text to commands, publications and answers to WebSocket frames."""

from collections.abc import Callable, Iterable
from typing import Any

import pydantic_core
from pydantic import BaseModel, TypeAdapter, ValidationError

from gateway.channels.connection import Format
from gateway.protocols.chat.frames import (
    MAX_BODY_BYTES,
    MIN_BODY_BYTES,
    Authenticate,
    CommandId,
    Ping,
    PublishMessage,
)
from gateway.transport.deflate import deflated_text_frame
from gateway.transport.frames import Frame, text_frame
from hubbub_client.contracts.channels import owner_of
from hubbub_client.contracts.ids import UserId, user_id_to_json
from hubbub_client.contracts.json_values import read_json
from hubbub_client.contracts.publications import Publication, StoredPublication, plain_message

ChatCommand = PublishMessage | Ping | Authenticate

_VALIDATE: dict[str, Callable[[object], ChatCommand]] = {
    "message": TypeAdapter(PublishMessage).validator.validate_python,
    "ping": TypeAdapter(Ping).validator.validate_python,
    "auth": TypeAdapter(Authenticate).validator.validate_python,
}
"""Less the wrapping of `model_validate`, which would cost half as much again."""
_NOT_JSON = object()
_COMMAND_ID: TypeAdapter[str] = TypeAdapter(CommandId)
CODE_OF_FIELD = {"body": "bad_body", "id": "bad_id", "token": "invalid_token"}


class BadCommand(ValueError):
    """The text is no command: answered with an `error` of this code, and the connection lives."""

    def __init__(self, code: str, message: str, command_id: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.command_id = command_id


def decode_command(text: str) -> ChatCommand:
    """Read one command from one WebSocket message.

    Raises:
        BadCommand: whatever else the text is. (Too long never gets here: the engine closes.)
    """
    try:
        values = read_json(text)
    except ValueError:
        values = _NOT_JSON
    # No `BadCommand` is raised from another error: it may have to wait, and would keep the text.
    if values is _NOT_JSON:
        raise BadCommand("bad_json", "not JSON")
    if not isinstance(values, dict):
        raise BadCommand("bad_json", "not a JSON object")
    kind = values.get("type")
    validate = _VALIDATE.get(kind) if isinstance(kind, str) else None
    if validate is None:
        raise BadCommand("unknown_type", "no such type of message", _valid_id(values))
    try:
        return validate(values)
    except ValidationError as error:
        bad = _explain(error, values)
    raise bad


def too_fast(command: ChatCommand | BadCommand) -> BadCommand:
    """What a command becomes that came too soon after the others."""
    command_id = None
    if isinstance(command, BadCommand):
        command_id = command.command_id
    elif not isinstance(command, Ping):
        command_id = command.id
    return BadCommand("rate_limited", "too many commands: try again, more slowly", command_id)


def encode(message: BaseModel) -> Frame:
    """The frame of any message that isn't a publication; what is None is left out."""
    return text_frame(pydantic_core.to_json(message, exclude_none=True))


def encode_ack(command_id: str, offset: int) -> Frame:
    """An `Ack`, without the model: every message that is published gets one."""
    return text_frame(pydantic_core.to_json({"type": "ack", "id": command_id, "offset": offset}))


def encode_people(people: Iterable[tuple[UserId, str]]) -> bytes:
    """The users of a room as `encode_welcome` takes them; one encoding does for many."""
    return pydantic_core.to_json(
        [{"user_id": user_id_to_json(user_id), "name": name} for user_id, name in people]
    )


def encode_welcome(
    *, user_id: UserId, name: str, room: str, count: int, users: bytes, offset: int, epoch: str
) -> Frame:
    """A `Welcome`, whose users are encoded already: in a storm of arrivals they hardly change."""
    head = {"type": "welcome", "user_id": user_id_to_json(user_id), "name": name}
    head |= {"room": room, "count": count}
    tail = {"offset": offset, "epoch": epoch}
    return text_frame(
        b'%b,"users":%b,%b'
        % (pydantic_core.to_json(head)[:-1], users, pydantic_core.to_json(tail)[1:])
    )


def encode_publication(stored: StoredPublication) -> Frame:
    """A stored publication, as the room's listeners or the owner of the personal channel see it.

    Raises:
        BadPublication: not everybody could read it.
    """
    return text_frame(_publication_text(stored))


def encode_deflated_publication(stored: StoredPublication) -> Frame:
    """The same, for connections that read what is compressed."""
    return deflated_text_frame(_publication_text(stored))


def _of_stored(encode: Callable[[StoredPublication], Frame]) -> Format:
    """A tab is sent nothing ephemeral: all that it knows has an offset."""
    return lambda publication: encode(publication) if publication.offset else None


PUBLICATION_FORMATS = (_of_stored(encode_publication), _of_stored(encode_deflated_publication))
"""By which a tab may listen: by the second if its connection deflates."""


def _publication_text(stored: StoredPublication) -> bytes:
    """Nearly all that is said in rooms is plain text, and is not even read as JSON."""
    offset, channel, payload, time = stored
    is_personal = owner_of(channel) is not None
    plain = None if is_personal else plain_message(payload)
    if plain is not None and MIN_BODY_BYTES <= len(plain.body) - len('""') <= MAX_BODY_BYTES:
        return b'{"type":"message","user_id":%b,"name":%b,"body":%b,"offset":%d,"time":"%b"}' % (
            plain.user_id, plain.name, plain.body, offset, time.encode(),
        )  # fmt: skip
    publication = Publication.decode(payload)
    data, sender = publication.data, publication.sender
    message: dict[str, Any]
    if is_personal and isinstance(data, dict) and isinstance(data.get("event"), str):
        message = {**data, "type": "notification"}
    elif is_personal:
        message = {"type": "publication", "channel": channel, "data": data}
    elif sender is not None and isinstance(data, dict) and _is_body(data.get("body")):
        message = {"type": "message", "user_id": user_id_to_json(sender.user_id)}
        message |= {"name": sender.name, "body": data["body"]}
    else:
        message = {"type": "publication", "data": data}
    message["offset"] = offset
    message["time"] = time
    return pydantic_core.to_json(message)


def _is_body(value: object) -> bool:
    """Whether a tab could have said it: an SDK may publish anything in a room."""
    return isinstance(value, str) and MIN_BODY_BYTES <= len(value.encode()) <= MAX_BODY_BYTES


def _explain(error: ValidationError, values: dict[Any, Any]) -> BadCommand:
    first = error.errors(include_url=False, include_input=False)[0]
    field = str(first["loc"][0])
    code = "too_long" if first["type"] == "too_long" else CODE_OF_FIELD[field]
    return BadCommand(code, f"{field}: {first['msg']}", _valid_id(values))


def _valid_id(values: dict[Any, Any]) -> str | None:
    try:
        return _COMMAND_ID.validate_python(values.get("id"), strict=True)
    except ValidationError:
        return None
