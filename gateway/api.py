"""The server API: backend services publish over HTTP, with a key.

Its form is that of the Centrifugo server API: 200 with a ``result`` or an ``error`` of a
numeric code; only what is no request at all is answered by an HTTP status.
Source: https://centrifugal.dev/docs/server/server_api
"""

import hmac
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from enum import IntEnum
from typing import Annotated, Any

import pydantic_core
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.streams.publishing import ChannelPublisher, IdReused
from shared.channels import BadChannelName, parse_channel
from shared.errors import AppError, ErrorKind
from shared.ids import ChannelName

MAX_KEY_CHARACTERS = 256


class ApiCode(IntEnum):
    """The numbers of the API's errors; 100 alone may be tried again."""

    INTERNAL = 100
    UNKNOWN_CHANNEL = 102
    NOT_FOUND = 104
    BAD_REQUEST = 107
    NOT_AVAILABLE = 108
    CONFLICT = 113


class ApiError(Exception):
    """What the API answers in place of a result."""

    def __init__(self, code: ApiCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class PublishRequest(BaseModel):
    """What `publish` takes; fields that we don't know may change its meaning, so none may come."""

    model_config = ConfigDict(extra="forbid", strict=True)

    channel: str
    data: Any = Field()
    idempotency_key: Annotated[str, Field(max_length=MAX_KEY_CHARACTERS)] = ""
    """In this channel the same key is stored once, for as long as ids are remembered."""


class ServerApi:
    """The methods of the API, behind its key."""

    def __init__(
        self,
        publisher: ChannelPublisher,
        *,
        key: str,
        is_known: Callable[[ChannelName], bool],
        epoch: Callable[[], str],
        timed: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        """
        Args:
            is_known: Whether the channel's namespace is configured.
            epoch: Of the stream that the offsets are in.
            timed: Entered for as long as one publication takes.
        """
        self._publisher = publisher
        self._key = key.encode()
        self._is_known = is_known
        self._epoch = epoch
        self._timed = timed
        self._methods = {"publish": self._publish}

    def admits(self, request: Request) -> bool:
        """Whether the request bears the key, in one of its three places."""
        scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
        given = (
            request.headers.get("X-API-Key")
            or (credentials if scheme.lower() == "apikey" else "")
            or request.query_params.get("api_key", "")
        )
        return hmac.compare_digest(given.encode(errors="replace"), self._key)

    async def call(self, method: str, parameters: Any) -> dict[str, Any]:
        """Call one method; return its result.

        Raises:
            ApiError: unknown, not to be understood, refused, or not possible now.
        """
        if method not in self._methods:
            raise ApiError(ApiCode.NOT_FOUND, "not found")
        return await self._methods[method](parameters)

    async def _publish(self, parameters: Any) -> dict[str, Any]:
        try:
            asked = PublishRequest.model_validate(parameters)
            channel = parse_channel(asked.channel)
        except ValidationError as error:
            raise _bad_request(error) from error
        except BadChannelName as error:
            raise ApiError(ApiCode.BAD_REQUEST, f"bad request: channel: {error}") from error
        if not self._is_known(channel):
            raise ApiError(ApiCode.UNKNOWN_CHANNEL, "unknown channel")
        try:
            with self._timed():
                offset = await self._publisher.publish_by_service(
                    channel, asked.data, key=asked.idempotency_key or None
                )
        except IdReused as error:
            raise ApiError(ApiCode.CONFLICT, f"conflict: {error}") from error
        except AppError as error:
            if error.kind is ErrorKind.UNAVAILABLE:
                raise ApiError(ApiCode.INTERNAL, "internal server error: try again") from error
            raise ApiError(ApiCode.BAD_REQUEST, f"bad request: {error}") from error
        return {"offset": offset, "epoch": self._epoch()}


def create_api_router(api: ServerApi) -> APIRouter:
    """``POST /api/{method}``."""
    router = APIRouter(tags=["server API"])

    @router.post("/api/{method}")
    async def call(method: str, request: Request) -> Response:
        if not api.admits(request):
            return Response(status_code=401)
        try:
            parameters = pydantic_core.from_json(await request.body(), allow_inf_nan=False)
        except ValueError:
            return PlainTextResponse("the body is not JSON", status_code=400)
        try:
            return JSONResponse({"result": await api.call(method, parameters)})
        except ApiError as error:
            return JSONResponse({"error": {"code": error.code, "message": str(error)}})

    return router


def _bad_request(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "body"
    if first["type"] == "extra_forbidden":
        return ApiError(ApiCode.NOT_AVAILABLE, f"not available: {where!a}")
    return ApiError(ApiCode.BAD_REQUEST, f"bad request: {where!a}: {first['msg']}")
