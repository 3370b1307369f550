"""The server API over HTTP, with which backend services publish without a connection to the bus.

Requests and answers are those of Centrifugo's server API, so that its clients work. A command is
answered with 200 and a ``result`` or an ``error``; a request without a valid command or key gets
another status.
"""

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from gateway.errors import Refusal
from gateway.streams.publishing import ChannelPublisher
from shared.contracts.channels import BadChannelName, parse_channel
from shared.contracts.errors import AppError, ErrorKind
from shared.contracts.ids import ChannelName
from shared.contracts.json_values import read_json
from shared.contracts.publications import Publication


class ApiErrorCode(Enum):
    """Why a command failed: the codes and messages of Centrifugo's server API."""

    INTERNAL = (100, "internal server error")
    """Also if the same command may succeed later."""
    UNKNOWN_CHANNEL = (102, "unknown channel")
    NOT_FOUND = (104, "not found")
    BAD_REQUEST = (107, "bad request")
    NOT_AVAILABLE = (108, "not available")
    CONFLICT = (113, "conflict")


class ApiError(Exception):
    """A command that is answered with an error."""

    def __init__(self, code: ApiErrorCode, detail: str = "") -> None:
        number, message = code.value
        self.answer = {"code": number, "message": f"{message}: {detail}" if detail else message}
        super().__init__(self.answer["message"])


CODE_OF_KIND: dict[ErrorKind, ApiErrorCode] = {
    ErrorKind.UNAUTHENTICATED: ApiErrorCode.BAD_REQUEST,
    ErrorKind.FORBIDDEN: ApiErrorCode.BAD_REQUEST,
    ErrorKind.NOT_FOUND: ApiErrorCode.NOT_FOUND,
    ErrorKind.CONFLICT: ApiErrorCode.CONFLICT,
    ErrorKind.INVALID: ApiErrorCode.BAD_REQUEST,
    ErrorKind.THROTTLED: ApiErrorCode.INTERNAL,
    ErrorKind.UNAVAILABLE: ApiErrorCode.INTERNAL,
}


CODE_OF_REFUSAL: dict[Refusal, ApiErrorCode] = {
    Refusal.UNKNOWN_CHANNEL: ApiErrorCode.UNKNOWN_CHANNEL,
    Refusal.PERMISSION_DENIED: ApiErrorCode.BAD_REQUEST,
    Refusal.NOT_AVAILABLE: ApiErrorCode.NOT_AVAILABLE,
    Refusal.BAD_REQUEST: ApiErrorCode.BAD_REQUEST,
}


class PublishRequest(BaseModel):
    """``POST /api/publish``. Other fields are ignored, as none would change what is published."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    channel: str
    data: Any = None
    """Any JSON value."""
    b64data: str = ""
    """JSON in base64, taken instead of ``data``; the API's clients send both."""
    idempotency_key: str = ""
    """For 5 minutes, the channel gets one publication with the same key."""
    skip_history: bool = False
    tags: dict[str, str] | None = None
    version: int = 0

    def to_data(self) -> Any:
        """What to publish.

        Raises:
            ApiError: there is no data, or the request asks for what we don't have.
        """
        refused = {
            "skip_history": self.skip_history,
            "tags": bool(self.tags),
            "version": self.version != 0,
        }
        if any(refused.values()):
            names = ", ".join(name for name, is_set in refused.items() if is_set)
            raise ApiError(ApiErrorCode.NOT_AVAILABLE, names)
        if self.b64data:
            return _from_base64(self.b64data)
        if "data" not in self.model_fields_set:
            raise ApiError(ApiErrorCode.BAD_REQUEST, "data: Field required")
        return self.data


class Api:
    """The commands of the API. Every caller with the key may use all of them."""

    def __init__(
        self,
        publisher: ChannelPublisher,
        *,
        why_not_take: Callable[[ChannelName, Any], Refusal | None],
        epoch: Callable[[], str],
    ) -> None:
        """
        Args:
            why_not_take: Returns why there is no such channel, or why it takes no such data.
            epoch: Returns the stream's epoch; empty until it is known.
        """
        self._publisher = publisher
        self._why_not_take = why_not_take
        self._epoch = epoch
        self.commands: Mapping[str, Callable[[Any], Awaitable[dict[str, Any]]]] = {
            "publish": self.publish
        }

    async def call(self, method: str, body: Any) -> dict[str, Any]:
        """Run a command; return an answer with a ``result`` or an ``error``."""
        try:
            command = self.commands.get(method)
            if command is None:
                raise ApiError(ApiErrorCode.NOT_FOUND)
            return {"result": await command(body)}
        except ApiError as error:
            return {"error": error.answer}
        except AppError as error:
            detail = "" if error.kind is ErrorKind.UNAVAILABLE else str(error)
            return {"error": ApiError(CODE_OF_KIND[error.kind], detail).answer}

    async def publish(self, body: Any) -> dict[str, Any]:
        """Publish into a channel.

        Raises:
            ApiError, AppError: it was not published, or nobody knows whether it was.
        """
        request = _parse(body)
        data = request.to_data()
        try:
            channel = parse_channel(request.channel)
        except BadChannelName as error:
            raise ApiError(ApiErrorCode.BAD_REQUEST, f"channel: {error}") from error
        refusal = self._why_not_take(channel, data)
        if refusal is not None:
            raise ApiError(CODE_OF_REFUSAL[refusal])
        epoch = self._epoch()
        if not epoch:  # checked before publishing, since after it an error would be wrong
            raise ApiError(ApiErrorCode.INTERNAL)
        offset = await self._publisher.publish_by_service(
            channel, Publication(data), key=request.idempotency_key or None
        )
        return {"offset": offset, "epoch": epoch}


def create_api_router(api: Api, *, api_key: SecretStr | None) -> APIRouter:
    """The routes below ``/api``. If no key is configured, they answer 404."""
    router = APIRouter(tags=["server API"])

    @router.post(
        "/api/{method}",
        openapi_extra={
            "requestBody": {
                "content": {"application/json": {"schema": PublishRequest.model_json_schema()}}
            }
        },
    )
    async def call(method: str, request: Request) -> Response:
        if api_key is None:
            raise HTTPException(404, "Not Found")
        if not _has_key(request, api_key):
            return Response(status_code=401)
        try:
            body = read_json(await request.body())
        except ValueError:
            return PlainTextResponse("the body is not JSON", status_code=400)
        return JSONResponse(await api.call(method, body))

    return router


def _has_key(request: Request, api_key: SecretStr) -> bool:
    """Whether one of the three places has the key, compared in constant time."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    offered = [
        request.headers.get("x-api-key", ""),
        credentials.strip() if scheme.lower() == "apikey" else "",
        request.query_params.get("api_key", ""),
    ]
    expected = api_key.get_secret_value().encode()
    # All are compared, so that the time says nothing; as bytes, since a header may hold any.
    matches = [
        hmac.compare_digest(each.encode(errors="surrogatepass"), expected) for each in offered
    ]
    return bool(expected) and any(matches)


def _parse(body: Any) -> PublishRequest:
    try:
        return PublishRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise ApiError(ApiErrorCode.BAD_REQUEST, f"{where}: {first['msg']}") from error


def _from_base64(text: str) -> Any:
    try:
        return read_json(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise ApiError(ApiErrorCode.BAD_REQUEST, "b64data: not JSON in base64") from error
