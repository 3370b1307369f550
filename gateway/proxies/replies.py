"""What the application answers, read and checked. Pure.

The bodies are those of Centrifugo's HTTP proxy, so that what was written for it works here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from gateway.errors import MAX_REASON_BYTES, is_close_reason
from gateway.proxies.errors import ApplicationDisconnects, ApplicationRefuses
from hubbub_client.contracts.ids import ANONYMOUS, BadUserId, UserId, user_id_from_json
from hubbub_client.contracts.json_values import RawJson
from shared.tokens.claims import (
    NEVER,
    Claims,
    Grant,
    read_channels,
    read_end,
    read_grant,
    read_raw,
    shown_name,
)
from shared.tokens.errors import InvalidToken


class BadReply(ValueError):
    """It is not what the application is to answer."""


def _is_reason(reason: str) -> str:
    """With none at all, SDKs come back whatever the code."""
    if not reason or not is_close_reason(reason):
        raise ValueError(f"not a text of 1 to {MAX_REASON_BYTES} bytes, or JSON")
    return reason


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class _Error(_Part):
    code: Annotated[int, Field(ge=100, lt=2**32)]
    """Lower ones are the SDKs' own."""
    message: str = ""
    temporary: bool = False


class _Disconnect(_Part):
    code: Annotated[int, Field(ge=3000, lt=5000)]
    reason: Annotated[str, AfterValidator(_is_reason)] = "disconnected by the application"


class _Reply(_Part):
    result: dict[str, Any] | None = None
    error: _Error | None = None
    disconnect: _Disconnect | None = None


def read_reply(payload: bytes) -> Mapping[str, Any] | None:
    """The result; None if there is none.

    Raises:
        BadReply: it is no reply.
        ApplicationRefuses, ApplicationDisconnects: it says so.
    """
    try:
        reply = _Reply.model_validate(from_json(payload, allow_inf_nan=False))
    except ValidationError as error:
        raise BadReply(_first_of(error)) from None
    except ValueError:
        raise BadReply("not JSON") from None
    if reply.disconnect is not None:
        raise ApplicationDisconnects(reply.disconnect.code, reply.disconnect.reason)
    if reply.error is not None:
        error_code, message = reply.error.code, reply.error.message
        raise ApplicationRefuses(error_code, message, temporary=reply.error.temporary)
    return reply.result


@dataclass(frozen=True, slots=True)
class Admission:
    """Who the application says that somebody is."""

    claims: Claims
    data: RawJson | None
    """For the client, with the answer."""


def read_admission(result: Mapping[str, Any], asked_at: float) -> Admission:
    """
    Args:
        asked_at: From then on it counts, in unix seconds: what was revoked later covers it.

    Raises:
        BadReply: it does not say who.
    """
    if "user" not in result:
        raise BadReply("result.user: there is none")
    try:
        user_id = ANONYMOUS if result["user"] == "" else user_id_from_json(result["user"])
        return Admission(
            Claims(
                user_id=user_id,
                name=_name_of(user_id),
                session_id=None,
                issued_at=asked_at,
                expires_at=read_end(result, NEVER),
                info=read_raw(result, "info"),
                channels=read_channels(result),
                meta=read_raw(result, "meta"),
            ),
            data=read_raw(result, "data"),
        )
    except BadUserId:
        raise BadReply("result.user: not a user id") from None
    except InvalidToken as error:
        raise _bad_result(error) from None


def _name_of(user_id: UserId) -> str:
    return shown_name(f"User {user_id}") if user_id else ""


def read_data(result: Mapping[str, Any]) -> RawJson | None:
    """What is for the client.

    Raises:
        BadReply: not every client could read it.
    """
    try:
        return read_raw(result, "data")
    except InvalidToken as error:
        raise _bad_result(error) from None


@dataclass(frozen=True, slots=True)
class Stay:
    """For how much longer somebody may be here, and as whom."""

    expires_at: float
    info: RawJson | None
    """None leaves it as it was; here and below."""
    meta: RawJson | None


def read_stay(result: Mapping[str, Any], now: float) -> Stay | None:
    """None if the time is over.

    Raises:
        BadReply: it is not readable.
    """
    expired = result.get("expired")
    if not isinstance(expired, bool | None):
        raise BadReply("result.expired: neither true nor false")
    try:
        stay = Stay(read_end(result, NEVER), read_raw(result, "info"), read_raw(result, "meta"))
    except InvalidToken as error:
        raise _bad_result(error) from None
    return None if expired or stay.expires_at <= now else stay


@dataclass(frozen=True, slots=True)
class Permission:
    """To subscribe to a channel."""

    grant: Grant
    expires_at: float


def read_permission(result: Mapping[str, Any]) -> Permission:
    """
    Raises:
        BadReply: it is not readable.
    """
    try:
        return Permission(read_grant(result), read_end(result, NEVER))
    except InvalidToken as error:
        raise _bad_result(error) from None


class Approved(_Part):
    """What may be published, as the application has it."""

    skip_history: bool = False
    tags: dict[str, str] | None = None
    delta: bool = False
    idempotency_key: str = ""
    version: int = 0
    data: Any = None
    """None leaves what the client said."""


def read_approved(result: Mapping[str, Any]) -> Approved:
    """
    Raises:
        BadReply: it is not readable.
    """
    data = read_data(result)
    values = {name: value for name, value in result.items() if value is not None}
    try:
        approved = Approved.model_validate(values)
    except ValidationError as error:
        raise BadReply(f"result.{_first_of(error)}") from None
    return approved.model_copy(update={"data": None if data is None else from_json(data)})


def _bad_result(error: InvalidToken) -> BadReply:
    """Of what is read as it is in a token."""
    reason = str(error).removeprefix("the token's ")
    return BadReply(f"result: {reason}")


def _first_of(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the body"
    return f"{where}: {first['msg']}"
