"""What the commands of the API take. Members that are unknown are ignored, null ones are absent."""

import base64
import binascii
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.channels.namespaces import Namespaces
from gateway.channels.options import Namespace
from gateway.errors import Refusal
from gateway.protocols.centrifuge.commands import Position
from gateway.server_api.errors import CODE_OF_REFUSAL, Answer, ApiError, ApiErrorCode
from hubbub_client.contracts.channels import BadChannelName, parse_channel
from hubbub_client.contracts.ids import ANONYMOUS, BadUserId, ChannelName, UserId, parse_user_id
from hubbub_client.contracts.json_values import read_json
from shared.tokens.claims import Grant, read_grant
from shared.tokens.errors import InvalidToken

UnixSeconds = Annotated[int, Field(ge=0, lt=2**53)]
"""Or 0, which is none."""


class ApiRequest(BaseModel):
    """The body of a command."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class Publishable(ApiRequest):
    """What to publish."""

    data: Any = None
    """Any JSON value."""
    b64data: str = ""
    """JSON in base64, taken instead of ``data``; the API's clients send both."""
    idempotency_key: str = ""
    """For 5 minutes, a channel gets one publication with the same key."""
    tags: dict[str, str] | None = None
    """What subscribers may filter by."""
    delta: bool = False
    """Whether subscribers who asked for that are sent a patch, of the publication before it."""
    skip_history: bool = False
    """Whether it is for those alone who are there, and is not stored."""
    version: int = 0

    def to_data(self) -> Any:
        """What to publish.

        Raises:
            ApiError: there is no data, or the request asks for what we don't have.
        """
        if self.version:
            raise ApiError(ApiErrorCode.NOT_AVAILABLE, "version")
        if self.b64data:
            return _from_base64(self.b64data)
        if "data" not in self.model_fields_set:
            raise ApiError(ApiErrorCode.BAD_REQUEST, "data: Field required")
        return self.data


class PublishRequest(Publishable):
    channel: str


class BroadcastRequest(Publishable):
    channels: list[str] = Field(min_length=1)


class ChannelRequest(ApiRequest):
    channel: str


class HistoryRequest(ChannelRequest):
    limit: int = 0
    """0 for the position alone, -1 for all that one page holds."""
    since: Position | None = None
    reverse: bool = False


class UserRequest(ApiRequest):
    """Whose connections: all of a user, or the one that is named beside."""

    user: str
    """Empty for those of nobody in particular."""
    client: str = ""
    session: str = ""

    @property
    def user_id(self) -> UserId:
        """
        Raises:
            ApiError: nobody can be called so.
        """
        if not self.user:
            return ANONYMOUS
        try:
            return parse_user_id(self.user)
        except BadUserId as error:
            raise ApiError(ApiErrorCode.BAD_REQUEST, f"user: {error}") from error

    @property
    def whose(self) -> Answer:
        return {"user": self.user_id, "client": self.client, "session": self.session}


class SubscribeRequest(UserRequest):
    channel: str
    info: Any = None
    """Shown to others in the channel as the subscriber's `chan_info`."""
    b64info: str = ""
    data: Any = None
    """For the subscriber alone."""
    b64data: str = ""
    expire_at: UnixSeconds = 0
    """0 for never."""
    recover_since: Position | None = None
    """After this position, what was published comes too."""
    override: dict[str, Any] | None = None
    """Options of the channel for this subscription, such as `{"presence": {"value": false}}`."""

    @property
    def grant(self) -> Answer:
        return self.model_dump(
            include={"info", "b64info", "data", "b64data", "override"}, exclude_none=True
        )

    def check_grant(self) -> Grant:
        """
        Raises:
            ApiError: it is not readable.
        """
        try:
            return read_grant(self.grant)
        except InvalidToken as error:
            raise ApiError(ApiErrorCode.BAD_REQUEST, _of_a_request(error)) from error


class UnsubscribeRequest(UserRequest):
    channel: str


class How(ApiRequest):
    """How a connection is ended."""

    code: int = 0
    reason: str = ""


class DisconnectRequest(UserRequest):
    whitelist: list[str] = Field(default_factory=list)
    """Clients that stay."""
    disconnect: How = How()
    code: int = 0
    reason: str = ""


class RefreshRequest(UserRequest):
    expired: bool = False
    """Whether the connections end, as expired."""
    expire_at: UnixSeconds = 0
    """0 leaves it as it is."""
    info: Any = None
    """Shown to others from now on as the `conn_info`."""
    b64info: str = ""


class ChannelsRequest(ApiRequest):
    pattern: str = ""
    """A glob; empty for all."""


class InfoRequest(ApiRequest):
    pass


class RpcRequest(ApiRequest):
    method: str
    params: Any = None


class BatchRequest(ApiRequest):
    commands: list[dict[str, Any]]
    """Each is an object with one member: a method and what it takes."""
    parallel: bool = False


R = TypeVar("R", bound=ApiRequest)


def parse(model: type[R], body: Any) -> R:
    """
    Raises:
        ApiError: it is no such request.
    """
    if type(body) is dict and None in body.values():
        body = {name: value for name, value in body.items() if name == "data" or value is not None}
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise ApiError(ApiErrorCode.BAD_REQUEST, f"{where}: {first['msg']}") from error


def channel_named(name: str) -> ChannelName:
    """
    Raises:
        ApiError: no channel can be called so.
    """
    try:
        return parse_channel(name)
    except BadChannelName as error:
        raise ApiError(ApiErrorCode.BAD_REQUEST, f"channel: {error}") from error


def options_of(namespaces: Namespaces, channel: ChannelName) -> Namespace:
    """
    Raises:
        ApiError: there is no such channel.
    """
    options = namespaces.find(channel)
    if isinstance(options, Refusal):
        raise ApiError(CODE_OF_REFUSAL[options])
    return options


def _from_base64(text: str) -> Any:
    try:
        return read_json(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise ApiError(ApiErrorCode.BAD_REQUEST, "b64data: not JSON in base64") from error


def _of_a_request(error: InvalidToken) -> str:
    return str(error).removeprefix("the token's ")
